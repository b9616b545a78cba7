"""Attention-guided image models in Keras 3 and TensorFlow.

    import attention_zoo as az
    model = az.load("ragan", "cifar10")
    images = model.sample(16, seed=0)
    run = az.train("dcgan", "creatures", steps=200, run_dir="runs/first")
    scores = az.evaluate(az.open_run(run.folder), metrics=("fid", "kid"), num=1000)

Importing this package imports neither TensorFlow nor Keras.
"""

import importlib

from . import evaluate as _evaluate_package  # noqa: F401  before the function of its name
from .common.errors import UsageError
from .common.version import __version__

TYPES = {  # name -> the module that it is imported from when it is first used
    "EvaluationRequest": "tasks.base",
    "LoadedModel": "tasks.base",
    "RunConfig": "experiments.config",
    "Score": "evaluate.scorer",
    "ScorerSpec": "evaluate.scorer",
    "StopRule": "experiments.training",
    "TrainedRun": "experiments.training",
}
__all__ = ["UsageError", "__version__", "evaluate", "export", "load", "open_run", "train", *TYPES]


def __getattr__(name):
    if name not in TYPES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .common.quiet import import_tensorflow

    import_tensorflow()
    return getattr(importlib.import_module(f".{TYPES[name]}", __name__), name)


def load(model, weights=None, direction=None, settings=None):
    """Loads published weights.

    Args:
        model: a name of the zoo, such as "ragan"; or PLACE/TAG alone, as in
            load("hf://OWNER/NAME/TAG"), where the manifest names the model.
        weights: a tag ("cifar10"), or PLACE/TAG, where PLACE is a folder or an address (https://,
            file://, hf://OWNER/NAME of the Hugging Face hub) that holds a manifest.json. After
            hf://... may follow @REVISION, and a TAG that is the only one may be left out. None:
            the model's default tag.
        direction: of a translator, "a2b" or "b2a". None: the one of the weights.
        settings: {name: value} of options of the network in place of those of its training, which
            its weights allow, such as {"maps": "winner_relu"}.

    Returns:
        A `LoadedModel`.

    Raises:
        UsageError: there are no such weights, they cannot be fetched, or the file is not what its
            manifest says.
    """
    from .common.quiet import import_tensorflow

    import_tensorflow()
    from .experiments import models

    return models.load(model, weights, direction, settings)


def open_run(path, direction=None, settings=None):
    """Opens a run directory at its newest checkpoint, or one checkpoint file of it.

    Builds only the networks that are used: no trainer, no optimiser, no teacher.

    Args:
        path: a run directory, or a file `checkpoints/step_*.npz` of it.
        direction: of a translator, "a2b" (default) or "b2a".
        settings: {name: value} of options of the network in place of those of its training, which
            its weights allow, such as {"maps": "winner_relu"}.

    Returns:
        A `LoadedModel`.

    Raises:
        UsageError: the path is no run directory, holds no checkpoint yet, or is damaged.
    """
    from .common.quiet import import_tensorflow

    import_tensorflow()
    from .experiments import models

    return models.open_run(path, direction, settings)


def train(
    model="ragan",
    data="creatures",
    *,
    run_dir=None,
    steps=None,
    batch_size=None,
    image_size=None,
    seed=0,
    data_dir=None,
    strategy="auto",
    precision="float32",
    jit=False,
    steps_per_execution=1,
    log_every=None,
    sample_every=None,
    save_every=None,
    eval_every=None,
    metrics=None,
    num=None,
    extractor=None,
    inception=None,
    split=None,
    stop=None,
    replace=None,
    progress=False,
    **settings,
):
    """Trains a model, or resumes the run in `run_dir` where it stopped.

    Args:
        model: a name of the zoo.
        data: a data set's name ("cifar10", "folder:PATH"), the Path of a folder, an array of images
            (N, H, W, 3), a dict of arrays ("image", "label"), or a tf.data.Dataset of batches.
        run_dir: the folder of the run. None: runs/MODEL-DATASET-SETTINGS.
        steps, batch_size, image_size: None: the model's recipe for the data set.
        seed: of weights, noise and the order of the data.
        data_dir: the folder of TensorFlow Datasets.
        strategy: "auto", "one", "mirrored", "multi_worker" or "tpu".
        precision: "float32", "bfloat16" or "float16".
        jit: compile the step by XLA.
        steps_per_execution: steps in one call of the compiled function.
        log_every, sample_every, save_every, eval_every: in steps; None: 50, 500, 500, save_every.
        metrics: scores measured at each evaluation, such as ("fid",); the first one names the best
            checkpoint. num, extractor, inception, split: as of `evaluate`.
        stop: a `StopRule`, which ends the run by itself.
        replace: {key: array (N, ...)} in place of the data set's own arrays.
        progress: show a progress bar on stderr.
        **settings: options of the networks and hyper-parameters, such as width=32, loss="wgan".

    Returns:
        A `TrainedRun`: folder, step, best checkpoint, samples, report.

    Raises:
        UsageError: an argument cannot be used as given.
        NotFinite: a loss became NaN or infinite.
    """
    from .common.quiet import import_tensorflow

    import_tensorflow()
    from .experiments import training
    from .experiments.config import RunConfig
    from .tasks.base import EvaluationRequest
    from .tasks.scoring import scorer_spec

    config = RunConfig.resolve(
        model,
        data,
        steps=steps,
        batch_size=batch_size,
        image_size=image_size,
        seed=seed,
        precision=precision,
        jit=jit,
        steps_per_execution=steps_per_execution,
        log_every=log_every,
        sample_every=sample_every,
        save_every=save_every,
        eval_every=eval_every,
        data_dir=data_dir,
        settings=settings,
    )
    scorer = None
    if metrics or stop:
        request = EvaluationRequest(metrics, num, extractor, inception, split, seed)
        scorer = scorer_spec(request)
    elif num or extractor or inception or split:
        raise UsageError("num, extractor, inception and split go with metrics")
    return training.train(
        config,
        data,
        run_dir=run_dir or config.default_folder(settings),
        data_dir=data_dir,
        strategy=strategy,
        scorer=scorer,
        stop=stop,
        replace=replace,
        progress=progress,
    )


def evaluate(
    model=None,
    *,
    images=None,
    reference=None,
    metrics=None,
    num=None,
    extractor=None,
    inception=None,
    split=None,
    seed=0,
    image_size=None,
    data_dir=None,
    references=None,
    progress=False,
):
    """Scores a model, or images from anywhere, against the real images of a data set.

    Args:
        model: a `LoadedModel`, or a run directory.
        images: in place of a model: an array (N, H, W, 3), a folder, or a data set's name.
        reference: the real images: a data set's name, a folder, an array, or a tf.data.Dataset.
            None: the data set that the model was trained on.
        metrics: of "fid", "sfid", "kid", "kid_blocks10", "is", "classes", "precision_recall",
            "density_coverage"; or ("localization",) alone. None: those of the kind of model.
        num: generated images (default: 10,000), or how many of `images` (default: all).
        extractor: "inception", "zoo:MODEL-TAG", or "zoo:MODEL:FOLDER/TAG" of your own. None:
            Inception where its weights are at hand, else the zoo's classifier for the data set.
        inception: path of Inception's weights.
        split: of the real images (default: "test", where there is one); "all" for localization.
        seed: of the generated images, or of those drawn from `images`.
        image_size: the side that `images` are resized to. None: their own.
        data_dir: the folder of TensorFlow Datasets.
        references: where a model that looks at real images (RAGAN) takes them from: the "bank" in
            its weights, or "training" for one training image a sample. None: the bank.
        progress: show progress bars on stderr.

    Returns:
        A list of `Score`: metric (the name says the protocol), value, deviation, details.

    Raises:
        UsageError: an argument cannot be used as given, or there are too few images.
    """
    from .common.quiet import import_tensorflow

    import_tensorflow()
    from .experiments import evaluation

    return evaluation.evaluate(
        model,
        images=images,
        reference=reference,
        metrics=metrics,
        num=num,
        extractor=extractor,
        inception=inception,
        split=split,
        seed=seed,
        image_size=image_size,
        data_dir=data_dir,
        references=references,
        progress=progress,
    )


def export(models, output="exported", threshold=None, format="saved_model"):
    """Exports models as SavedModels for TensorFlow Serving, or as files of other runtimes.

    Args:
        models: a `LoadedModel`, or a list of them.
        output: the folder; a version is written to output/NAME/VERSION, a file to
            output/NAME.FORMAT.
        threshold: of attention boxes. None: the one published with the weights, or 0.5.
        format: "saved_model", "tflite" or "onnx" (needs tf2onnx, onnx and onnxruntime).

    Returns:
        A list of `ExportedModel`: path, signatures.

    Raises:
        UsageError: what was exported does not answer as its network does, the format does not have
            an operation of the network, or the folder cannot be written.
    """
    from .common.quiet import import_tensorflow

    import_tensorflow()
    from .experiments import exporting

    return exporting.export(models, output, threshold, format=format)
