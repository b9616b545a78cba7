"""`train`: one training run, new or resumed, from a RunConfig to a run directory."""

import atexit
import contextlib
import dataclasses
import errno
import functools
import hashlib
import json
import os
import signal
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import keras
import tensorflow as tf
from absl import logging

from .. import tasks, trainers, zoo
from ..common.errors import UsageError
from ..common.files import printable, user_path
from ..datasets import open_dataset
from ..evaluate import two_stage
from ..trainers import callbacks
from . import devices, precision, run_directory
from .run_directory import RunError
from .run_reports import write_report
from .versions import versions
from .workers import Lost, Workers

FEW = 2_000  # training pictures, up to which a GAN gets a hint
REPORT_INTERVAL = 60  # seconds between reports of a run


@dataclass(frozen=True)
class StopRule:
    """The two-stage rule (evaluate.two_stage). window: evaluations without an improvement.
    tolerance: the least improvement, as a share of the best value."""

    window: int = 5
    tolerance: float = 0.01


@dataclass(frozen=True)
class TrainedRun:
    """What `train` leaves. folder: the run directory. step: steps in all. resumed_at: the step that
    this call went on from. best: path of the best checkpoint by `metric`, or None. samples: path of
    the newest grid, or None. report: path of report.html. message: why nothing was trained, or "".
    """

    folder: Path
    step: int
    resumed_at: int
    metric: str | None
    best: Path | None
    samples: Path | None
    report: Path
    message: str = ""


def train(
    config,
    data=None,
    *,
    run_dir=None,
    data_dir=None,
    strategy="auto",
    scorer=None,
    stop=None,
    replace=None,
    command=(),
    progress=False,
):
    """Trains a model, or resumes the run in run_dir; returns a TrainedRun.

    config: a RunConfig. data: as `datasets.open_dataset` takes it; None: config.dataset. run_dir:
    default config.default_folder(). strategy: one of devices.STRATEGIES. scorer: a ScorerSpec that
    scores each evaluation and names the best checkpoint (generators). stop: a StopRule, which needs
    a scorer. replace: {key: array (N, ...)} in place of the data set's own. command: recorded as
    the start's. progress: show bars on stderr.

    SIGINT and SIGTERM end the run after the step that is under way and save it (in the main thread;
    elsewhere they are left alone). A run that another process trains, or with other values, raises
    RunError; NaN raises callbacks.NotFinite; a worker that is gone raises Lost.
    """
    run_dir = user_path(run_dir or config.default_folder())
    with _signals(multi_worker=strategy == "multi_worker"):
        if not config.jit:  # XLA has no deterministic gradient of max pooling
            tf.config.experimental.enable_op_determinism()
        strategy = devices.strategy_of(strategy)
        devices.check_replicas(config, strategy.num_replicas_in_sync)
        data = open_dataset(data if data is not None else config.dataset, None, data_dir)
        training = _Training(
            config, data.resized(config.image_size), run_dir, Workers(strategy), replace, progress
        )
        with _explained(run_dir, training.workers):
            return training.run(scorer, stop, list(command))


@contextlib.contextmanager
def _signals(multi_worker):
    """Has SIGTERM end the process with exit code 0 (one of several workers: 130) until there are
    steps to save, and gives the handlers back at the end. TensorFlow can turn an exception of a
    handler into an error of its own, which is turned back."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
    asked, code = [], 130 if multi_worker else 0

    def end(number, frame):
        asked.append(number)
        sys.exit(code)

    signal.signal(signal.SIGTERM, end)
    try:
        yield
    except Exception:
        if asked:
            sys.exit(code)
        raise
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _explained(run_dir, workers):
    """Turns a full disk, an unwritable place and a lost worker into one sentence."""
    try:
        yield
    except BrokenPipeError:  # of stderr or stdout, whose reader has gone
        raise
    except (OSError, tf.errors.OpError) as error:  # TensorBoard's writer raises the latter
        reasons = [os.strerror(number) for number in (errno.ENOSPC, errno.EDQUOT)]
        full = next((reason for reason in reasons if reason in str(error)), None)
        if full or isinstance(error, OSError):
            place = getattr(error, "filename", None) or run_dir
            advice = "make room" if full else "correct that"
            raise RunError(
                f"{place}: {full or error.strerror or error}: {advice}, then the same command goes "
                "on from the last checkpoint"
            ) from None
        if workers.count == 1:
            raise
        atexit.register(_leave)
        raise Lost(
            f"worker {workers.number} has lost another one, whose last line says why: the same "
            "commands go on from the last checkpoint"
        ) from None


def _leave():
    """Ends the process at once: TensorFlow's own end waits a minute and more for the lost one."""
    sys.stdout.flush()
    os._exit(1)


def make_trainer(config):
    """The trainer of a RunConfig with fresh weights, the same ones for the same seed."""
    keras.utils.set_random_seed(config.seed)
    spec = zoo.get(config.model)
    default, (policy, rewritten) = keras.config.dtype_policy(), precision.policy(config)
    try:
        keras.config.set_dtype_policy(policy)  # of what is trained; the average is published
        networks = zoo.create(spec.name, **config.network_options)
        keras.config.set_dtype_policy(default)
        ema_networks = zoo.registry.networks(spec.name, **config.network_options)  # built if used
        make_hparams, make = trainers.get(spec.trainer or spec.name).VARIANTS[config.loss]
        trainer = make(networks, ema_networks, make_hparams(**config.hparams), config.seed)
    except ValueError as error:
        raise UsageError(str(error)) from None
    finally:
        keras.config.set_dtype_policy(default)
    trainer.jit_compile, trainer.bfloat16 = config.jit, rewritten
    trainer.steps_per_execution = config.steps_per_execution
    return trainer


def restore_trainer(path):
    """(trainer, RunConfig) of a run directory's newest checkpoint, or of one checkpoint file: all
    networks and optimisers, for what needs more than `open_run` gives."""
    from .config import RunConfig
    from .models import read_run

    folder, arrays, checkpoint = read_run(path)
    config = RunConfig.from_record(run_directory.read_record(folder)["config"])
    trainer = make_trainer(config)
    run_directory.assign(trainer.state(), arrays, checkpoint)
    return trainer, config


def batch_keys(config, data):
    """The keys of a run's batches. "labels", of many classes an image, may be "label", of one, but
    not for a segmenter."""
    spec = zoo.get(config.model)
    keys = tasks.get(spec.kind).batch_keys(spec, config.options, config.hparams)
    if "labels" in keys:
        held = data.arrays("train")
        if "labels" not in held and "classes" not in spec.batch:
            keys = tuple("label" if key == "labels" else key for key in keys)
        if missing := ", ".join(key for key in keys if key not in held):
            raise UsageError(f"{data.name} has no {missing}: it holds {', '.join(held)}")
    if "label" in keys:
        data.labelled("train", config.options["classes"])
    return keys


def training_pictures(data):
    """A log line: how many pictures of a data set are trained on."""
    if data.paired:
        counts = [len(data.arrays(f"train_{end}")["image"]) for end in "ab"]
        text = "{:,} pictures of domain a and {:,} of domain b".format(*counts)
    else:
        text = f"{len(data.arrays('train')['image']):,} pictures"
    return printable(f"{data.name}: {text} to train on")


def few_pictures_hint(data, hparams):
    """A log line for a GAN that trains on FEW pictures or fewer without augmentation; else ""."""
    if "augment_target" not in hparams or hparams["augment"]:
        return ""
    if len(data.arrays("train")["image"]) > FEW:
        return ""
    return (
        "a GAN memorises so few pictures: --set augment=color,translation,cutout in a new run "
        "helps, see docs/guides/few_pictures.md"
    )


def batch_options(trainer, config, keys):
    """The options of `DataSet.batches` for a run's batches."""
    return {
        "batch_size": config.batch_size * trainer.batches_per_step,
        "seed": config.seed,
        "keys": keys,
    }


def distribute_batches(strategy, trainer, data, options):
    """The training batches; each of several replicas gets its own part, in their order."""
    replicas = strategy.num_replicas_in_sync
    if replicas == 1:
        return data.batches(**options)

    def of_worker(context):
        count = replicas // context.num_input_pipelines
        first = context.input_pipeline_id * count
        shares = {"shares": (first, first + count, replicas), "batches": trainer.batches_per_step}
        return data.batches(**options, **shares)

    return strategy.distribute_datasets_from_function(of_worker)


class _Training:
    """One call of `train`, on one of the workers. The chief alone writes and reports."""

    def __init__(self, config, data, folder, workers, replace, progress):
        self.config, self.data, self.folder = config, data, folder
        self.workers, self.strategy = workers, workers.strategy
        self.replace, self.progress = replace, progress

    def run(self, scorer_spec, stop, command):
        config, workers = self.config, self.workers
        with self.strategy.scope():
            trainer = make_trainer(config)
        record = {**config.record(), **self.facts(trainer)}
        if workers.chief:
            run_directory.check(self.folder, record, self.legacy_data)
        keys = batch_keys(config, self.data)
        if not workers.agree(_number_of([record, str(self.folder)])):
            raise UsageError("the workers have different flags or data: give all the same command")
        done, over, recorder, directory = -1, False, None, None
        try:
            if workers.chief:
                recorder, directory, done = self.open(trainer, record, scorer_spec, stop, command)
                over = done >= config.steps or recorder.at_rest()
            if workers.largest(over):
                return self.trained_already(directory, recorder, done) if workers.chief else None
            done = workers.largest(done)
            if not workers.chief:
                self.restore_chief(trainer, done)
            self.fit(trainer, recorder, done, keys)
            trained = self.finished(directory, done, config.steps) if workers.chief else None
            workers.largest(0)  # none leaves before all is written
            return trained
        finally:
            if directory:
                directory.close()

    def facts(self, trainer):
        """{name: JSON value} of what a resume must repeat and the configuration does not know."""
        if not self.workers.chief:
            self.workers.largest(0)  # the chief downloads first: all may share the folder
        identity = self.data.identity("train") + self.replaced()
        if self.workers.chief:
            self.workers.largest(0)
        replicas = self.strategy.num_replicas_in_sync
        return {"data": identity, "replicas": replicas, **trainer.extra_config()}

    def replaced(self):
        """What the identity of the data has beside that of the data set."""
        digests = [hashlib.sha256(x.tobytes()).hexdigest() for x in (self.replace or {}).values()]
        return "".join(f"+{digest[:16]}" for digest in digests)

    def legacy_data(self):
        """ "data" of the record, as earlier versions wrote it."""
        return self.data.legacy_identity("train") + self.replaced()

    def open(self, trainer, record, spec, stop, command):
        """(Record callback, Run, step that it stands at) of the run directory, new or resumed."""
        config, task = self.config, tasks.get(zoo.get(self.config.model).kind)
        if stop and not spec:
            raise UsageError("stop needs metrics")
        if spec and not spec.extractor:
            spec = dataclasses.replace(spec, extractor=recorded_extractor(self.folder))
        monitor = task.monitor(trainer, config, self.data, spec, self.progress)
        if monitor.scorer:
            record["evaluation"] = {**monitor.scorer.about, "metrics": monitor.scorer.metrics}
            record["best"] = {"metric": monitor.metric, "higher": monitor.higher}
        rule = stop and {
            "metric": monitor.metric,
            "higher": monitor.higher,
            "window": stop.window,
            "tolerance": stop.tolerance,
        }
        record["stop"] = rule
        start = {"command": command, "versions": versions()}
        directory = run_directory.Run(
            self.folder,
            record,
            start,
            monitor.metric,
            monitor.higher,
            legacy_data=self.legacy_data,
        )
        try:
            done = restore_newest(trainer, directory)

            def at_rest():
                stages = two_stage.stages(directory.rows(), **rule) if rule else None
                return bool(stages and stages.loss_rest is not None)

            recorder = callbacks.Record(
                directory,
                config.every,
                config.steps,
                score=monitor.score,
                draw=monitor.samples,
                attention=monitor.attention,
                at_rest=at_rest,
                after=functools.partial(refresh_report, directory.folder),
            )
            recorder.set_model(trainer)
            recorder.catch_up(done)
            self.scorer = monitor.scorer
        except BaseException:
            directory.close()
            raise
        return recorder, directory, done

    def restore_chief(self, trainer, step):
        """Loads the checkpoint that the chief goes on from, as another worker."""
        if step:
            path = run_directory.checkpoint(self.folder, step)
            if not path.exists():
                raise RunError(
                    f"worker {self.workers.number} finds no {path}: give a --run_dir that all share"
                )
            run_directory.assign(trainer.state(), run_directory.read_checkpoint(path), path)

    def fit(self, trainer, recorder, done, keys):
        config, workers = self.config, self.workers
        load_size = config.load_size or config.image_size
        data = self.data.resized(load_size) if load_size != config.image_size else self.data
        options = batch_options(trainer, config, keys)
        if self.replace:
            options["replace"] = self.replace
        end, watchers = callbacks.Stop(recorder, workers), [callbacks.NaNGuard()]
        begin = keras.callbacks.LambdaCallback(on_train_batch_end=end.begin)
        if workers.chief and self.scorer:
            self.scorer.warn()
        trainer.prepare(data.batches(**options).as_numpy_iterator())
        batches = distribute_batches(self.strategy, trainer, data, {"start": done, **options})
        if workers.chief and ":" in data.name:  # a user's own
            logging.info(training_pictures(data))
            if not done and (hint := few_pictures_hint(data, config.hparams)):
                logging.info(hint)
        with contextlib.ExitStack() as stack:
            if workers.chief:
                watchers.append(recorder)
                if self.progress:
                    bar = callbacks.Progress(done, config.steps)
                    stack.callback(bar.bar.close)
                    watchers.insert(0, bar)
            try:
                trainer.fit(
                    batches,
                    steps_per_epoch=config.steps - done,
                    callbacks=[begin, *watchers, end],
                    verbose=0,
                    shuffle=False,
                )
            except Exception:
                if end.asked and not end.begun:  # see `_signals`
                    end.end(end.asked)
                raise

    def trained_already(self, directory, recorder, done):
        """The TrainedRun of a run that is complete, or at rest by its stop rule."""
        advice = "give more --steps to go on"
        if done < self.config.steps:
            advice = "give a larger --stop_window, or no --stop, to go on"
        elif self.config.hparams.get("decay_steps"):
            advice = "its learning rate has reached 0"
        message = f"trained {done} steps already: {advice}"
        return self.finished(directory, done, done, message)

    def finished(self, directory, resumed_at, step, message=""):
        grids, best = sorted(directory.samples.glob("*.png")), directory.best()
        checkpoints = run_directory.list_checkpoints(directory.folder)
        return TrainedRun(
            folder=directory.folder,
            step=run_directory.step_of(checkpoints[-1]) if checkpoints else step,
            resumed_at=resumed_at,
            metric=directory.metric,
            best=None if best is None else run_directory.checkpoint(directory.folder, best),
            samples=grids[-1] if grids else None,
            report=write_report(directory.folder),
            message=message,
        )


def recorded_extractor(folder):
    """The extractor's name that a run directory records; None for a new one."""
    if not (folder / "run.json").exists():
        return None
    config = run_directory.read_record(folder)["config"]
    name = (config.get("evaluation") or {}).get("extractor")
    return name if name in (None, "inception") else f"zoo:{name}"


def restore_newest(trainer, directory):
    """Loads the newest undamaged checkpoint of a run, if any; returns its step."""
    paths = run_directory.list_checkpoints(directory.folder)
    while paths:
        path = paths.pop()
        try:
            arrays = run_directory.read_checkpoint(path)
        except run_directory.Damaged as error:
            other = "the one before it is used" if paths else "there is none before it"
            logging.warning(f"{error}: it is set aside, {other}")
            path.rename(path.with_suffix(".damaged"))
            continue
        run_directory.assign(trainer.state(), arrays, path)
        step = run_directory.step_of(path)
        directory.rewind(step)
        logging.info(f"resumes at step {step} of {directory.folder}")
        return step
    directory.rewind(-1)
    return 0


def refresh_report(folder):
    """Writes a run's report, at most once in REPORT_INTERVAL. A failure is logged, and ends no
    training."""
    path = folder / "report.html"
    try:
        if not path.exists() or time.time() - path.stat().st_mtime > REPORT_INTERVAL:
            write_report(folder)
    except Exception as error:
        logging.warning(f"the report was not written: {type(error).__name__}: {error}")


def _number_of(values):
    """JSON values -> a whole number from 0 to 2^56 that changes when they do."""
    text = json.dumps(values, sort_keys=True)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")
