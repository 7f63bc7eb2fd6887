"""One training run: its parts, its loop, what it keeps."""
