"""TensorFlow without its noise, and Keras with the settings that the zoo needs."""

import contextlib
import logging
import os
import platform
import sys
import threading
import traceback

from .errors import UsageError

_LOCK = threading.Lock()

OPTIONAL = ("matplotlib", "pandas")  # of Keras, which imports them if they are installed
BACKENDS = ("jax", "torch", "openvino")  # packages of Keras' other backends
CONFIG = os.path.join("keras", "src", "backend", "config.py")  # the file that reads keras.json
X86 = ("x86_64", "AMD64")
KERAS = {"backend": "tensorflow", "image_data_format": "channels_last", "floatx": "float32"}


def import_tensorflow(lean=False):
    """Imports TensorFlow without the lines that its C++ code writes to stderr before a log level
    counts. Until it returns, nothing that this process writes to stderr appears.

    If Keras is not imported yet, it is imported with the settings of KERAS, whatever KERAS_BACKEND
    or keras.json says. If it is, and a setting differs, UsageError is raised.

    On x86 TensorFlow computes with oneDNN, unless the environment variable TF_ENABLE_ONEDNN_OPTS
    says 0. By itself it does so only on CPUs with AVX-512; with AVX2 alone oneDNN is faster too.

    lean: leave out what Keras imports for its own plots and tables, a quarter of the time;
    keras.visualization then says that matplotlib is missing.
    """
    open_streams()
    with _LOCK:
        is_first = "keras" not in sys.modules
        if is_first:
            os.environ["KERAS_BACKEND"] = KERAS["backend"]
        else:
            check_keras(dtype_policy=KERAS["floatx"])
        if is_first or "tensorflow" not in sys.modules:
            os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
            if platform.machine() in X86:
                os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
            with stderr_discarded(), _hidden(OPTIONAL if lean else ()):
                keras = _keras()  # first: TensorFlow reports its errors as its own
                import tensorflow as tf

                tf.config.list_physical_devices()
        if is_first:
            keras.config.set_image_data_format(KERAS["image_data_format"])
            keras.config.set_floatx(KERAS["floatx"])
        logging.getLogger("tensorflow").addFilter(_is_no_retracing)


def open_streams():
    """Opens the null device for each standard stream that is closed: else the next file that is
    opened takes its number, and with it the lines of C code."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))


def check_keras(**more):
    """Imports Keras; raises UsageError unless it has the settings of KERAS, and `more`."""
    import keras

    for name, value in {**KERAS, **more}.items():
        current = getattr(keras.config, name)()
        current = getattr(current, "name", current)  # of a policy
        if current != value:
            advice = f"call keras.config.set_{name}({value!r}) first"
            if name == "backend":
                advice = f"set KERAS_BACKEND={value} before Keras is imported"
            raise UsageError(f"Keras' {name} is {current!r}, but the zoo needs {value!r}: {advice}")


def _keras():
    """The module of Keras. Settings with which it cannot be imported raise UsageError."""
    try:
        import keras
    except Exception as error:  # of several kinds, by the setting
        *_, last = traceback.extract_tb(error.__traceback__)
        is_setting = os.path.normpath(last.filename).endswith(CONFIG)
        if not is_setting and getattr(error, "name", None) not in BACKENDS:  # the installation
            raise
        why = " ".join(str(error).split())
        raise UsageError(
            f"Keras cannot be imported ({why}): correct ~/.keras/keras.json, and let KERAS_BACKEND "
            "be tensorflow"
        ) from None
    return keras


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
def stderr_discarded():
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
