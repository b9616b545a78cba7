"""What sources of examples have in common, and their log lines about what they leave out."""

from absl import logging

from ..common.files import printable
from .table import DataError

NAMED = 10  # so many are named one by one; the rest is counted


class Skipped:
    """Counts examples that are left out, and logs the first ones with the reason. things: what the
    examples are, in the plural."""

    def __init__(self, things):
        self.things, self.count, self.line = things, 0, ""

    def add(self, name, reason):
        self.count += 1
        if self.count <= NAMED:
            logging.warning("skipped, %s: %s", printable(reason), printable(name))

    def report(self, total, none_left=""):
        """Logs how many of all things were left out, if any were; `line` says so from then on.
        none_left: the DataError that is raised if all were."""
        if self.count:
            self.line = f"skipped {self.count} of {total} {self.things}"
            logging.warning(self.line)
        if none_left and self.count == total:
            raise DataError(none_left)


class Source:
    """A split of a data set: its `key`, what identifies the examples; `size`, the default size of
    the pictures; and `examples(image_size)`, which yields a dict for each.

    root: its folder, or its name. skipped: the Skipped of the last reading. sizes: the smallest and
    the largest (width, height) that were read, where they are known. smaller: how many of them have
    a side below image_size.
    """

    root, skipped, sizes, smaller = "", None, (), 0

    def legacy_key(self):
        """The key that earlier versions gave."""
        return self.key

    def lines(self):
        """[(function of absl.logging, log line)] on what was found."""
        return []
