"""`RunConfig`: all values of a training run, resolved from the recipe of a model and a data set."""

import dataclasses
import difflib
import math
import os

from .. import tasks, trainers, zoo
from ..common.errors import UsageError
from ..common.files import printable
from ..datasets import open_dataset
from .run_directory import LEGACY_HPARAMS

PRECISIONS = ("float32", "bfloat16", "float16")
PAIRS = ": give creatures/plain2striped, or folder:PATH with trainA/ and trainB/ in it"
KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a word"}


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """What a resumed run must repeat.

    model: a name of the zoo. dataset: the data set's name. image_size: side in pixels. load_size:
    side at which pictures are loaded before a random part of image_size is taken; None: the same.
    batch_size: images per update over all devices. steps: updates of the generator, or of the only
    network. seed: of weights, noise and the order of the data. loss: a key of the trainer's
    VARIANTS. options: of the networks. hparams: of training, complete. every: {"log", "sample",
    "save", "eval"} -> steps. precision: one of PRECISIONS. jit: compile the step by XLA.
    steps_per_execution: steps in one call of the compiled function.
    """

    model: str
    dataset: str
    image_size: int
    batch_size: int
    steps: int
    seed: int
    loss: str
    options: dict
    hparams: dict
    every: dict
    precision: str = "float32"
    jit: bool = False
    steps_per_execution: int = 1
    load_size: int | None = None

    @classmethod
    def resolve(
        cls,
        model="ragan",
        data="creatures",
        *,
        steps=None,
        batch_size=None,
        image_size=None,
        seed=0,
        precision="float32",
        jit=False,
        steps_per_execution=1,
        log_every=None,
        sample_every=None,
        save_every=None,
        eval_every=None,
        data_dir=None,
        settings=None,
    ):
        """The configuration of a run, every value resolved.

        data: as `datasets.open_dataset` takes it. settings: {name: value} of the networks' options,
        the hyper-parameters and "loss"; text is converted to the type of the default. What is None
        comes from the model's recipe for the data set. An unknown name, a wrong type or a value out
        of range raises UsageError.
        """
        spec = zoo.get(model)
        data = open_dataset(data, data_dir=data_dir)
        settings, task = renamed(settings or {}), tasks.get(spec.kind)
        module = trainers.get(spec.trainer or spec.name)
        if data.recipe not in module.RECIPES:
            known = ", ".join(module.RECIPES)
            raise UsageError(f"{spec.name} trains on {known}, not {data.name}")
        recipe, needs_pair = module.RECIPES[data.recipe], "image_a" in spec.batch
        if needs_pair != data.paired:
            needs, others = ("two domains", PAIRS) if needs_pair else ("one domain", "")
            raise UsageError(
                f"{spec.name} trains on a data set of {needs}, not {data.name}{others}"
            )
        default_loss = next(iter(module.VARIANTS))
        loss = settings.get("loss") or default_loss
        if loss not in module.VARIANTS:
            raise UsageError(f"loss={loss}: {spec.name} has {', '.join(module.VARIANTS)}")
        make_hparams, _ = module.VARIANTS[loss]
        hparams = dataclasses.asdict(make_hparams()) | recipe.hparams
        options = zoo.options(spec.name) | recipe.options
        del options["image_size"]
        backbone = settings.get("backbone", options.get("backbone", spec.name))
        for key in (loss, backbone):
            for name, value in recipe.variants.get(key, {}).items():
                (options if name in options else hparams)[name] = value
        changed = typed(settings, {**options, **hparams, "loss": default_loss})
        options = {k: changed.get(k, v) for k, v in options.items()}
        hparams = {k: changed.get(k, v) for k, v in hparams.items()}
        steps = whole("steps", recipe.steps if steps is None else steps, 1)
        if "decay_steps" in hparams and "decay_steps" not in changed:
            hparams["decay_steps"] = steps
        if task.needs_classes(spec, options, hparams) and "classes" not in changed:
            options["classes"] = task.class_count(data)
        try:
            make_hparams(**hparams)
        except ValueError as error:
            raise UsageError(str(error)) from None
        save_every = 500 if save_every is None else save_every
        every = {
            "log": 50 if log_every is None else log_every,
            "sample": 500 if sample_every is None else sample_every,
            "save": save_every,
            "eval": save_every if eval_every is None else eval_every,
        }
        for name, value in {"steps": steps, **{f"{k}_every": v for k, v in every.items()}}.items():
            if whole(name, value, 1) % whole("steps_per_execution", steps_per_execution, 1):
                raise UsageError(f"steps_per_execution must divide {name}={value}")
        if precision not in PRECISIONS:
            raise UsageError(f"precision is one of {', '.join(PRECISIONS)}, not {precision!r}")
        if image_size is None:
            image_size = data.side or recipe.image_size
        load_size = recipe.load_size and recipe.load_size * image_size // recipe.image_size
        return cls(
            model=spec.name,
            dataset=data.name,
            image_size=whole("image_size", image_size, 1),
            batch_size=whole(
                "batch_size", recipe.batch_size if batch_size is None else batch_size, 1
            ),
            steps=steps,
            seed=whole("seed", seed, 0),
            loss=loss,
            options=options,
            hparams=hparams,
            every=every,
            precision=precision,
            jit=bool(jit),
            steps_per_execution=steps_per_execution,
            load_size=load_size,
        )

    @property
    def network_options(self):
        """Options of the networks, image_size among them."""
        return {**self.options, "image_size": self.image_size}

    def record(self):
        """The configuration as run.json has it."""
        values = dataclasses.asdict(self)
        if self.load_size is None:
            del values["load_size"]
        return values

    @classmethod
    def from_record(cls, values):
        """The configuration of a record. It may hold more: what is known once a run starts."""
        names = {field.name for field in dataclasses.fields(cls)}
        return cls(**{name: value for name, value in values.items() if name in names})

    def default_folder(self, settings=None):
        """runs/MODEL-DATASET and the settings that were given: the default run directory. A path is
        tidied ("a/" and "./a" are "a"), unless a run is there by the path as it was given."""
        kind, colon, path = self.dataset.partition(":")
        tidy = f"{kind}:{os.path.normpath(path)}" if colon and path else self.dataset
        changed = "".join(
            f"-{pair}" for pair in sorted(f"{k}={v}" for k, v in (settings or {}).items())
        ).replace("/", "_")
        for dataset in (self.dataset, tidy):
            name = printable(dataset).replace(":", "-").replace("/", "_")
            folder = f"runs/{self.model}-{name}{changed}"
            if os.path.exists(f"{folder}/run.json"):
                break
        return folder


def renamed(settings):
    """Settings with the names of today, where old commands have others."""
    return {LEGACY_HPARAMS.get(name, name): value for name, value in settings.items()}


def whole(name, value, least):
    """A whole number of at least `least`; else UsageError."""
    if isinstance(value, bool) or int(value) != value or value < least:
        raise UsageError(f"{name} is a whole number from {least}, not {value!r}")
    return int(value)


def typed(settings, defaults):
    """{name: value}, each of the type of its default. An unknown name or a wrong type raises
    UsageError, which lists the names."""
    values = {}
    for name, value in settings.items():
        if name not in defaults:
            known = ", ".join(f"{k}={v}" for k, v in sorted(defaults.items()))
            close = difflib.get_close_matches(name, defaults, n=1, cutoff=0.7)
            hint = f"did you mean {close[0]}? " if close else ""
            raise UsageError(f"unknown setting {name}={value}: {hint}there are {known}")
        kind = type(defaults[name])
        try:
            values[name] = _convert(value, kind)
        except (KeyError, ValueError, TypeError):
            raise UsageError(f"{name}={value}: {name} takes {KINDS[kind]}") from None
    return values


def _convert(value, kind):
    if isinstance(value, str):
        if kind is bool:
            return {"true": True, "false": False}[value.lower()]
        value = kind(value)
    elif kind is str or isinstance(value, bool) != (kind is bool):
        raise ValueError
    elif kind is int and int(value) != value:
        raise ValueError
    value = kind(value)
    if kind is float and not math.isfinite(value):
        raise ValueError
    return value
