"""Frozen features, and the heads that are measured on them."""
