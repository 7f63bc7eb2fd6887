"""One training run: its parts, its loop, its checkpoints, loggers and report."""
