"""What surrounds the process: Keras' settings, the home directory, closed streams, file systems
without locks, and a system without what only Unix has."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import pytest

import attention_zoo as az
from attention_zoo import zoo
from attention_zoo.cli import flags
from attention_zoo.common import files, quiet
from attention_zoo.datasets import stream
from attention_zoo.evaluate import inception
from attention_zoo.experiments import run_directory
from attention_zoo.tests.helpers import mistake

ROOT = Path(__file__).parents[1]
SHOW = "import keras; c = keras.config; print(c.backend(), c.image_data_format(), c.floatx())"


def run(program, *arguments, **environment):
    """A process of Python that runs a program in the root folder."""
    changed = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **environment}
    environment = {name: value for name, value in changed.items() if value is not None}
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize("backend", ["jax", ""])
def test_keras_is_imported_with_the_settings_that_the_zoo_needs(backend, tmp_path):
    settings = {"backend": "torch", "image_data_format": "channels_first", "floatx": "float64"}
    (tmp_path / "keras.json").write_text(json.dumps(settings))
    program = f"import main, attention_zoo as az; az.StopRule; {SHOW}"
    done = run(program, KERAS_BACKEND=backend, KERAS_HOME=str(tmp_path))
    assert (done.stdout, done.stderr) == ("tensorflow channels_last float32\n", "")


def test_settings_with_which_keras_cannot_be_imported_are_a_mistake(tmp_path):
    (tmp_path / "keras.json").write_text('{"floatx": "float8"}')
    program = (
        "import main, sys; from attention_zoo.cli.main import main; "
        "sys.exit(main(['--mode=sample', '--model=ragan', '--weights=cifar10']))"
    )
    done = run(program, KERAS_HOME=str(tmp_path))
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "Invalid `floatx` configuration" in done.stderr and "keras.json" in done.stderr


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (
            "image_data_format",
            "channels_first",
            "keras.config.set_image_data_format('channels_last",
        ),
        ("floatx", "float64", "keras.config.set_floatx('float32')"),
        ("dtype_policy", "mixed_float16", "keras.config.set_dtype_policy('float32')"),
    ],
)
def test_settings_of_a_user_of_keras_are_refused(name, value, message):
    before = getattr(keras.config, name)()
    change = getattr(keras.config, f"set_{name}")
    change(value)
    try:
        with pytest.raises(az.UsageError) as caught:
            az.load("ragan", "cifar10")
        if name != "dtype_policy":  # which the zoo itself sets while it trains
            with pytest.raises(az.UsageError, match=f"Keras' {name}"):
                zoo.load("ragan", "cifar10")
    finally:
        change(before)
    assert f"Keras' {name} is {value!r}" in str(caught.value) and message in str(caught.value)
    quiet.import_tensorflow()


def test_another_backend_of_keras_is_refused(monkeypatch):
    monkeypatch.setattr(keras.config, "backend", lambda: "jax")
    with pytest.raises(az.UsageError, match="set KERAS_BACKEND=tensorflow before Keras is imp"):
        az.open_run("runs/none")


def test_importing_the_package_imports_no_keras_and_changes_nothing():
    program = "import main, os, sys, attention_zoo; print('keras' in sys.modules, os.environ['K'])"
    done = run(program.replace("K", "KERAS_BACKEND"), KERAS_BACKEND="jax")
    assert done.stdout == "False jax\n"


def test_a_backend_that_is_not_installed_is_refused_after_tensorflow_is_imported():
    program = (
        "import main, sys; sys.modules['jax'] = None; import tensorflow, attention_zoo as az\n"
        "try: az.load('ragan')\n"
        "except az.UsageError as error: print(error)"
    )
    done = run(program, KERAS_BACKEND="jax")
    assert "let KERAS_BACKEND be tensorflow" in done.stdout, done.stderr


@pytest.fixture(params=["unset", "empty", "relative"])
def homeless(monkeypatch, request):
    """No home directory, by the environment or by the system's list of users."""
    pwd = pytest.importorskip("pwd")

    def unknown(_):
        raise KeyError

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.setattr(pwd, "getpwnam", unknown)
    for name in ("HOME", "XDG_CACHE_HOME", "TFDS_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    if request.param != "unset":
        monkeypatch.setenv("HOME", {"empty": "", "relative": "home"}[request.param])


def test_without_a_home_directory(homeless, monkeypatch, tmp_path):
    monkeypatch.setattr(files.tempfile, "tempdir", str(tmp_path))
    assert files.cache_folder() == tmp_path / "attention_zoo"
    with pytest.raises(az.UsageError, match="no home directory for data sets: give --data_dir"):
        stream.place()
    assert stream.place(tmp_path) == tmp_path
    assert inception.find() is None
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    for use in (
        lambda: az.open_run("~/run"),
        lambda: az.load("ragan", "~/weights/tag"),
        lambda: az.train("dcgan", steps=1, run_dir="~/run"),
        lambda: az.train("dcgan", "folder:~/images", steps=1, run_dir=tmp_path),
        lambda: az.evaluate(images="~/images", reference="creatures"),
        lambda: az.export([], "~/exported"),
        lambda: inception.find("~/inception"),
        lambda: stream.place("~/data"),
        lambda: files.user_path("~nobody/x"),
    ):
        with pytest.raises(az.UsageError, match="names a home directory that is not known"):
            use()


def test_a_home_that_is_no_folder_is_named(monkeypatch, tmp_path):
    (tmp_path / "home").touch()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("TFDS_DATA_DIR")
    with pytest.raises(az.UsageError, match="home/tensorflow_datasets: give another --data_dir"):
        stream.arrays("creatures/tiny")


def test_a_relative_cache_folder_is_ignored(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "cache")
    assert files.cache_folder() == tmp_path / ".cache" / "attention_zoo"


PATHS = "weights input run_dir data_dir inception against output"


@pytest.mark.parametrize("name", PATHS.split())
def test_the_home_directory_takes_the_place_of_a_tilde_in_a_flag(name, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert flags.FLAGS[name].check("~/a/b") == str(tmp_path / "a" / "b")
    assert flags.FLAGS[name].check("a/~b") == "a/~b"
    assert flags.FLAGS[name].check("hf://owner/repo/tag") == "hf://owner/repo/tag"


def test_an_unknown_home_directory_in_a_flag_is_a_mistake(homeless, capsys):
    line = mistake(capsys, "--mode=sample", "--weights=~/run")
    assert line == (
        "main.py: --weights ~/run names a home directory that is not known: write the whole path\n"
    )


def test_paths_of_the_library_may_begin_with_a_tilde(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    for use, message in (
        (lambda: az.open_run("~/run"), "{}/run is not a run directory"),
        (lambda: az.load("ragan", "~/weights/tag"), "{}/weights/manifest.json cannot be read"),
        (
            lambda: az.evaluate(images="~/images", reference="creatures"),
            "~/images does not exist: give a folder",
        ),
    ):
        with pytest.raises(az.UsageError, match=message.format(tmp_path)):
            use()


@pytest.mark.skipif(os.name != "posix", reason="the shell of Unix closes the stream")
@pytest.mark.parametrize("closed", ["2>&-", ">&- 2>&-", "<&- 2>&-"])
def test_closed_streams_take_no_part(closed, tmp_path):
    seen = tmp_path / "seen"  # the file behind number 2 while the command runs
    program = (
        "import main, os, sys; from attention_zoo.cli import main as cli\n"
        "status = cli.main(sys.argv[2:]); file = os.path.realpath('/proc/self/fd/2')\n"
        "open(sys.argv[1], 'w').write(file); sys.exit(status)"
    )
    for flag, status in (("--mode=list", 0), ("--mode=lost", 2)):
        command = f'"{sys.executable}" -c "{program}" "{seen}" {flag} {closed}'
        done = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True)
        assert done.returncode == status and done.stderr == b""
        assert bool(done.stdout) is (status == 0 and closed[0] != ">")
        if sys.platform == "linux":
            assert seen.read_text() == "/dev/null"


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_a_warning(number, monkeypatch, tmp_path, caplog):
    fcntl = pytest.importorskip("fcntl")

    def flock(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    config = {name: None for name in run_directory.CONFIG} | {"options": {}, "hparams": {}}
    for _ in range(2):  # also after a run that was killed
        run_directory.Run(tmp_path / "run", config, {})
    assert caplog.text.count("is on a file system without locks: start only one training") == 2
    run_directory.Run(tmp_path / "run", config, {}).close()


def test_a_network_samples_and_trains_without_what_only_unix_has(tmp_path):
    """As on Windows: there are no modules of Unix, and text files are not in UTF-8."""
    program = (
        "import sys; sys.modules.update(dict.fromkeys(['fcntl', 'pwd', 'grp', 'resource', "
        "'termios'])); import main, select, signal; del select.poll, signal.SIGKILL; "
        "from attention_zoo.cli.main import main; import numpy as np\n"
        "assert main(['--mode=sample', '--model=ragan', '--weights=cifar10', '--num=1', "
        "f'--output={sys.argv[-1]}/a.png']) == 0\n"
        "import attention_zoo as az; images = np.zeros((4, 32, 32, 3), 'uint8')\n"
        "az.train('dcgan', images, steps=1, batch_size=2, width=4, run_dir=sys.argv[-1] + '/run')"
    )
    environment = {"LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    done = run(program, str(tmp_path), **environment)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "a.png").exists() and (tmp_path / "run" / "report.html").exists()
