"""Two logical CPUs, so that a strategy of two replicas runs in the tests' own process; caches and
prepared data sets of their own, which go with them."""

import gc
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
import main  # noqa: E402, F401  makes the checkout the package attention_zoo

pytest.register_assert_rewrite("attention_zoo.tests.helpers")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as common.quiet sets it
HOMES = ("XDG_CACHE_HOME", "TFDS_DATA_DIR")


def pytest_configure():
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as a shell starts what runs behind it
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for name in HOMES:
        os.environ[name] = tempfile.mkdtemp()
    import keras  # noqa: F401
    import tensorflow as tf

    gc.freeze()  # what is imported lives as long as the process
    gc.set_threshold(50_000, 50, 50)

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)


def pytest_unconfigure():
    for name in HOMES:
        shutil.rmtree(os.environ[name], ignore_errors=True)


@pytest.fixture(scope="session")
def mirrored():
    """A strategy of two replicas, one for all: collectives of a second one mix up with its own."""
    import tensorflow as tf

    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


def run_without_graphs():
    """Runs functions as they are: making their graphs takes most of a short test's time. The slow
    tests of tests/test_contracts.py train every model in a graph."""
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


without_graphs = pytest.fixture(run_without_graphs)
eager = pytest.fixture(scope="module")(run_without_graphs)  # also what a module's fixtures make
