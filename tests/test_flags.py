"""Flags, modes and their help; mistakes; log lines."""

import importlib
import inspect
import logging
import operator
import re
from pathlib import Path

import absl.logging
import pytest

from attention_zoo import studies
from attention_zoo.cli import flags, logs, main, parser
from attention_zoo.common.errors import UsageError
from attention_zoo.common.version import __version__
from attention_zoo.evaluate import protocol

ROOT = Path(__file__).parents[1]


def printed(capsys, *arguments):
    """What a command that succeeds prints to stdout."""
    capsys.readouterr()
    assert main.main(list(arguments)) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


@pytest.mark.parametrize("mode", flags.MODES)
def test_the_help_of_a_mode_shows_its_flags_with_defaults_and_no_others(mode, capsys):
    out = printed(capsys, f"--mode={mode}", "--help")
    shown = re.findall(r"^  --([a-z_]+)", out, re.MULTILINE)
    assert shown == [*flags.MODES[mode].flags, "helpfull"]
    parts = re.split(r"^  --", out, flags=re.MULTILINE)[1:-1]
    for name, part in zip(shown[:-1], parts, strict=True):
        text = " ".join(part.split())
        assert re.search(r"\(default: [^)]+\)|\(required[^)]*\)|; required with [^)]*\)", text), (
            text
        )
        if name in flags.MODES[mode].required.split():
            assert "(required)" in text or "(required there)" in text
    for title in flags.MODES[mode].groups:
        assert f"\n{title}:\n" in out
    assert max(map(len, out.splitlines())) < 100


def test_help_states_values_and_defaults(capsys):
    train = " ".join(printed(capsys, "--mode", "train", "--help").split())
    assert "--seed=NUMBER the seed of all random numbers (default: 0)" in train
    assert "--strategy=auto|one|mirrored|multi_worker|tpu" in train
    assert "--jit compile the training step with XLA (default: off)" in train
    assert "--num=IMAGES how many images (default: 64)" in " ".join(
        printed(capsys, "--mode=sample", "--help").split()
    )


@pytest.mark.parametrize("flag", ["-h", "--help", "--helpfull"])
def test_help_without_a_mode_lists_the_modes(flag, capsys):
    out = printed(capsys, flag)
    for name, mode in flags.MODES.items():
        assert re.search(rf"^  {name} +{re.escape(mode.summary)}$", out, re.MULTILINE)
    assert "python main.py --mode=MODE --help" in out
    assert main.main([flag], program="attention-zoo") == 0
    assert "usage: attention-zoo [--mode=MODE]" in capsys.readouterr().out


@pytest.mark.parametrize("study", flags.STUDIES)
def test_the_help_of_a_study_shows_its_flags(study, capsys):
    assert flags.STUDIES[study].question in printed(capsys, "--mode=study", "--help")
    out = printed(capsys, "--mode=study", f"--study={study}", "--help")
    assert f"Study {study}: {flags.STUDIES[study].question}" in out
    shown = re.findall(r"^  --([a-z_]+)", out, re.MULTILINE)
    assert set(shown) == {"study", "helpfull", *flags.STUDIES[study].flags.split()}
    assert set(flags.STUDIES[study].flags.split()) <= set(flags.MODES["study"].flags)
    assert set(flags.STUDIES[study].notes) <= set(shown)


def test_the_full_help_of_a_mode_shows_the_flags_of_absl(capsys):
    out = printed(capsys, "--mode=sample", "--helpfull")
    assert "--attention" in out and "--[no]logtostderr" in out


def test_the_help_of_all_studies_says_which_one_needs_trained_models(capsys):
    assert "\ntrained models, for claims:\n  --runs=" in printed(capsys, "--mode=study", "--help")


def test_every_flag_belongs_to_a_mode_and_no_note_is_of_another_flag():
    used = {name for mode in flags.MODES.values() for name in mode.flags}
    assert used == set(flags.FLAGS)
    for mode in flags.MODES.values():
        assert len(set(mode.flags)) == len(mode.flags)
        assert set(mode.notes) | set(mode.metavars) | set(mode.required.split()) <= set(mode.flags)


def test_the_flags_know_what_the_rooms_have():
    assert set(flags.METRICS) == {*protocol.METRICS, "localization"}
    assert set(flags.STUDIES) == set(studies.STUDIES)


def test_parse_returns_what_was_given_with_its_type():
    assert parser.parse([]) == ("train", {})
    arguments = ["--steps=3", "--jit", "--seed", "0", "--set=a=1", "--set", "b=c=d", "--model=x"]
    settings = [("a", "1"), ("b", "c=d")]
    given = {"steps": 3, "jit": True, "seed": 0, "set": settings, "model": "x"}
    assert parser.parse(arguments) == ("train", given)
    given = {"weights": "w", "metrics": ("kid", "fid")}
    for mode in (["--mode=evaluate"], ["--mode", "evaluate"], ["--mode=list", "--mode=evaluate"]):
        arguments = [*mode, "--weights=w", "--metrics=kid,fid,kid"]
        assert parser.parse(arguments) == ("evaluate", given)
        assert parser.parse([*arguments[len(mode) :], *mode]) == ("evaluate", given)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--modl=x"], "--modl: did you mean --model? --mode=train --help lists the flags"),
        (["--mod"], "--mod: did you mean --mode?"),
        (["-model=x"], "-model: did you mean --model?"),
        (["--Steps=3"], "--Steps: did you mean --steps?"),
        (["--model=dcgan--steps=3"], "--model=dcgan--steps=3: a space is missing before --steps="),
        (["--jit--steps=3"], "--jit--steps=3: a space is missing before --steps="),
        (["--batch-size=3"], "--batch-size: did you mean --batch_size?"),
        (["--verbositi=1"], "--verbositi: did you mean --verbosity?"),
        (["--xyzzy"], "unknown flag --xyzzy: --mode=train --help lists the flags"),
        (
            ["--wieghts=x"],
            "--wieghts: did you mean --weights? --mode=train does not use it; --mode=sample, ",
        ),
        (
            ["--mode=sample", "--weights=w", "--set=width=8"],
            "--mode=sample does not use --set; --mode=train, evaluate, study, publish, import",
        ),
        (["--port=1"], "--mode=train does not use --port; --mode=demo does"),
        (
            ["--output=x"],
            "--mode=train does not use --output: did you mean --run_dir? --mode=train",
        ),
        (["--epochs=3"], "--mode=train does not use --epochs: did you mean --steps? --mode=train"),
        (["--mode=study", "--study=floor", "--run_dir=x"], "--run_dir: did you mean --output?"),
        (
            ["--learning_rate=1"],
            "--learning_rate: did you mean --set learning_rate=1? --mode=train",
        ),
        (["--mode=list", "--seed=0"], "--mode=list does not use --seed; --mode=train, "),
        (["evaluate"], "'evaluate' is not a flag: did you mean --mode=evaluate?"),
        (["model=ragan"], "'model=ragan' is not a flag: did you mean --model=ragan?"),
        (["--set", "a=1", "b=2"], "'b=2' is not a flag: did you mean --set=b=2?"),
        (["x"], "'x' is not a flag: --mode=train --help lists the flags"),
        (["--mode=fly"], "--mode takes one of train, list, "),
        (["--mode=tran"], ", not 'tran': did you mean 'train'?"),
        (["--mode"], "--mode needs a value"),
        (["--model"], "--model needs a value"),
        (["--jit=true"], "--jit takes no value"),
        (["--steps=0"], "--steps takes a whole number from 1 to 1000000000, not '0'"),
        (["--steps=many"], "--steps takes a whole number from 1 to 1000000000, not 'many'"),
        (["--seed=-1"], "--seed takes a whole number from 0 to 4294967295, not '-1'"),
        (["--seed=4294967296"], "--seed takes a whole number from 0 to 4294967295"),
        (["--seed=١"], "--seed takes a whole number from 0 to 4294967295"),
        (["--stop_tolerance=2"], "takes a number of at least 0 and below 1, not '2'"),
        (["--stop_tolerance=x"], "takes a number of at least 0 and below 1, not 'x'"),
        (["--strategy=miror"], "tpu, not 'miror': did you mean 'mirrored'?"),
        (["--metrics=fid,fit"], "--metrics takes one of fid, sfid, kid"),
        (["--verbosity=x"], "--verbosity=x: invalid literal"),
        (["--flagfile=/nowhere"], "Unable to open flagfile"),
        (["--mode=sample"], "--mode=sample needs --weights=TAG|RUN_DIR|FILE"),
        (["--mode=report"], "--mode=report needs --run_dir=RUN_DIR"),
        (["--mode=publish"], "--mode=publish needs --run_dir=RUN_DIR and --tag=NAME"),
        (["--mode=publish", "--tag=x"], "--mode=publish needs --run_dir=RUN_DIR"),
        (["--set=width"], "--set takes NAME=VALUE, not 'width'"),
        (["--set==8"], "--set takes NAME=VALUE, not '=8'"),
        (
            ["--mode=study", "--study=gain", "--metrics=fid"],
            "--metrics does not go with --study=gain: --mode=study --study=gain --help lists",
        ),
        (["--mode=study", "--study=biased", "--stps=1"], "--stps: did you mean --steps?"),
        (["--mode=study", "--study=memorisatin"], "did you mean 'memorisation'?"),
        (["--mode=study", "--study=memorisation"], "needs --weights=RUN_DIR|FILE"),
        (["--mode=study"], "--mode=study needs --study=memorisation|fid_spatial|"),
        (["--mode=import"], "needs --model=NAME and --input=FILE and --tag=NAME"),
        (["--mode=translate", "--weights=w"], "--mode=translate needs --input=FOLDER"),
    ],
)
def test_a_mistake_is_answered_in_one_sentence(arguments, message, capsys):
    with pytest.raises(UsageError, match=re.escape(message)):
        parser.parse(arguments)
    assert main.main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("main.py: ")
    assert err.count("\n") == 1
    main.main(arguments, program="attention-zoo")
    assert capsys.readouterr().err.startswith("attention-zoo: ")


@pytest.mark.parametrize("arguments", [["--version"], ["--mode=sample", "--version"]])
def test_the_version_is_printed(arguments, capsys):
    assert printed(capsys, *arguments) == f"attention-zoo {__version__}\n"
    assert re.fullmatch(r"\d+\.\d+\.\d+", __version__)


def test_flags_can_come_from_a_file(tmp_path):
    (tmp_path / "flags").write_text("--mode=sample\n# a comment\n--weights=w\n")
    assert parser.parse([f"--flagfile={tmp_path / 'flags'}"]) == ("sample", {"weights": "w"})


DEFAULTS = {  # mode -> the library's functions, whose defaults its help states
    "train": "experiments.config.RunConfig.resolve experiments.training.train "
    "experiments.training.StopRule",
    "annotate": "experiments.annotation.annotate",
    "export": "experiments.exporting.export",
    "import": "experiments.publishing.import_weights",
    "publish": "experiments.publishing.publish",
    "translate": "experiments.translating.translate_folder",
    "study --study=memorisation": "studies.memorisation.memorisation",
    "study --study=fid_spatial": "studies.spatial.fid_spatial",
    "study --study=floor": "studies.floor.floor",
    "study --study=teaching": "studies.comparison.teaching",
    "study --study=gain": "studies.gain.gain",
    "study --study=biased": "studies.gain.biased",
    "study --study=translation": "studies.translation.translation",
}
NAMES = {"data": "dataset", "window": "stop_window", "tolerance": "stop_tolerance"}


@pytest.mark.parametrize("mode", DEFAULTS)
def test_the_help_states_the_defaults_of_the_library(mode, capsys):
    text = " ".join(printed(capsys, *f"--mode={mode}".split(), "--help").split())
    shown = dict(re.findall(r" --([a-z_]+)(?:=\S+)? (?:(?! --).)*?\(default: ([^,;)]+)", text))
    compared = 0
    for path in DEFAULTS[mode].split():
        room, name = re.fullmatch(r"([a-z_.]+)\.(\w.*)", path).groups()
        module = importlib.import_module(f"attention_zoo.{room}")
        function = operator.attrgetter(name)(module)
        for name, parameter in inspect.signature(function).parameters.items():
            name, default = NAMES.get(name, name), parameter.default
            if name in shown and default not in (None, parameter.empty):
                assert shown[name] == ("off" if default is False else str(default)), name
                compared += 1
    assert compared or mode in ("import", "publish"), shown


def log(level, path, message):
    """Logs a line to absl's logger as if a file did."""
    logger = absl.logging.get_absl_logger()
    if logger.isEnabledFor(level):
        logger.handle(logger.makeRecord("absl", level, path, 1, message, (), None))


OURS, THEIRS = str(ROOT / "trainers" / "base.py"), "/usr/lib/site-packages/tfds/read.py"
INSIDE = str(ROOT / ".venv" / "lib" / "site-packages" / "tfds" / "read.py")
LINES = [
    (20, OURS, "our info"),
    (10, OURS, "our detail"),
    (20, THEIRS, "their info"),
    (30, INSIDE, "their warning"),
    (40, THEIRS, "their error"),
]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], ["our info", "their error"]),
        (["--v=0"], ["our info", "their info", "their warning", "their error"]),
        (["--v=1"], ["our info", "our detail", "their info", "their warning", "their error"]),
        (["-v", "-1"], ["their warning", "their error"]),
        (["--verbosity=-2"], ["their error"]),
    ],
)
def test_log_lines_are_plain_and_ours(arguments, expected, capsys):
    before = absl.logging.get_verbosity()
    parser.parse(["--mode=list", *arguments])
    other = logging.StreamHandler()  # as of logging.basicConfig, which a library may call
    logging.getLogger().addHandler(other)
    with logs.plain_lines("main.py"):
        for line in LINES:
            log(*line)
    logging.getLogger().removeHandler(other)
    log(20, OURS, "after the command")
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == expected
    parser.parse(["--mode=list"])
    assert absl.logging.get_verbosity() == before


def test_log_lines_in_a_file_and_with_a_prefix(capsys, tmp_path):
    parser.parse(["--mode=list", f"--log_dir={tmp_path}", "--stderrthreshold=error"])
    with logs.plain_lines("main.py"):
        for line in LINES:
            log(*line)
    assert re.fullmatch(r"E\d+ .*read.py:1\] their error\n", capsys.readouterr().err)
    text = (tmp_path / "main.INFO").read_text()
    assert re.search(r"^I\d+ .*base.py:1\] our info$", text, re.MULTILINE)
    parser.parse(["--mode=list", "--showprefixforinfo", "--logtostderr"])
    with logs.plain_lines("main.py"):
        log(*LINES[0])
    assert re.fullmatch(r"I\d+ .*base.py:1\] our info\n", capsys.readouterr().err)
    parser.parse([])
