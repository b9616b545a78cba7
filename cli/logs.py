"""Log lines of the command line: the messages alone, on stderr."""

import contextlib
import logging
import sys
from pathlib import Path

import absl.flags
import absl.logging

from ..common.files import user_path

ROOT = Path(__file__).parents[1]


@contextlib.contextmanager
def plain_lines(program):
    """Shows absl's log lines on stderr as plain text: those of this package from INFO on, of other
    packages errors only. --v and --verbosity set one level for all; --log_dir writes to a file."""
    flags, logger = absl.flags.FLAGS, absl.logging.get_absl_logger()
    before = absl.logging.get_verbosity()
    chosen = not flags["verbosity"].using_default_value
    handler = absl.logging.PythonHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    # under Bazel absl's default is a folder: only one that is given counts
    folder = None if flags["log_dir"].using_default_value else flags.log_dir
    if not flags["showprefixforinfo"].using_default_value or folder:
        handler.setFormatter(absl.logging.PythonFormatter())
    if folder:
        handler.start_logging_to_file(program.removesuffix(".py"), str(user_path(folder)))
    if not chosen:
        absl.logging.set_verbosity(absl.logging.INFO)
        handler.addFilter(lambda record: record.levelno >= logging.ERROR or _is_ours(record))
    logger.addHandler(handler)
    propagates, logger.propagate = logger.propagate, False  # other handlers would print it again
    try:
        yield
    finally:
        logger.propagate = propagates
        logger.removeHandler(handler)
        handler.close()
        absl.logging.set_verbosity(before)


def _is_ours(record):
    """True if a record is from a file of this package, not of an environment in its folder."""
    path = Path(record.pathname)
    return path.is_relative_to(ROOT) and "site-packages" not in path.relative_to(ROOT).parts
