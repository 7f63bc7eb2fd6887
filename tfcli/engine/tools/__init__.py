"""Tools for use before a run: describe, bench, doctor, preview."""
