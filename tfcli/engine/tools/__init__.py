"""Describe, measure and check: what a user asks before a run."""
