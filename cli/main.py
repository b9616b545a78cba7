"""The command line: one call of the library for each --mode (declared in cli/flags.py).

The imports at the top are few, so that `run` takes care of Ctrl-C before the others begin.
"""

import contextlib
import errno
import os
import select
import signal
import sys


def run(program="attention-zoo"):
    """Runs the command line as a process of its own; returns the exit status, as `main` does."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, interrupter())
    try:
        return main(program=program)
    except KeyboardInterrupt:  # a second one
        return 130
    finally:
        if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # Python's end would print a traceback


def interrupter():
    """A handler of SIGINT that raises KeyboardInterrupt, but ends the process at once during an
    import: libraries turn an exception there into other errors, or lose it."""
    with contextlib.suppress(OSError):
        stderr = os.dup(2)  # as it is now: 2 goes nowhere while TensorFlow is imported

    def interrupt(number, frame):
        while frame is not None:
            if frame.f_code.co_filename.startswith("<frozen importlib"):
                with contextlib.suppress(OSError, NameError):
                    os.write(stderr, b"interrupted\n")
                os._exit(130)
            frame = frame.f_back
        raise KeyboardInterrupt

    return interrupt


def main(arguments=None, program="main.py"):
    """Runs one command; returns the exit status.

    0: done, also where nobody reads the output any more. 1: the run failed. 2: a user's mistake, or
    a full disk. 130: interrupted. SIGTERM ends a training, and the process, with 0.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    try:
        status = execute(arguments, program)
        sys.stdout.flush()
    except Exception as error:
        if isinstance(error, BrokenPipeError) and reader_gone():
            status = 0
        else:
            status = status_of(error)
        if status is None:
            raise
        if status:
            complain(f"{program}: {' '.join(str(error).split())}")
    if not flushed():
        discard_stdout()
    return status


def execute(arguments, program):
    """Parses the arguments and runs their mode; returns the exit status, or raises."""
    mode = None
    try:
        from . import logs, parser

        try:
            mode, given = parser.parse(arguments, program)
        except SystemExit:  # --help
            return 0
        with logs.plain_lines(program):
            dispatch(mode, given)
    except KeyboardInterrupt:
        goes_on = ": the same command goes on from here" if mode in ("train", "study") else ""
        complain(f"interrupted{goes_on}")
        return 130
    return 0


def dispatch(mode, given):
    import importlib

    importlib.import_module(f"..modes.{mode}", __package__).run(namespace(mode, given))


def namespace(mode, given):
    import argparse

    from . import flags

    values = {
        name: [] if flag.kind == "repeated" else flag.default for name, flag in flags.FLAGS.items()
    }
    return argparse.Namespace(mode=mode, **{**values, **given})


def parse(arguments):
    from . import parser

    return namespace(*parser.parse(arguments))


def status_of(error):
    """2 for a user's mistake or a full disk, 1 for what stops a run (NaN, a lost worker), None for
    our defects."""
    from ..common.errors import UsageError

    full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
    if isinstance(error, UsageError) or full:
        return 2
    callbacks = sys.modules.get(__package__.removesuffix("cli") + "trainers.callbacks")
    if callbacks and isinstance(error, callbacks.NotFinite) or isinstance(error, OSError):
        return 1
    return None


def complain(line):
    """Prints a line to stderr, if anybody reads it."""
    with contextlib.suppress(OSError):
        print(line, file=sys.stderr, flush=True)


def reader_gone():
    """Has the reader of stdout or stderr closed its end of the pipe?"""
    if not hasattr(select, "poll"):  # Windows
        return True
    poll = select.poll()
    for number in (1, 2):
        poll.register(number, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def flushed():
    """Is stdout free of output that cannot be written?"""
    try:
        sys.stdout.flush()
    except OSError:
        return False
    return True


def discard_stdout():
    """Sends what stdout still holds to nowhere: Python would complain of it at its end."""
    with contextlib.suppress(OSError, ValueError):  # stdout may be no file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
