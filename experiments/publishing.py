"""Published weights: of a run, with a model card; and imported from other people's checkpoints."""

import dataclasses
import hashlib
import json
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from .. import tasks, zoo
from ..common.errors import UsageError
from ..common.files import write_output
from ..datasets import table
from ..reports import cards
from ..tasks.base import EvaluationRequest
from ..zoo import registry
from ..zoo import weights as door
from . import run_directory
from .config import RunConfig, typed
from .evaluation import as_reference, public
from .models import open_run

CARDS = Path(__file__).parents[1] / "docs" / "weights"
README = "README.md"  # the card of a folder, for the Hugging Face hub
IMPORTED = "imported"  # default folder of imported weights
PRIVATE = ("--run_dir", "--output", "--data_dir", "--inception")  # flags with the user's own paths


@dataclass(frozen=True)
class Published:
    """What publish wrote: name of the model, tag, registry.Weights entry, path of the card."""

    name: str
    tag: str
    entry: object
    card: Path


def publish(
    run_dir,
    tag,
    *,
    output=None,
    direction=None,
    settings=None,
    data_dir=None,
    metrics=None,
    extractor=None,
    inception=None,
    split=None,
    num=None,
    seed=0,
    progress=False,
):
    """Publishes a run's averaged weights under a tag, with a model card; returns Published.

    The weights are those of the best checkpoint by the run's own metrics, or the newest one. They
    are rounded to float16 where their probe allows it, and scored as they are stored. output: a
    folder for weights, manifest and card, with a README.md that the Hugging Face hub takes as the
    card of the folder; None: the zoo's own, with the card in docs/weights, which has no picture if
    the data set shows people (datasets.table.shows_people).
    direction: of a translator (default: a2b). settings: as of `models.load`; what is published has
    them. A tag that is taken raises WeightsError.
    """
    check_tag(tag)
    folder = Path(run_dir)
    record = run_directory.read_record(folder)
    config, start = RunConfig.from_record(record["config"]), record["starts"][-1]
    spec = zoo.get(config.model)
    task = tasks.get(spec.kind)
    door.check_tag_free(spec.name, tag, output)  # known now, not after the work
    if output:
        check_readme(output)
        manifest_rows(output)
    model = open_run(run_directory.best_checkpoint(folder) or folder, direction, settings)
    key = spec.publish or model.key
    if key not in model.networks:
        raise UsageError(f"with these options {spec.name} has no {key} to publish")
    network = model.networks[key]
    door.round_to_float16(network)  # what is measured is what is stored
    request = EvaluationRequest(metrics, num, extractor, inception, split, seed, progress)
    data = as_reference(config.dataset, config.image_size, data_dir)
    card = task.card(model, data, request)
    classes = model.options.get("classes")  # none of a generator or a translator
    names = data.class_names if classes else ()
    if not output and table.shows_people(public(config.dataset)):
        card = dataclasses.replace(card, picture=None)
    about = {
        "network": key,
        "options": without_start(model.options),
        "dataset": public(config.dataset),
        "scores": card.scores,
        "origin": {
            "command": shlex.join(["python", "main.py", *public_command(start["command"])]),
            "data": record["config"]["data"],
            "steps": model.origin.step,
            "of_steps": config.steps,
            "seed": config.seed,
            "commit": start["versions"].get("commit"),
            **({"run": folder.name} if "--mode=study" in start["command"] else {}),
            **({"classes": list(names)} if len(names) == classes else {}),
            **card.measured,
        },
        "license": "Apache-2.0",
    }
    entry = saved(spec.name, tag, network, about, output)
    place, weights = Path(output or CARDS), f"{output}/{tag}" if output else tag
    picture = f"{spec.name}-{tag}.png" if card.picture else None

    def text(weights):
        commands = []
        if card.command:
            command = card.command.format(model=spec.name, weights=weights)
            commands.append(f"python main.py {command}")
        return cards.card(spec, tag, weights, entry, picture, card.caption, commands)

    path = place / f"{spec.name}-{tag}.md"
    write_output(path, text(weights))
    if picture:
        write_output(place / picture, card.picture)
    if output:
        rows = manifest_rows(place)
        names = [f"{name}-{tag}.md" for name, tag, *_ in rows]
        others = [name for name in names if name != path.name and (place / name).exists()]
        hub = cards.hub_card(text(f"{cards.HUB_PLACE}/{tag}"), rows, others)
        write_output(place / README, hub)
    return Published(spec.name, tag, entry, path)


def saved(*values, **options):
    """`zoo.weights.save`, with UsageError in place of OSError."""
    try:
        return door.save(*values, **options)
    except OSError as error:
        raise UsageError(f"cannot write the weights ({error}): give another --output") from None


def check_readme(folder):
    """Raises UsageError if the README.md of a folder is not one that publish wrote."""
    path = Path(folder) / README
    head = path.read_text(errors="replace").partition("\n---\n")[0] if path.exists() else ""
    if path.exists() and f"\n- {cards.HUB_TAG}\n" not in head:
        raise UsageError(f"{path} is not a model card of the zoo: take another --output")


def manifest_rows(folder):
    """[(model's name, tag, registry.Weights, task of the hub)] of a folder's manifest, [] without
    one. A row of another kind raises UsageError."""
    manifest = Path(folder) / door.MANIFEST
    try:
        return [
            (name, tag, registry.Weights(**row), tasks.get(zoo.get(name).kind).HUB_TASK)
            for name, rows in json.loads(manifest.read_text()).items()
            for tag, row in rows.items()
        ]
    except FileNotFoundError:
        return []
    except (TypeError, AttributeError) as error:
        raise UsageError(f"{manifest} is not a manifest of the zoo ({error})") from None


def public_command(command):
    """A command's arguments without the user's folders."""
    kept, arguments = [], iter(command)
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if name in PRIVATE:
            if not equals:
                next(arguments, None)
            continue
        kept.append(f"{name}={public(value)}" if equals else public(argument))
    return kept


def check_tag(tag):
    """Raises UsageError if a tag cannot be the name of a file."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9_.-]*", tag):
        raise UsageError(f"tag={tag}: takes small letters, digits, and . _ - between them")


def without_start(options):
    """Options of networks without `start`: published weights have replaced those."""
    return {name: value for name, value in options.items() if name != "start"}


def import_weights(model, file, tag, *, output=None, image_size=None, settings=None):
    """Makes another program's checkpoint (zoo.bridge) weights of the zoo, in a folder of the user's
    own; returns (registry.Weights, number of arrays, PLACE/TAG to load).

    The checkpoint decides the number of classes; settings give what it does not say (width,
    normalise).
    """
    from ..zoo import bridge

    check_tag(tag)
    spec, file, folder = zoo.get(model), Path(file), output or IMPORTED
    if file.is_dir():
        raise UsageError(f"--input={file}: takes a file, and this is a folder")
    arrays = bridge.read(str(file))
    options = zoo.options(spec.name) | bridge.options(spec.name, arrays)
    size = options.pop("image_size")
    options |= {**typed(settings or {}, options), "image_size": image_size or size}
    try:
        network = registry.networks(spec.name, **options)[spec.serve]
    except ValueError as error:
        raise UsageError(str(error)) from None
    door.fill(network, bridge.convert(spec.name, arrays, network, file.name), file.name)
    digest = hashlib.sha256(door.read(str(file))).hexdigest()
    about = {
        "network": spec.serve,
        "options": without_start(options),
        "dataset": "unknown",
        "scores": {},
        "origin": {"file": file.name, "sha256": digest},
        "license": f"unknown: that of {file.name}",
    }
    entry = saved(spec.name, tag, network, about, folder, exact=True)
    return entry, len(arrays), f"{folder}/{tag}"
