"""What happens beside the steps: progress, metrics, sample grids, checkpoints, NaN guard."""

import functools
import math
import signal
import sys
import time

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from ..common.files import write_file
from ..common.images import png

ADVICE = (
    ": the last good checkpoint is kept; look at the losses before this step in metrics.jsonl, and "
    "try a lower learning_rate"
)


class Asked(BaseException):
    """A signal asks for an end while scores are, or would be, measured."""


class NotFinite(ArithmeticError):
    """A loss or a weight became NaN or infinite; the message says at which step and what to do."""


class Progress(keras.callbacks.Callback):
    """One line: step of steps, rate, time left, losses."""

    def __init__(self, done, steps):
        super().__init__()
        self.bar = tqdm(
            total=steps,
            initial=done,
            unit="step",
            dynamic_ncols=True,
            mininterval=0.5,
            file=sys.stderr,
        )

    def on_train_batch_end(self, batch, logs=None):
        self.bar.set_postfix({k: f"{float(v):.3f}" for k, v in logs.items()}, refresh=False)
        self.bar.update(int(self.model.step.numpy()) - self.bar.n)


class NaNGuard(keras.callbacks.Callback):
    """Raises NotFinite at the step whose losses are not finite."""

    def on_train_batch_end(self, batch, logs=None):
        wrong = [k for k, v in logs.items() if not math.isfinite(v)]
        if wrong:
            step = int(self.model.step.numpy())
            raise NotFinite(f"{' and '.join(wrong)} became NaN or infinite at step {step}{ADVICE}")


class Record(keras.callbacks.Callback):
    """Writes metrics, pictures and checkpoints of a trainers.run.Run.

    every: {"log", "sample", "save", "eval"} -> steps. steps: the last one, where all are due.
    score: a function () -> {metric: value}, asked when "eval" is due, after a checkpoint: it may
    take long, and nothing is lost by an end while `scoring`. draw, attention: functions () -> uint8
    (H, W, 3), or None where there is nothing to see. at_rest: a function () -> bool, asked after
    each score: may the run end here? after: a function () called when scores or pictures were
    added.
    """

    scoring = asked = False  # asked: for an end, by a signal

    def __init__(
        self, run, every, steps, score, draw=None, attention=None, at_rest=None, after=None
    ):
        super().__init__()
        self.run, self.every, self.steps, self.score = run, every, steps, score
        self.pictures = {"samples": draw, "attention": attention}
        self.at_rest, self.after = at_rest, after
        self.started = (time.perf_counter(), 0)

    @functools.cached_property
    def events(self):
        return tf.summary.create_file_writer(str(self.run.folder))

    def due(self, step):
        """Which of `every` are due at a step."""
        return {k for k, every in self.every.items() if step % every == 0 or step == self.steps}

    def catch_up(self, step):
        """Measures the scores of a step that was saved, but not scored any more."""
        due = self.due(step)
        if step and "eval" in due:
            rows = [row for row in self.run.rows() if row["step"] == step]
            if len(rows) == ("log" in due):
                self.evaluate(step)

    def on_train_begin(self, logs=None):
        self.started = (time.perf_counter(), int(self.model.step.numpy()))

    def on_train_batch_end(self, batch, logs=None):
        step = int(self.model.step.numpy())
        due = self.due(step)
        if due & {"sample", "save", "eval"}:
            self.prepare(step)
        if "log" in due:
            self.record(step, {k: float(v) for k, v in logs.items()})
        if "sample" in due:
            self.draw(step)
        if due & {"save", "eval"}:
            self.checkpoint(step)
        if "eval" in due:
            self.evaluate(step)
        if due & {"save", "eval"}:
            self.events.flush()
        if due & {"sample", "eval"} and self.after:
            self.after()

    def evaluate(self, step):
        """Scores of a step, and where the run may end with it, its pictures."""
        try:
            self.scoring = True
            if self.asked:
                raise Asked
            scores = self.score()
        except Asked:
            return  # `catch_up` does it when the run goes on
        finally:
            self.scoring = False
        self.record(step, scores)
        self.run.prune()
        if self.at_rest and self.at_rest():
            self.model.stop_training = True
            if "sample" not in self.due(step):
                self.draw(step)

    def record(self, step, values):
        """One row in metrics.jsonl, one point a value in TensorBoard."""
        self.run.log({"step": step, **values})
        begin, first = self.started
        rate = (step - first) / (time.perf_counter() - begin)
        with self.events.as_default(step):
            for name, value in {**values, "steps_per_second": rate}.items():
                tf.summary.scalar(name, value)

    def draw(self, step):
        """The pictures of a step as PNG and in TensorBoard."""
        for name, picture in self.pictures.items():
            if picture:
                grid, folder = picture(), self.run.folder / name
                folder.mkdir(exist_ok=True)
                write_file(folder / f"step_{step:08d}.png", png(grid))
                with self.events.as_default(step):
                    tf.summary.image(name, grid[None])

    def prepare(self, step):
        """Brings all that is sampled and saved up to date; weights that are not finite raise."""
        self.model.before_save()
        for name, variable in self.model.state().items():
            if not np.isfinite(variable.numpy().astype("float32")).all():
                raise NotFinite(f"{name} became NaN or infinite by step {step}{ADVICE}")

    def checkpoint(self, step):
        """The whole state on disk."""
        self.run.save(step, {name: v.numpy() for name, v in self.model.state().items()})


class Stop(keras.callbacks.Callback):
    """SIGINT and SIGTERM end the run after the step that is under way, with a checkpoint of it; so
    does a signal to any of its workers, and an end that the recorder finds is that of all.

    Scores that are being measured are given up. Before the first step has ended, and at a second
    SIGINT, the end is at once. It is KeyboardInterrupt, and where this process had SIGTERM and is
    the only one, exit code 0: of several workers none tells that its work is done. Comes after
    Record, whose recorder it uses (of a worker that is not the chief this is None); `begin` is to
    be called before Record.
    """

    def __init__(self, recorder, workers):
        super().__init__()
        self.recorder, self.workers, self.asked, self.begun = recorder, workers, 0, False

    def on_train_begin(self, logs=None):
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self.ask)

    def begin(self, batch, logs=None):
        self.begun = True

    def ask(self, number, frame):
        if not self.begun or (self.asked and number == signal.SIGINT):
            self.end(number)
        first, self.asked = not self.asked, number
        if first and self.recorder:
            self.recorder.asked = True
            if self.recorder.scoring:
                raise Asked

    def end(self, number):
        if number != signal.SIGTERM:
            raise KeyboardInterrupt
        raise SystemExit(130 if self.workers.count > 1 else 0)

    def on_train_batch_end(self, batch, logs=None):
        verdict = self.workers.largest(2 if self.asked else int(self.model.stop_training))
        self.model.stop_training = verdict > 0
        if verdict == 2:
            if self.recorder:
                step = int(self.model.step.numpy())
                self.recorder.prepare(step)
                self.recorder.checkpoint(step)
            self.workers.largest(0)  # all stay until the checkpoint is there
            self.end(self.asked)
