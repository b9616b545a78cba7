"""The run directory: what a resume may change, what is kept, what is refused."""

import json

import numpy as np
import pytest

from attention_zoo.experiments import run_directory as run

CONFIG = {name: None for name in run.CONFIG} | {
    "model": "dcgan",
    "steps": 10,
    "seed": 0,
    "hparams": {},
}


def make(folder, **changes):
    """A run whose lock is given up at once, as its process would by ending."""
    record = run.Run(folder, {**CONFIG, **changes}, {"command": list(changes)}, metric="swd")
    record.close()
    return record


def test_a_resume_with_other_values_names_each_difference(tmp_path):
    make(tmp_path / "r")
    before = (tmp_path / "r" / "run.json").read_bytes()
    with pytest.raises(run.RunError) as refused:
        make(tmp_path / "r", model="ragan", seed=1)
    assert "model was 'dcgan', now 'ragan'" in str(refused.value)
    assert "seed was 0, now 1" in str(refused.value)
    assert (tmp_path / "r" / "run.json").read_bytes() == before


def test_a_resume_may_train_longer(tmp_path):
    make(tmp_path / "r")
    make(tmp_path / "r", steps=20)
    record = run.read_record(tmp_path / "r")
    assert record["config"]["steps"] == 20
    assert record["starts"] == [{"command": []}, {"command": ["steps"]}]


FOLDER = {"dataset": "folder:a", "data": "folder-1"}
EVERY = {"log": 1, "sample": 2, "save": 3, "eval": 4}


def test_data_are_known_by_their_identity_and_not_by_their_path(tmp_path):
    make(tmp_path / "r", **FOLDER)
    make(tmp_path / "r", dataset="folder:/home/me/a/", data="folder-1")
    assert run.read_record(tmp_path / "r")["config"]["dataset"] == "folder:/home/me/a/"
    with pytest.raises(run.RunError, match="on other data than folder:a has now .*'folder-1' and"):
        make(tmp_path / "r", dataset="folder:a", data="folder-2")
    with pytest.raises(run.RunError, match="dataset was 'folder:/home/me/a/', now 'cifar10'"):
        make(tmp_path / "r", dataset="cifar10", data="folder-1")


def test_the_identity_of_an_earlier_version_is_accepted_and_renewed(tmp_path):
    make(tmp_path / "r", dataset="folder:a", data="folder-old")
    config = {**CONFIG, **FOLDER}
    for legacy in (None, lambda: "folder-other"):
        with pytest.raises(run.RunError, match="other data"):
            run.check(tmp_path / "r", config, legacy)
    run.check(tmp_path / "r", config, lambda: "folder-old")
    run.Run(tmp_path / "r", config, {}, legacy_data=lambda: "folder-old").close()
    run.check(tmp_path / "r", config)


def test_intervals_of_logging_and_sampling_may_change(tmp_path):
    make(tmp_path / "r", every=EVERY)
    make(tmp_path / "r", every={**EVERY, "log": 7, "sample": 8})
    for name in ("save", "eval"):
        with pytest.raises(run.RunError, match=f"{name}_every was ., now 9"):
            make(tmp_path / "r", every={**EVERY, name: 9})


def test_a_check_writes_nothing(tmp_path):
    run.check(tmp_path / "new", CONFIG)
    assert not (tmp_path / "new").exists()
    make(tmp_path / "r")
    before = {path: path.read_bytes() for path in (tmp_path / "r").rglob("*") if path.is_file()}
    with pytest.raises(run.RunError, match="seed was 0, now 1"):
        run.check(tmp_path / "r", {**CONFIG, "seed": 1})
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(run.RunError, match="holds other files"):
        run.check(tmp_path, CONFIG)
    after = {path: path.read_bytes() for path in (tmp_path / "r").rglob("*") if path.is_file()}
    assert after == before


def test_what_a_run_killed_at_its_start_leaves_is_no_hindrance(tmp_path):
    (tmp_path / "r" / "checkpoints").mkdir(parents=True)
    (tmp_path / "r" / "run.json.123.part").write_text("{")
    make(tmp_path / "r")


def test_a_second_process_is_refused(tmp_path):
    held = run.Run(tmp_path / "r", CONFIG, {})
    with pytest.raises(run.RunError, match="is being trained by another process"):
        run.Run(tmp_path / "r", CONFIG, {})
    held.close()
    make(tmp_path / "r")


def test_a_folder_with_other_files_is_refused_and_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("dear to me")
    with pytest.raises(run.RunError, match="holds other files"):
        make(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(run.RunError, match="cannot write the run directory .*file/r"):
        make(tmp_path / "file" / "r")


@pytest.mark.parametrize(
    "text", ['{"config": ', "[]", "{}", '{"config": {}, "starts": []}', "\xff"]
)
def test_a_run_record_that_is_none_is_named(tmp_path, text):
    make(tmp_path / "r")
    (tmp_path / "r" / "run.json").write_text(text, encoding="latin-1")
    with pytest.raises(run.RunError, match=r"run\.json is damaged"):
        make(tmp_path / "r")


def test_rewind_takes_back_later_rows_and_one_that_was_cut(tmp_path):
    record = make(tmp_path / "r")
    for step in (1, 2, 3):
        record.log({"step": step})
    with open(record.metrics, "a") as file:
        file.write('{"step": 2, "lo')
    record.rewind(2)
    assert [json.loads(x)["step"] for x in record.metrics.read_text().splitlines()] == [1, 2]


def test_the_newest_two_and_the_best_are_kept(tmp_path):
    record = make(tmp_path / "r")
    for step, score in ((1, 5.0), (2, 3.0), (3, 4.0), (4, 3.0), (5, 9.0)):
        record.log({"step": step, "swd": score})
        record.save(step, {"w": np.array(step)})
    assert [run.step_of(p) for p in run.list_checkpoints(record.folder)] == [2, 4, 5]
    assert record.best() == 2
    assert not list(record.checkpoints.glob("*.part"))


def test_the_best_is_the_lowest_or_the_highest_and_the_first_of_equals():
    rows = [{"step": i, "x": x} for i, x in enumerate((2.0, 1.0, 3.0, 1.0, 3.0))] + [{"step": 5}]
    assert run.best_step(rows, "x", higher=False) == 1
    assert run.best_step(rows, "x", higher=True) == 2
    assert run.best_step(rows, "y", higher=True) is None


def test_checkpoints_give_back_what_was_saved(tmp_path):
    record = make(tmp_path / "r")
    record.log({"step": 7})
    record.save(7, {"a/b": np.arange(3.0), "bank": np.ones((2, 2), "float16")})
    arrays = run.read_checkpoint(run.list_checkpoints(record.folder)[0])
    assert arrays["a/b"].tolist() == [0, 1, 2]
    assert arrays["bank"].dtype == np.float16


@pytest.mark.parametrize("damage", ["cut", "flip", "empty"])
def test_a_damaged_checkpoint_is_refused(tmp_path, damage):
    record = make(tmp_path / "r")
    record.save(1, {"w": np.arange(1000.0)})
    path = run.list_checkpoints(record.folder)[0]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes({"cut": data[: len(data) // 2], "flip": data, "empty": b""}[damage])
    with pytest.raises(run.Damaged, match=r"step_00000001.npz is damaged"):
        run.read_checkpoint(path)


def test_a_checkpoint_whose_array_was_made_shorter_is_refused(tmp_path):
    """NumPy reads a tenth of it, and so does not come to the checksum of the whole."""
    path = tmp_path / "step_00000001.npz"
    np.savez(path, w=np.zeros(10_000))
    path.write_bytes(path.read_bytes().replace(b"(10000,), }", b"(1000,), } "))
    with np.load(path) as file:
        assert file["w"].shape == (1000,)
    with pytest.raises(run.Damaged, match="damaged"):
        run.read_checkpoint(path)


def test_a_checkpoint_with_a_pickle_is_refused(tmp_path):
    path = tmp_path / "step_00000001.npz"
    np.savez(path, w=np.array([{"a": 1}], dtype=object))
    with pytest.raises(run.Damaged, match="damaged"):
        run.read_checkpoint(path)


class Variable:
    def __init__(self, shape):
        self.shape, self.value = shape, None

    def assign(self, value):
        self.value = value


def test_assign_takes_all_or_nothing():
    state = {"a": Variable((2,)), "b": Variable((3,))}
    wrong = [
        {"a": np.zeros(2)},
        {"a": np.zeros(2), "b": np.zeros(4)},
        {"a": np.zeros(2), "b": np.zeros(3), "c": np.zeros(1)},
    ]
    for arrays in wrong:
        with pytest.raises(run.RunError, match="file.npz does not fit the model: [bc]"):
            run.assign(state, arrays, "file.npz")
    assert state["a"].value is None
    run.assign(state, {"a": np.ones(2), "b": np.ones(3)}, "file.npz")
    assert state["b"].value.tolist() == [1, 1, 1]
