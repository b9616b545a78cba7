"""The error that a user can correct."""


class UsageError(ValueError):
    """An argument that cannot be used as given. The message is one sentence that says what to do;
    the command line prints it and exits with 2."""
