"""A run as it is kept: its folder, record, figures, and the signals that reach it."""
