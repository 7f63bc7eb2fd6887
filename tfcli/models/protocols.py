"""Protocols of models: tasks and probes are typed by these, never by a family."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from tfcli.shapes import Bool, Float, Int


@dataclass
class Features:
    """An encoder's output.

    Attributes:
        tokens: the last layer's tokens; a convolutional net's are the cells of its last map, row by row.
        pooled: one vector a sample, the input of the task's head; its width may differ from the tokens'.
    """

    tokens: Float[Tensor, "B N D"]
    pooled: Float[Tensor, "B E"]


@runtime_checkable
class ImageEncoder(Protocol):
    """Images in, features out."""

    def features(self, image: Float[Tensor, "B C Y X"]) -> Features: ...


@runtime_checkable
class Classifier(Protocol):
    """Images in, one score a class out. `head` is what is replaced when the classes differ.

    `layers` counts the blocks, for learning rates that decay with depth: `layer_of(name)` is the layer of a
    parameter, 0 for the stem to `layers` + 1 for the head. A model, or any part of it, names in `undecayed` its own
    parameters that weight decay leaves alone, if it has some besides norms and biases.
    """

    def __call__(self, image: Float[Tensor, "B C Y X"]) -> Float[Tensor, "B K"]: ...

    @property
    def layers(self) -> int: ...

    def layer_of(self, name: str) -> int: ...


class MaskedModel(Protocol):
    """Texts in, tokens and a vector for the first of them out, and what the heads of pre-training make of these."""

    def features(
        self, tokens: Int[Tensor, "B N"], segments: Int[Tensor, "B N"], valid: Bool[Tensor, "B N"]
    ) -> Features: ...

    def masked_logits(self, hidden: Float[Tensor, "*rows D"]) -> Float[Tensor, "*rows V"]: ...

    def next_logits(self, pooled: Float[Tensor, "B D"]) -> Float[Tensor, "B 2"]: ...


class TextClassifier(Protocol):
    """Framed texts in, what the task's head says out: (B, K), (B), (B, C), (B, N, 2) or (B, N, K)."""

    def classify(self, tokens: Int[Tensor, "B *C N"], **more: Tensor) -> Tensor: ...


@runtime_checkable
class LanguageModel(Protocol):
    """Tokens in, logits of what follows each out; with a cache, of the tokens after those it holds."""

    def __call__(self, tokens: Int[Tensor, "B N"], cache: Any = None) -> Float[Tensor, "B N V"]: ...

    def logits(self, hidden: Float[Tensor, "*rows D"]) -> Float[Tensor, "*rows V"]: ...


@runtime_checkable
class Translator(Protocol):
    """A sentence in one language in, logits of its translation out.

    `begin` reads the source once; `step` then takes one token of each translation and gives the logits of the next.
    What is between them has `reorder(rows)`, for beam search.
    """

    def __call__(
        self, source: Int[Tensor, "B M"], tokens: Int[Tensor, "B N"], *, valid: Bool[Tensor, "B M"] | None = None
    ) -> Float[Tensor, "B N V"]: ...

    def begin(self, source: Int[Tensor, "B M"], valid: Bool[Tensor, "B M"] | None = None) -> Any: ...

    def step(self, token: Int[Tensor, "B"], state: Any) -> Float[Tensor, "B V"]: ...


@runtime_checkable
class ImageTextEncoder(Protocol):
    """Images and texts into one space, where the cosine says how well they fit.

    `features(image).pooled` is the image before `project`; neither embedding is normalised. `scale` multiplies the
    cosines, and `clamp_scale` holds it below its limit. Texts are ids padded to `text.context`.
    """

    embed_width: int

    @property
    def scale(self) -> Float[Tensor, ""]: ...

    def features(self, image: Float[Tensor, "B C Y X"]) -> Features: ...

    def project(self, pooled: Float[Tensor, "B D"]) -> Float[Tensor, "B E"]: ...

    def encode_image(self, image: Float[Tensor, "B C Y X"]) -> Float[Tensor, "B E"]: ...

    def encode_text(self, tokens: Int[Tensor, "B N"]) -> Float[Tensor, "B E"]: ...

    def clamp_scale(self) -> None: ...
