"""What happens between training steps: progress bar, metrics, sample grids, checkpoints, a check
for NaN, and the end by a signal."""

import functools
import math
import signal
import sys
import threading
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
    """A signal asked for the end of the run before or while scores are measured."""


class NotFinite(ArithmeticError):
    """A loss or a weight is NaN or infinite; the message says since which step and what to do."""


class Progress(keras.callbacks.Callback):
    """A line with the step, the number of steps, the rate, the time left and the losses."""

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
    """Writes the metrics, pictures and checkpoints of a run directory.

    every: {"log", "sample", "save", "eval"} -> interval in steps. steps: the last step, at which
    all four are due. score: a function () -> {metric: value}, called after the checkpoint of a step
    at which "eval" is due; it may take long, and the run may end while `scoring`. draw, attention:
    functions () -> uint8 (H, W, 3), or None. at_rest: a function () -> bool, called after each
    score: whether the run may end here. after: a function () called after new scores or pictures.
    """

    scoring = asked = False  # asked: has a signal asked for the end?

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
        """The keys of `every` that are due at a step."""
        return {k for k, every in self.every.items() if step % every == 0 or step == self.steps}

    def catch_up(self, step):
        """Measures the scores of a step that was saved, if the run ended before it was scored."""
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
        """Measures the scores of a step; if the run may end with it, draws its pictures too."""
        try:
            self.scoring = True
            if self.asked:
                raise Asked
            scores = self.score()
        except (Asked, Exception):  # TensorFlow can turn it into an error of its own
            if not self.asked:
                raise
            return  # `catch_up` does it when the run is resumed
        finally:
            self.scoring = False
        self.record(step, scores)
        self.run.prune()
        if self.at_rest and self.at_rest():
            self.model.stop_training = True
            if "sample" not in self.due(step):
                self.draw(step)

    def record(self, step, values):
        """Adds a row to metrics.jsonl, and a point for each value to TensorBoard.

        TensorFlow caches Python numbers and never frees them, so that it is given arrays.
        """
        self.run.log({"step": step, **values})
        begin, first = self.started
        rate = (step - first) / (time.perf_counter() - begin)
        with self.events.as_default(np.asarray(step)):
            for name, value in {**values, "steps_per_second": rate}.items():
                tf.summary.scalar(name, np.asarray(value, "float32"))

    def draw(self, step):
        """Writes the pictures of a step as PNG files and to TensorBoard."""
        for name, picture in self.pictures.items():
            if picture:
                grid, folder = picture(), self.run.folder / name
                folder.mkdir(exist_ok=True)
                write_file(folder / f"step_{step:08d}.png", png(grid))
                with self.events.as_default(np.asarray(step)):
                    tf.summary.image(name, grid[None])

    def prepare(self, step):
        """Calls the trainer's `before_save`; raises NotFinite if a variable is not finite."""
        self.model.before_save()
        for name, variable in self.model.state().items():
            if not np.isfinite(variable.numpy().astype("float32")).all():
                raise NotFinite(f"{name} became NaN or infinite by step {step}{ADVICE}")

    def checkpoint(self, step):
        """Saves the complete state."""
        self.run.save(step, {name: v.numpy() for name, v in self.model.state().items()})


class Stop(keras.callbacks.Callback):
    """Ends the run on SIGINT or SIGTERM, after the current step and with its checkpoint.

    A signal to one worker ends all workers, and so does the recorder's decision to end. Scores that
    are being measured are abandoned. Before the first step is complete, and on a second SIGINT, the
    run ends at once. It ends with KeyboardInterrupt, or after SIGTERM with SystemExit: exit code 0,
    but 130 if there are several workers, since none of them has finished the work. Signals reach
    only the main thread; in another thread nothing is installed.

    Comes after Record in the list of callbacks and uses it as `recorder` (None on a worker that is
    not the chief); `begin` must be called before Record.
    """

    def __init__(self, recorder, workers):
        super().__init__()
        self.recorder, self.workers, self.asked, self.begun = recorder, workers, 0, False

    def on_train_begin(self, logs=None):
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, self.ask)

    def begin(self, batch, logs=None):
        self.begun = True

    def ask(self, number, frame):
        first, self.asked = not self.asked, number
        if not self.begun or (not first and number == signal.SIGINT):
            self.end(number)
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
