"""The command line: `main` runs one command, `run` does so as a process of its own.

Flags are declared in cli/flags.py; cli/commands.py has a function for each mode. What is imported
at the top here is little, so that `run` takes care of Ctrl-C before the rest is.
"""

import contextlib
import errno
import os
import select
import sys

from . import signals

RESUMED = ("train", "study")  # modes whose command goes on where it ended
GOES_ON = ": the same command goes on from here"


def run(program="attention-zoo"):
    """Runs the command line as a process of its own; returns the exit status, as `main` does."""
    with signals.interruptible():
        try:
            return main(program=program)
        except KeyboardInterrupt:  # a second one
            return 130


def main(arguments=None, program="main.py"):
    """Runs one command; returns the exit status.

    0: done, even if nobody reads the output any more. 1: the run failed, or the reader of its
    progress has gone. 2: a user's mistake, or a full disk. 130: interrupted. SIGTERM ends a
    training with 0, one of several workers with 130.
    """
    from ..common.quiet import open_streams

    open_streams()
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    for stream in (sys.stdout, sys.stderr):  # names of files need not be UTF-8
        with contextlib.suppress(AttributeError, ValueError):  # of other streams, and closed ones
            stream.reconfigure(errors="backslashreplace")
    try:
        status = execute(arguments, program)
        sys.stdout.flush()
    except Exception as error:
        if isinstance(error, BrokenPipeError) and reader_gone():
            status = 1 if in_library(error) else 0
        else:
            status = status_of(error)
            if status is None:
                raise
            complain(f"{program}: {' '.join(str(error).split())}")
    if not flushed():
        discard_stdout()
    return status


def execute(arguments, program):
    """Parses the arguments and runs their mode; returns the exit status, or raises."""
    from ..common.errors import UsageError

    mode = None
    try:
        try:
            from . import logs, parser
        except ModuleNotFoundError as error:
            raise UsageError(
                f"{error.name} is not installed for this Python: activate its environment (source "
                ".venv/bin/activate), or install: python -m pip install -r requirements.txt"
            ) from None
        try:
            mode, given = parser.parse(arguments, program)
        except SystemExit:  # --help, --version
            return 0
        with logs.plain_lines(program), contextlib.ExitStack() as stack:
            if mode in RESUMED:
                status = 130 if given.get("strategy") == "multi_worker" else 0
                stack.enter_context(signals.terminable(f"stopped by SIGTERM{GOES_ON}", status))
            dispatch(mode, given, arguments)
    except KeyboardInterrupt:
        complain(f"interrupted{GOES_ON if mode in RESUMED else ''}")
        return 130
    except SystemExit as end:
        complain(f"stopped by SIGTERM{GOES_ON}")
        return end.code
    return 0


def dispatch(mode, given, arguments):
    """Runs a mode."""
    from .commands import COMMANDS

    COMMANDS[mode](given, arguments)


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
    """True if the reader of stdout or stderr has closed its end of the pipe."""
    if not hasattr(select, "poll"):  # Windows
        return True
    poll = select.poll()
    for number in (1, 2):
        poll.register(number, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def in_library(error):
    """True if an error was raised while the library worked, not while a result was printed."""
    root, trace = __package__.removesuffix("cli"), error.__traceback__
    while trace is not None:
        room = trace.tb_frame.f_globals.get("__package__") or ""
        if room.startswith(root) and room != __package__:
            return True
        trace = trace.tb_next
    return False


def flushed():
    """False if stdout holds output that cannot be written."""
    try:
        sys.stdout.flush()
    except OSError:
        return False
    return True


def discard_stdout():
    """Drops the output that stdout still holds: Python would report it at its end."""
    with contextlib.suppress(OSError, ValueError):  # stdout may be no file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
