"""The log lines about examples that a data set leaves out."""

from absl import logging

NAMED = 10  # so many are named one by one; the rest is counted


class Skipped:
    """Counts examples that are left out for one reason, and logs the first ones by name."""

    def __init__(self, reason):
        self.reason, self.count = reason, 0

    def add(self, name):
        self.count += 1
        if self.count <= NAMED:
            logging.warning("skipped, %s: %s", self.reason, name)

    def report(self, total, things):
        """Logs how many of all things were left out, if any were."""
        if self.count:
            logging.warning("skipped %d of %d %s", self.count, total, things)
