"""The fuzzer finds what it must find; its many cases run by hand: python tools/fuzz.py."""

import pytest

from attention_zoo.common.errors import UsageError
from attention_zoo.tools import fuzz


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
