"""Two logical CPUs, so that a strategy of two replicas runs in the tests' own process."""

import os
import tempfile

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def pytest_configure():
    os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp()  # no weights of Inception's at hand
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)


@pytest.fixture(scope="session")
def mirrored():
    """A strategy of two replicas, one for all: collectives of a second one mix up with its own."""
    import tensorflow as tf

    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
