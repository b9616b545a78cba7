"""The fuzzer finds what it must find; its many cases run by hand: python tools/fuzz.py."""

import json
import shutil
from pathlib import Path

import pytest

from attention_zoo.common.errors import UsageError
from attention_zoo.experiments import models
from attention_zoo.tools import fuzz

GOLDEN = Path(__file__).parent / "golden" / "dcgan" / "run"


@pytest.mark.parametrize("kind", ["pictures", "weights"])
def test_damaged_files_are_read_or_refused(kind):
    assert fuzz.run([kind], 40, seed=1) == 0


class Target:
    """Reads a file as `read` does."""

    def __init__(self, folder):
        self.originals = [folder / "original"]
        self.originals[0].write_bytes(bytes(100))

    def mutated(self, rng):
        return "damaged", fuzz.damaged(self.originals[0].read_bytes(), rng)


def refuse(self, path):
    raise UsageError("it is damaged")


def fail(self, path):
    raise KeyError("layer")


def refuse_in_silence(self, path):
    raise UsageError


def last(self, path):
    while True:
        pass


def change(self, path):
    path.write_bytes(b"")


def change_the_original(self, path):
    self.originals[0].write_bytes(b"")


@pytest.mark.parametrize(
    ("read", "failures", "line"),
    [
        (refuse, 0, "3 cases, 0 failed"),
        (fail, 3, "KeyError: 'layer'"),
        (refuse_in_silence, 3, "an empty message of UsageError"),
        (last, 3, "the case lasts longer than 0.05 s"),
        (change, 3, "damaged was changed"),
        (change_the_original, 1, "an original was changed"),
    ],
)
def test_what_counts_as_a_failure(read, failures, line, monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(fuzz.KINDS, "toy", type("Toy", (Target,), {"read": read}))
    monkeypatch.setitem(fuzz.SHARES, "toy", 1)
    monkeypatch.setattr(fuzz, "LIMIT", 0.05)
    assert fuzz.run(["toy"], 3, seed=0, keep=tmp_path / "kept") == failures
    assert line in capsys.readouterr().out
    assert len(list(tmp_path.glob("kept/*"))) == (3 if failures == 3 else 0)


def test_a_case_is_the_same_again():
    cases = [fuzz.damaged(bytes(range(200)), fuzz.random.Random("0/toy/7")) for _ in range(2)]
    assert cases[0] == cases[1] != bytes(range(200))
    value = {"a": [1, {"b": "c"}], "d": None}
    changed = [fuzz.changed(value, fuzz.random.Random(i)) for i in range(50)]
    assert value == {"a": [1, {"b": "c"}], "d": None} and len({str(v) for v in changed}) > 20


def change_model(config):
    config["model"] = ["dcgan"]


def change_options(config):
    config["options"] = "width"


def change_dataset(config):
    config["dataset"] = True


def ask_for_a_name(config):
    config["options"]["width"] = "wide"


def ask_for_another_option(config):
    config["options"]["depth"] = 4


def ask_for_more_than_the_memory(config):
    config["options"]["width"] = 40_000


def ask_for_a_fraction(config):
    config["image_size"] = 0.5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (change_model, "run.json is damaged"),
        (change_options, "run.json is damaged"),
        (change_dataset, "run.json is damaged"),
        (ask_for_a_fraction, "run.json is damaged"),
        (ask_for_a_name, "run.json does not fit dcgan: width=wide"),
        (ask_for_another_option, "run.json does not fit dcgan: unknown setting depth=4"),
        (ask_for_more_than_the_memory, "generator has .* values, and the checkpoint"),
    ],
)
def test_a_damaged_record_is_refused(change, message, tmp_path):
    shutil.copytree(GOLDEN, tmp_path / "run")
    record = json.loads((GOLDEN / "run.json").read_text())
    change(record["config"])
    (tmp_path / "run" / "run.json").write_text(json.dumps(record))
    with pytest.raises(UsageError, match=message):
        models.open_run(tmp_path / "run").sample(1)


def test_options_that_an_older_run_does_not_have_are_the_defaults(tmp_path):
    shutil.copytree(GOLDEN, tmp_path / "run")
    record = json.loads((GOLDEN / "run.json").read_text())
    del record["config"]["options"]["self_attention"]
    (tmp_path / "run" / "run.json").write_text(json.dumps(record))
    first, second = (models.open_run(p).sample(1) for p in (GOLDEN, tmp_path / "run"))
    assert (first == second).all()
