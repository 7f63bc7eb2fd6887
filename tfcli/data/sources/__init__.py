"""Sources: sets found and read, in the layouts in use."""
