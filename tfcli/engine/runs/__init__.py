"""Files of a run (its folder, record and figures) and the handling of signals."""
