"""TensorFlow without its noise."""

import contextlib
import logging
import os
import sys
import threading

_LOCK = threading.Lock()


OPTIONAL = ("matplotlib", "pandas")  # of Keras, which imports them if they are installed


def import_tensorflow(lean=False):
    """Imports TensorFlow without the lines that its C++ code writes to stderr before a log level
    counts. Until it returns, nothing that this process writes to stderr appears.

    lean: leave out what Keras imports for its own plots and tables, a quarter of the time;
    keras.visualization then says that matplotlib is missing.
    """
    with _LOCK:
        if "tensorflow" not in sys.modules:
            os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
            with _stderr_discarded(), _hidden(OPTIONAL if lean else ()):
                import tensorflow as tf

                tf.config.list_physical_devices()
        logging.getLogger("tensorflow").addFilter(_is_no_retracing)


def _is_no_retracing(record):
    """False for TensorFlow's warning of frequent retracing. It counts functions of several models
    as one where Python gives them the same address."""
    return "triggered tf.function retracing" not in record.getMessage()


@contextlib.contextmanager
def _hidden(packages):
    """Has the imports of packages that are not imported yet fail."""
    packages = [name for name in packages if name not in sys.modules]
    sys.modules.update(dict.fromkeys(packages))
    try:
        yield
    finally:
        for name in packages:
            del sys.modules[name]


@contextlib.contextmanager
def _stderr_discarded():
    """Sends what is written to file descriptor 2 to nowhere."""
    try:
        if sys.stderr:
            sys.stderr.flush()
        kept = os.dup(2)
    except OSError:  # there is no stderr
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
