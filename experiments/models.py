"""Opening models: published weights, run directories, single checkpoints."""

import contextlib
import dataclasses
from collections.abc import Mapping

import numpy as np

from .. import tasks, zoo
from ..common.downloads import short
from ..common.errors import UsageError
from ..common.files import user_path
from ..datasets import open_dataset, rendered
from ..tasks.base import Origin
from ..zoo import registry
from ..zoo import weights as door
from . import run_directory
from .config import RunConfig, typed

LARGE = 1024  # an option above it may be damage, and ask for more memory than there is


def load(model, weights=None, direction=None, settings=None):
    """A LoadedModel of published weights.

    model: a name of the zoo; or weights that name a place, whose manifest names the model. weights:
    a tag, or PLACE/TAG, where PLACE is a folder or an address (https://, file://, hf://OWNER/NAME)
    with a manifest.json, see `zoo.weights.find`; None: the model's default tag.
    direction: of a translator; weights of another direction, or of a model that does not translate,
    raise UsageError. settings: {name: value} of options of the network in place of those that it
    was trained with, such as maps or output_stride; its weights must fit.
    """
    if weights is None and "/" in str(model):
        model, weights = None, model
    if model:
        weights = weights or zoo.get(model).default_tag
        if not weights:
            text = f"no weights of {model} are published: train it, then open_run(RUN_DIR)"
            raise UsageError(text)
    elif "/" not in str(weights):
        raise UsageError(f"{weights} is not a run directory: published weights need --model too")
    model, network, entry = door.load_entry(model, weights)
    spec = zoo.get(model)
    check_direction(direction, spec)
    if direction not in (None, entry.network):
        raise UsageError(f"direction={direction}: {weights} has the network {entry.network}")
    options = entry.options
    if settings:
        options = changed(zoo.options(model) | options, settings)
        arrays = {v.path: np.asarray(v) for v in network.variables}
        try:
            network = registry.networks(model, **options)[entry.network]
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(f"these options do not fit {model}: {error}") from None
        door.fill(network, arrays, f"{model}:{weights}")
    origin = Origin(
        weights=str(weights),
        dataset=entry.dataset,
        scores=entry.scores,
        sha256=entry.sha256,
        license=entry.license,
        details=entry.origin,
        settings={name: options[name] for name in settings or ()},
    )
    networks = {layer.name: layer for layer in network.layers if hasattr(layer, "layers")}
    networks[entry.network] = network
    key = spec.serve if spec.serve in networks else entry.network
    return tasks.get(spec.kind).Model(model, networks, options, origin, key)


def check_direction(direction, spec):
    """Raises UsageError for a direction of a model that does not translate."""
    if direction and "translate" not in tasks.get(spec.kind).able(spec):
        raise UsageError(f"direction is for models that translate: {spec.name} does not")


def changed(options, settings):
    """Options of a network with settings in their place. An unknown name or a wrong type raises
    UsageError, and so does image_size, which is the weights' own."""
    return options | typed(settings, {k: v for k, v in options.items() if k != "image_size"})


def open_run(path, direction=None, settings=None):
    """A LoadedModel of a run directory's newest checkpoint, or of one checkpoint file. Only the
    networks that are used are built. direction: of a translator, "a2b" by default. settings: as of
    `load`."""
    folder, arrays, checkpoint = read_run(path)
    config = RunConfig.from_record(run_directory.read_record(folder)["config"])
    spec = zoo.get(config.model or "")
    check_direction(direction, spec)
    defaults = zoo.options(spec.name)
    try:
        options = defaults | typed(config.options or {}, defaults)
        if settings:
            options = changed(options, settings)
        config = dataclasses.replace(config, options=options)
        networks = CheckpointNetworks(config, arrays, checkpoint)
    except (KeyError, TypeError, ValueError) as error:
        given = " with these settings" if settings else ""
        text = f"{folder}/run.json{given} does not fit {config.model}: {error}"
        raise UsageError(text) from None
    origin = Origin(
        weights=str(path),
        dataset=config.dataset,
        step=run_directory.step_of(checkpoint),
        folder=folder,
        settings={name: options[name] for name in settings or ()},
    )
    task = tasks.get(spec.kind)
    return task.Model(config.model, networks, config.network_options, origin, direction)


def class_names(model):
    """The names of a LoadedModel's classes; () where they are not known. They are those that were
    published with the weights, or those of a run's data set, if it is here."""
    names = model.origin.details.get("classes") or rendered.class_names(model.origin.dataset)
    if not names and model.origin.folder and "classes" in model.options:
        with contextlib.suppress(UsageError):
            names = open_dataset(model.origin.dataset).class_names
    return tuple(names)


def read_run(path):
    """(folder, {name: array}, path of the checkpoint) of a run directory or a checkpoint file."""
    path = user_path(path)
    folder = path.parent.parent if path.suffix == ".npz" else path
    run_directory.read_record(folder)
    checkpoints = [path] if path.suffix == ".npz" else run_directory.list_checkpoints(folder)
    if not checkpoints:
        raise run_directory.RunError(f"{folder} holds no checkpoint yet")
    return folder, run_directory.read_checkpoint(checkpoints[-1]), checkpoints[-1]


def open_model(weights, model=None, direction=None, settings=None):
    """A LoadedModel of what a user names: a run directory, a checkpoint file, or published weights
    (see `load`), of which a tag needs the model's name too. settings: as of `load`."""
    if not weights:
        raise UsageError("weights must be a tag with its model, a run directory or a checkpoint")
    if is_published(weights, model):
        return load(model, weights, direction, settings)
    opened = open_run(weights, direction, settings)
    if model not in (None, opened.name):
        raise UsageError(f"{weights} holds {opened.name}, not {model}")
    return opened


def is_published(weights, model=None):
    """True if `weights` name published ones, False if they name a run directory or a checkpoint.
    A tag of the model that is also a run directory here raises UsageError."""
    weights = str(weights)
    if "://" in weights:
        return True
    path = user_path(weights)
    folder = path.parent.parent if path.suffix == ".npz" else path
    is_run = (folder / "run.json").exists()
    is_tag = model is not None and weights in zoo.get(model).weights
    if is_run and is_tag:
        raise UsageError(
            f"{weights} is a tag of {model} and a run directory here: write ./{weights} for the "
            "directory"
        )
    if is_run:
        return False
    if is_tag or (path.parent / door.MANIFEST).exists():
        return True
    return not path.is_absolute() and len(path.parts) == 1


class CheckpointNetworks(Mapping):
    """{name: keras.Model} of a checkpoint, each built and filled when it is first used: the moving
    average where there is one, else the network as it was trained."""

    def __init__(self, config, arrays, source):
        self.networks = registry.networks(config.model, **config.network_options)
        self.source, self.filled, self.done = source, set(), set()
        self.by_path = {}
        for name in sorted(arrays, key=lambda name: not name.startswith("average/")):
            group, _, path = name.removeprefix("average/").partition("/")
            if not group.endswith(("_optimizer", "_scale")) and group != "pool":
                self.by_path.setdefault(path, {}).setdefault(group, arrays[name])
        self.is_large = any(type(v) is int and v > LARGE for v in config.options.values())
        self.config, self.size = config, sum(array.size for array in arrays.values())

    def _check_size(self, key):
        """Raises ValueError for a network with more values than the whole checkpoint."""
        count = registry.counts(self.config.model, [key], **self.config.network_options)[key]
        if count > self.size:
            raise ValueError(f"{key} has {count:,} values, and the checkpoint {self.size:,}")

    def __getitem__(self, key):
        try:
            if self.is_large and key not in self.networks.built:
                self._check_size(key)
            network = self.networks[key]
        except (ValueError, TypeError, OverflowError) as error:  # of Keras: options out of range
            raise UsageError(f"{self.source} does not fit its run.json: {short(error)}") from None
        if key not in self.filled:
            self.filled.add(key)
            own = {id(variable) for variable in network.variables}
            for other in self.networks.built:  # the parts that it is made of, by their own names
                if own & {id(variable) for variable in self.networks[other].variables}:
                    self[other]
            state = {v.path: v for v in network.variables if id(v) not in self.done}
            arrays = {v.path: self._array(key, v.path) for v in state.values()}
            arrays = {path: array for path, array in arrays.items() if array is not None}
            run_directory.assign(state, arrays, self.source)
            self.done |= own
        return network

    def _array(self, key, path):
        """The array of a variable, or None. What networks share is saved in one of their groups."""
        groups = self.by_path.get(path, {})
        return groups.get(key, next(iter(groups.values()), None))

    def __contains__(self, key):
        return key in self.networks

    def __iter__(self):
        return iter(self.networks)

    def __len__(self):
        return len(self.networks)
