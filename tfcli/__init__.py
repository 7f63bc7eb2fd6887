"""tfcli: one transformer core, many short family files, and a command line over all of it."""

__version__ = "0.1.0"
