"""From what was typed to a checked config, and to built parts."""
