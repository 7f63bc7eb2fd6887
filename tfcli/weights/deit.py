"""Distilled DeiT checkpoints of transformers and timm: a ViT's, with a token and a head more.

Transformers' `DeiTForImageClassification` has the token but no head for it: that head is new after loading its file.
"""

from __future__ import annotations

from tfcli.weights.vit import convert, describe

__all__ = ["convert", "describe"]
