"""Values that layers find while a block of code is being run."""

import contextlib
import threading


class Scoped(threading.local):
    """`value` is None but within `set`, in the thread that runs its block: the replicas of a
    strategy are traced in threads of their own."""

    value = None

    @contextlib.contextmanager
    def set(self, value):
        """Within the context `value` is this one."""
        before, self.value = self.value, value
        try:
            yield
        finally:
            self.value = before
