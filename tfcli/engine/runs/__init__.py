"""What is kept of a run: its folder, record, figures, and the signals that reach it."""
