"""Protocols of models: tasks and probes use these types, never a family."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from tfcli.shapes import Bool, Float, Int


@dataclass
class Features:
    """The output of an encoder.

    Attributes:
        tokens: tokens of the last layer; in a convolutional network the cells of the last map, row by row.
        pooled: one vector for each sample, the input of the task's head; its width may differ from the tokens'.
    """

    tokens: Float[Tensor, "B N D"]
    pooled: Float[Tensor, "B E"]


@runtime_checkable
class ImageEncoder(Protocol):
    """A model that maps images to features."""

    def features(self, image: Float[Tensor, "B C Y X"]) -> Features: ...


@runtime_checkable
class Classifier(Protocol):
    """A model that maps images to class scores. Its `head` is replaced when the classes differ.

    `layers` is the number of blocks, for layer-wise learning rate decay: `layer_of(name)` is the layer of a parameter,
    from 0 (stem) to `layers` + 1 (head). A model, or any part of it, lists in `undecayed` its own parameters without
    weight decay, other than norms and biases.
    """

    def __call__(self, image: Float[Tensor, "B C Y X"]) -> Float[Tensor, "B K"]: ...

    @property
    def layers(self) -> int: ...

    def layer_of(self, name: str) -> int: ...


class MaskedModel(Protocol):
    """A model that maps texts to features, with the two heads of BERT's pre-training."""

    def features(
        self, tokens: Int[Tensor, "B N"], segments: Int[Tensor, "B N"], valid: Bool[Tensor, "B N"]
    ) -> Features: ...

    def masked_logits(self, hidden: Float[Tensor, "*rows D"]) -> Float[Tensor, "*rows V"]: ...

    def next_logits(self, pooled: Float[Tensor, "B D"]) -> Float[Tensor, "B 2"]: ...


class TextClassifier(Protocol):
    """A model that maps framed texts to the output of its head: (B, K), (B), (B, C), (B, N, 2) or (B, N, K)."""

    def classify(self, tokens: Int[Tensor, "B *C N"], **more: Tensor) -> Tensor: ...


@runtime_checkable
class LanguageModel(Protocol):
    """A model that maps tokens to the logits of the next one; with a cache, the tokens continue the cached ones."""

    def __call__(self, tokens: Int[Tensor, "B N"], cache: Any = None) -> Float[Tensor, "B N V"]: ...

    def logits(self, hidden: Float[Tensor, "*rows D"]) -> Float[Tensor, "*rows V"]: ...


@runtime_checkable
class Translator(Protocol):
    """A model that maps a source sentence to the logits of its translation.

    `begin` encodes the source once and returns a state; `step` maps one token of each translation to the logits of the
    next, and updates the state. A state has `reorder(rows)`, for beam search.
    """

    def __call__(
        self, source: Int[Tensor, "B M"], tokens: Int[Tensor, "B N"], *, valid: Bool[Tensor, "B M"] | None = None
    ) -> Float[Tensor, "B N V"]: ...

    def begin(self, source: Int[Tensor, "B M"], valid: Bool[Tensor, "B M"] | None = None) -> Any: ...

    def step(self, token: Int[Tensor, "B"], state: Any) -> Float[Tensor, "B V"]: ...


@runtime_checkable
class ImageTextEncoder(Protocol):
    """A model with a joint embedding space of images and texts, in which the cosine measures how well they fit.

    `features(image).pooled` is the image before `project`; the embeddings are not normalised. `scale` multiplies the
    cosines, and `clamp_scale` limits it. Texts are token ids padded to `text.context`.
    """

    embed_width: int

    @property
    def scale(self) -> Float[Tensor, ""]: ...

    def features(self, image: Float[Tensor, "B C Y X"]) -> Features: ...

    def project(self, pooled: Float[Tensor, "B D"]) -> Float[Tensor, "B E"]: ...

    def encode_image(self, image: Float[Tensor, "B C Y X"]) -> Float[Tensor, "B E"]: ...

    def encode_text(self, tokens: Int[Tensor, "B N"]) -> Float[Tensor, "B E"]: ...

    def clamp_scale(self) -> None: ...
