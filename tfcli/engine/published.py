from __future__ import annotations


def published_for(model, data, weights=None, metric="test/accuracy"):
    return []
