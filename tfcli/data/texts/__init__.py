"""Texts on their way from rows to batches."""
