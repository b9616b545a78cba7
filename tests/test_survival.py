"""What a run survives, by the real fault: signals, other processes, a full disk, broken files, data
that is removed. What takes long is in chaos.py."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import keras
import numpy as np
import pytest

from attention_zoo.experiments import run_directory as run
from attention_zoo.experiments import training
from attention_zoo.experiments.config import RunConfig
from attention_zoo.experiments.workers import Workers
from attention_zoo.tools import chaos
from attention_zoo.trainers import callbacks, dcgan

CONFIG = dict.fromkeys(run.CONFIG) | {"hparams": {}}
TINY = ("--model=dcgan", "--dataset=creatures/many/tiny", "--batch_size=8", "--image_size=32")
TINY += ("--set=width=4", "--steps=6", "--log_every=1", "--sample_every=3", "--save_every=2")


def make(folder):
    """A run whose lock is given up at once, as its process would by ending."""
    record = run.Run(folder, CONFIG, {}, metric="swd")
    record.close()
    return record


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("survival")


@pytest.fixture(scope="module")
def fork_server(folder):
    """Forks processes of main.py, with file systems of its own where that is allowed."""
    private = shutil.which("unshare") and not subprocess.run([*chaos.PRIVATE, "true"]).returncode
    server = chaos.ForkServer(*(chaos.PRIVATE if private else ()))
    yield server
    server.close()


@pytest.fixture(scope="module")
def whole(folder, fork_server):
    """A run that nothing disturbed, beside its data."""
    flags = (*TINY, f"--data_dir={folder / 'data'}", f"--run_dir={folder / 'whole'}")
    assert fork_server.run(folder / "log", *flags) == 0, chaos.last_line(folder / "log")
    return folder / "whole"


def test_sigterm_before_the_first_step_and_then_data_that_is_removed(whole, folder, fork_server):
    place, kept, log = folder / "run", folder / "kept", folder / "log"
    shutil.copytree(folder / "data", kept)
    flags = (*TINY, f"--data_dir={kept}", f"--run_dir={place}")
    child = fork_server.start(log, *flags)
    assert chaos.wait_until(child, (place / "run.json").exists)
    with pytest.raises(run.RunError, match="is being trained by another process: wait for"):
        run.Run(place, run.read_record(place)["config"], {})
    os.kill(child, signal.SIGTERM)
    assert fork_server.wait(child) == 0, chaos.last_line(log)
    assert chaos.last_line(log) == "stopped by SIGTERM: the same command goes on from here"
    assert not run.list_checkpoints(place) and not chaos.is_writing(place)

    child = fork_server.start(log, *flags)
    assert chaos.wait_until(child, lambda: chaos.count_rows(place))
    os.kill(child, signal.SIGSTOP)
    shutil.rmtree(kept)
    os.kill(child, signal.SIGCONT)
    assert fork_server.wait(child) == 0, chaos.last_line(log)
    assert chaos.differences(place, whole) == []


def test_a_full_disk_ends_in_one_line_and_with_room_it_goes_on(whole, folder, fork_server):
    """Room for one checkpoint and not for two."""
    disk, log = folder / "disk", folder / "log"
    disk.mkdir()
    pages = sum(-(-p.stat().st_size // 4096) + 1 for p in whole.rglob("*") if p.suffix != ".npz")
    checkpoint = run.list_checkpoints(whole)[0].stat().st_size
    size = 4096 * pages + checkpoint * 3 // 2
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(disk)]
    if fork_server.ask(command=mount):
        pytest.skip("no file system can be mounted here")
    seen = Path(f"/proc/{fork_server.process.pid}/root{disk}") / "run"  # as this process sees it
    flags = (*TINY, f"--data_dir={folder / 'data'}", f"--run_dir={disk / 'run'}")
    assert fork_server.run(log, *flags) == 2
    said = Path(f"{log}.err").read_text().replace("\r", "\n").splitlines()
    assert [line for line in said if line and "%|" not in line] == [
        f"main.py: {disk / 'run'}: No space left on device: make room, then the same command goes "
        "on from the last checkpoint"
    ]
    assert [run.step_of(path) for path in run.list_checkpoints(seen)] == [2]
    assert not chaos.is_writing(seen) and chaos.damage(seen) == []
    assert fork_server.ask(command=["mount", "-o", "remount,size=64m", str(disk)]) == 0
    assert fork_server.run(log, *flags) == 0, chaos.last_line(log)
    assert "resumes at step 2" in Path(f"{log}.err").read_text()
    assert chaos.differences(seen, whole) == []


class Value:
    """A variable."""

    def __init__(self, value):
        self.value = np.float32(value)
        self.shape = self.value.shape

    def assign(self, value):
        self.value = value

    def numpy(self):
        return self.value


class Model(keras.Model):
    """What callbacks see of a trainer."""

    def __init__(self, step):
        super().__init__()
        self.at, self.stop_training, self.prepared = Value(step), False, 0

    step = property(lambda self: self.at)

    def before_save(self):
        self.prepared += 1

    def state(self):
        return {"step": self.at}


@pytest.fixture
def handlers():
    kept = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


def watched(folder, score):
    """(recorder, stop) of a model whose step 4 has just ended."""
    every = {"log": 1, "sample": 9, "save": 9, "eval": 4}
    recorder = callbacks.Record(make(folder), every, 9, score)
    stop = callbacks.Stop(recorder, Workers(None))
    for callback in (recorder, stop):
        callback.set_model(Model(4))
        callback.on_train_begin()
    return recorder, stop


@pytest.mark.usefixtures("handlers")
@pytest.mark.parametrize(
    ("number", "early"), [(signal.SIGTERM, False), (signal.SIGTERM, True), (signal.SIGINT, False)]
)
def test_a_signal_gives_an_evaluation_up_which_is_done_later(tmp_path, number, early):
    def score():
        if not early:
            os.kill(os.getpid(), number)
        time.sleep(60)
        return {"swd": 1.0}  # not reached

    recorder, stop = watched(tmp_path / "r", score)
    stop.begin(0)
    if early:  # while the checkpoint before it is written, as it were
        os.kill(os.getpid(), number)
    recorder.on_train_batch_end(0, {"loss": 1.0})
    with pytest.raises(SystemExit if number == signal.SIGTERM else KeyboardInterrupt) as end:
        stop.on_train_batch_end(0)
    assert number == signal.SIGINT or end.value.code == 0
    assert recorder.model.prepared == 2  # once more for the checkpoint at the end
    assert [run.step_of(p) for p in run.list_checkpoints(tmp_path / "r")] == [4]
    assert recorder.run.rows() == [{"step": 4, "loss": 1.0}]

    again, _ = watched(tmp_path / "r", lambda: {"swd": 2.0})
    for _ in range(2):  # once is enough
        again.catch_up(4)
        assert again.run.rows() == [{"step": 4, "loss": 1.0}, {"step": 4, "swd": 2.0}]
    again.catch_up(3)
    assert len(again.run.rows()) == 2


@pytest.mark.usefixtures("handlers")
def test_signals_before_the_first_step_and_twice(tmp_path):
    _, stop = watched(tmp_path / "r", dict)
    with pytest.raises(SystemExit):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)
    stop.begin(0)
    for _ in range(2):  # as one to the process and one to its group
        os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(60)


@pytest.mark.usefixtures("handlers")
def test_a_signal_whose_exception_becomes_another_ends_the_run_all_the_same(tmp_path, monkeypatch):
    """As TensorFlow's tracing does it."""

    def mangled(*args, **kwargs):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60)
        except BaseException:
            raise TypeError("failed to convert") from None

    config = {"settings": {"width": 4}, "steps": 1, "batch_size": 4, "image_size": 32}
    config = RunConfig.resolve("dcgan", "creatures/many/tiny", **config)
    for place in ((dcgan.DCGAN, "train_step"), (training._Training, "facts")):
        with monkeypatch.context() as patch:
            patch.setattr(*place, mangled)
            with pytest.raises(SystemExit) as end:
                training.train(config, run_dir=tmp_path / "r", data_dir=tmp_path / "data")
        assert end.value.code == 0

    recorder, stop = watched(tmp_path / "s", mangled)
    stop.begin(0)
    recorder.on_train_batch_end(0, {"loss": 1.0})
    assert stop.asked == signal.SIGTERM and recorder.run.rows() == [{"step": 4, "loss": 1.0}]


def test_the_last_step_is_recorded_and_the_best_before_it_removed(tmp_path):
    scores, kept, model = iter([3.0, 5.0, 4.0, 1.0]), [], Model(0)
    every = {"log": 9, "sample": 9, "save": 1, "eval": 1}
    recorder = callbacks.Record(make(tmp_path / "r"), every, 4, lambda: {"swd": next(scores)})
    recorder.set_model(model)
    recorder.on_train_begin()
    for step in range(1, 5):
        model.at.assign(np.float32(step))
        recorder.on_train_batch_end(0, {"loss": 1.0})
        kept.append([run.step_of(path) for path in run.list_checkpoints(tmp_path / "r")])
    assert kept == [[1], [1, 2], [1, 2, 3], [3, 4]]
    assert recorder.run.rows()[2:] == [
        {"step": 3, "swd": 4.0},
        {"step": 4, "loss": 1.0},
        {"step": 4, "swd": 1.0},
    ]


def test_what_a_kill_left_half_written_is_removed(tmp_path):
    make(tmp_path / "r")
    for name in ("checkpoints/step_00000002.npz", "samples/a.png", "report.html", "metrics.jsonl"):
        part = tmp_path / "r" / f"{name}.123.part"
        part.parent.mkdir(exist_ok=True)
        part.write_bytes(b"half")
    make(tmp_path / "r")
    assert not chaos.is_writing(tmp_path / "r")


def flipped(data, bit):
    data = bytearray(data)
    data[bit // 8] ^= 1 << bit % 8
    return bytes(data)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_damaged_checkpoints_are_set_aside_with_a_line_each(tmp_path, count, caplog):
    record, state = make(tmp_path / "r"), {"w": Value(0)}
    for step in (2, 4, 6):
        record.log({"step": step, "swd": float(step)})
        record.save(step, {"w": np.float32(step)})
    paths = run.list_checkpoints(tmp_path / "r")[::-1]
    data = paths[0].read_bytes()
    broken = [bytes(len(data)), data[:-1], b""]
    for path, damage in zip(paths[:count], broken):
        path.write_bytes(damage)

    class Trainer:
        state = staticmethod(lambda: state)

    steps = [6, 4, 2, 0]
    assert training.restore_newest(Trainer, record) == steps[count]
    assert float(state["w"].numpy()) == steps[count]
    assert [row["step"] for row in record.rows()] == steps[: count - 1 : -1][1:]
    said = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert len(said) == count
    for step, line in zip(steps, said):
        assert f"step_{step:08d}.npz is damaged" in line
        assert line.endswith("the one before it is used" if step > 2 else "there is none before it")
    left = [p.name for p in (tmp_path / "r" / "checkpoints").glob("*.damaged")]
    assert len(left) == count


def test_no_bit_of_a_checkpoint_can_flip_unseen(tmp_path):
    """Where it changes nothing that is read, as a date, the values are those that were saved."""
    path = tmp_path / "step_00000001.npz"
    values = {"a": np.arange(4, dtype="float32"), "b": np.int64(7)}
    np.savez(path, **values)
    data, seen = path.read_bytes(), 0
    for place in range(len(data)):
        path.write_bytes(flipped(data, 8 * place + place % 8))
        try:
            found = run.read_checkpoint(path)
        except run.Damaged:
            seen += 1
        else:
            assert found.keys() == values.keys(), place
            assert all(found[k].tobytes() == v.tobytes() for k, v in values.items()), place
    assert seen > len(data) / 2
