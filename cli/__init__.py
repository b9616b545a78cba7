"""The command line: flags, and one call of the library for each --mode."""
