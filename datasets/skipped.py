"""What a data set leaves out, said on stderr."""

import sys

NAMED = 10  # what is left out is named one by one up to here; the rest is counted


class Skipped:
    """Counts what is left out for one reason and names the first of it."""

    def __init__(self, reason):
        self.reason, self.count = reason, 0

    def add(self, name):
        self.count += 1
        if self.count <= NAMED:
            print(f"skipped, {self.reason}: {name}", file=sys.stderr)

    def report(self, total, things):
        """Says how many of all the things were left out, if any were."""
        if self.count:
            print(f"skipped {self.count} of {total} {things}", file=sys.stderr)
