"""SIGINT and SIGTERM, before the library's own handlers, which it has while it trains."""

import contextlib
import os
import signal


class Handler:
    """A signal handler that raises `error`, but during an import ends the process at once, with
    `line` on stderr and the exit status: libraries turn an exception there into other errors, or
    lose it."""

    def __init__(self, line, status, error):
        self.line, self.status, self.error = line, status, error
        try:
            self.stderr = os.dup(2)  # as it is now: 2 goes nowhere while TensorFlow is imported
        except OSError:
            self.stderr = None

    def __call__(self, number, frame):
        while frame is not None:
            if frame.f_code.co_filename.startswith("<frozen importlib"):
                if self.stderr is not None:
                    with contextlib.suppress(OSError):
                        os.write(self.stderr, f"{self.line}\n".encode())
                os._exit(self.status)
            frame = frame.f_back
        raise self.error

    def close(self):
        if self.stderr is not None:
            os.close(self.stderr)


@contextlib.contextmanager
def interruptible():
    """Has Ctrl-C raise KeyboardInterrupt, without a traceback during imports and at Python's end,
    unless SIGINT is ignored (nohup, a job in the background)."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        yield
        return
    signal.signal(signal.SIGINT, Handler("interrupted", 130, KeyboardInterrupt()))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextlib.contextmanager
def terminable(line, status):
    """Has SIGTERM raise SystemExit(status), if this is the main thread."""
    handler = Handler(line, status, SystemExit(status))
    try:
        before = signal.signal(signal.SIGTERM, handler)
    except ValueError:
        before = None
    try:
        yield
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)
        handler.close()
