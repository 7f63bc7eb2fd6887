"""Compose and check a config, then build its parts."""
