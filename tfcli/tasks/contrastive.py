"""Contrastive image-text training: the symmetric contrastive loss, retrieval and zero-shot classification.

Radford et al. 2021 (CLIP), section 2.3 and figure 3; the loss is Sohn's multi-class N-pair loss (2016) in both
directions.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from tfcli.bounds import Count, Natural
from tfcli.metrics.classification import ClassificationMetrics
from tfcli.metrics.info import Declared
from tfcli.metrics.retrieval import RetrievalMetrics
from tfcli.models.protocols import ImageTextEncoder
from tfcli.shapes import Float
from tfcli.tasks.baselines.classes import class_guesses
from tfcli.tasks.gather import all_gather_with_grad, ranks
from tfcli.tasks.objective import Objective
from tfcli.tasks.zeroshot import class_logits, encode_classes


def contrastive_loss(
    image: Float[Tensor, "B E"], text: Float[Tensor, "B E"], scale: Float[Tensor, ""] | float
) -> Float[Tensor, ""]:
    """Return the mean of two cross-entropies: of each image's text among all texts, and of each text's image.

    Args:
        image, text: embeddings of any norm; the rows with the same index are a pair.
        scale: factor on the cosines, the inverse of the temperature.
    """
    image, text = normalize(image.float(), dim=-1), normalize(text.float(), dim=-1)
    logits = scale * image @ text.mT
    label = torch.arange(len(image), device=image.device)
    return (cross_entropy(logits, label) + cross_entropy(logits.mT, label)) / 2


def gathered_contrastive_loss(
    image: Float[Tensor, "B E"], text: Float[Tensor, "B E"], scale: Float[Tensor, ""], *, rows: str = "own"
) -> Float[Tensor, ""]:
    """Return this rank's part of the loss over the joint batch of all ranks.

    Its mean over the ranks equals the loss of one process with the joint batch, and so do its gradients, since the
    embeddings are gathered with their gradients. All ranks need batches of the same size.

    Args:
        image, text: this rank's embeddings.
        scale: as in `contrastive_loss`.
        rows: own (a rank compares its own pairs with all: B x WB cosines) or all (each rank computes the whole loss).
    """
    if ranks()[1] == 1:
        return contrastive_loss(image, text, scale)
    image, text = normalize(image.float(), dim=-1), normalize(text.float(), dim=-1)
    images, texts = all_gather_with_grad(image), all_gather_with_grad(text)
    if rows == "all":
        return contrastive_loss(images, texts, scale)
    label = ranks()[0] * len(image) + torch.arange(len(image), device=image.device)
    return (cross_entropy(scale * image @ texts.mT, label) + cross_entropy(scale * text @ images.mT, label)) / 2


class Contrastive(Objective):
    """Contrastive training of an image encoder and a text encoder on pairs.

    Logs train/loss and train/scale (the inverse temperature at the end of the epoch); under val/ and test/ the figures
    of `RetrievalMetrics`, and for labelled batches those of `ClassificationMetrics` with the prefix zeroshot_. Each of
    the `evaluated` splits has the same number of validation loaders: a batch with `owner` has pairs, a batch with
    `label` is classified.

    With several GPUs, batch norms compute their statistics over all of them; on the CPU each rank uses its own, since
    PyTorch has no synchronised batch norm there.

    Args:
        net: model with a joint embedding space of images and texts.
        num_classes: K of the labelled samples; None or 0 where there are none.
        group_size: number of pairs over which the loss is evaluated.
        objective: as in `Objective`.

    Attributes:
        prompts: tokens (K, T, L) of each template of each class, from the data; None: no zero-shot figures.
        chance: after a test, the expected figures of a random order, by `chance/figure`.
    """

    net_protocol = ImageTextEncoder
    main_figure = "image_to_text_r1"
    prompts: Tensor | None

    def __init__(
        self, net: nn.Module, *, num_classes: Natural | None = None, group_size: Count = 256, **objective: Any
    ):
        super().__init__(net, **objective)
        self.chance: dict[str, float] = {}
        self.register_buffer("prompts", None, persistent=False)
        self.retrieved = {split: RetrievalMetrics(group_size=group_size) for split in ("val", "test")}
        kinds = {split: ClassificationMetrics(num_classes) for split in ("val_", "test_")} if num_classes else {}
        self.measured = nn.ModuleDict(kinds)
        self._classes: Tensor | None = None  # (K, E) during an evaluation

    @property
    def model(self) -> ImageTextEncoder:
        """`net`, with its type."""
        return cast(ImageTextEncoder, self.net)

    def figures(self, split: str) -> Declared:
        zeroshot = self._metric(split).declared if self.measured else {}
        titles = {name: "zero-shot" if name == "accuracy" else f"zero-shot, {i.title}" for name, i in zeroshot.items()}
        found = {f"zeroshot_{name}": replace(info, title=titles[name]) for name, info in zeroshot.items()}
        return self.retrieved[split].declared | found

    def guesses(self, data: Any) -> dict[str, float]:
        if not self.measured or self.prompts is None:
            return dict(self.chance)
        labels = data.labels("train"), data.labels("test")
        return self.chance | class_guesses(self._metric("test"), *labels, prefix="zeroshot_")

    def setup_data(self, data: Any) -> None:
        self.prompts = data.class_tokens

    def configure_model(self) -> None:
        if self.trainer.world_size > 1 and self.trainer.strategy.root_device.type == "cuda":
            self.net = nn.SyncBatchNorm.convert_sync_batchnorm(self.net)

    def optimizer_step(self, *args, **kwargs) -> None:
        super().optimizer_step(*args, **kwargs)
        self.model.clamp_scale()  # after the step, so that the gradient is whole below the limit

    # ---- training

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        image, text = self.model.encode_image(batch["image"]), self.model.encode_text(batch["tokens"])
        loss = gathered_contrastive_loss(image, text, self.model.scale)
        self.add(loss * len(image), len(image))
        return loss

    def on_train_epoch_end(self) -> None:
        sums = self.epoch_sums()
        if sums is not None:
            # Without the loggers: the engine writes the epoch's figures together with its checkpoint.
            figures = {"train/loss": sums[0] / sums[1], "train/scale": self.model.scale.detach()}
            self.log_dict(figures, logger=False)

    # ---- evaluation

    def on_validation_epoch_start(self) -> None:
        self._begin(self.evaluated)

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int, dataloader_idx: int = 0) -> None:
        loaders = len(self.trainer.num_val_batches)
        self._measure(self.evaluated[dataloader_idx * len(self.evaluated) // loaders], batch)

    def on_validation_epoch_end(self) -> None:
        for split in self.evaluated:  # may include the test set, for its curve; it chooses nothing
            figures = self.retrieved[split].compute(float(self.model.scale.detach()))
            if self._classes is not None and self.measured:
                metric = self._metric(split)
                figures |= {f"zeroshot_{name}": value for name, value in metric.compute().items()}
            self.log_dict({f"{split}/{name}": value for name, value in figures.items()})
        self._end(self.evaluated)

    def on_test_epoch_start(self) -> None:
        self._begin(("test",))

    def test_step(self, batch: dict[str, Tensor], batch_idx: int, dataloader_idx: int = 0) -> None:
        self._measure("test", batch)

    def on_test_epoch_end(self) -> None:
        pairs = self.retrieved["test"]
        scale = float(self.model.scale.detach())
        figures = self.test_figures("retrieval", partial(pairs.with_intervals, scale), partial(pairs.compute, scale))
        with self.left_out.guard("retrieval by chance"):
            self.chance = {f"chance/{name}": value for name, value in pairs.chance().items()}
        if self._classes is not None and self.measured:
            metric = self._metric("test")
            metric.sync(should_sync=self.trainer.world_size > 1)
            found = self.test_figures("zero-shot figures", metric.with_intervals, metric.compute)
            figures |= {f"zeroshot_{name}": figure for name, figure in found.items()}
            self.confusion = metric.confusion.cpu()
        self.test_results = {f"test/{name}": figure for name, figure in figures.items()}
        self._classes = None

    def on_predict_start(self) -> None:
        self._begin(())

    def predict_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """Return the zero-shot probabilities (B, K) of the classes, and the index of each row."""
        return {"probability": self._logits(batch["image"]).softmax(1), "index": batch["index"]}

    def _begin(self, splits: tuple[str, ...]) -> None:
        """Reset the metrics and encode the classes with the current weights."""
        self._end(splits)
        if self.prompts is not None:
            with torch.no_grad():
                self._classes = encode_classes(self.model.encode_text, self.prompts.to(self.device))

    def _end(self, splits: tuple[str, ...]) -> None:
        self._classes = None
        for split in splits:
            self.retrieved[split].reset()
            if self.measured:
                self._metric(split).reset()

    def _metric(self, split: str) -> ClassificationMetrics:
        return cast(ClassificationMetrics, self.measured[f"{split}_"])

    def _logits(self, image: Float[Tensor, "B C Y X"]) -> Float[Tensor, "B K"]:
        if self._classes is None:
            raise ValueError("`prompts` must be set to classify.")
        return class_logits(self.model, image, self._classes)

    def _measure(self, split: str, batch: dict[str, Tensor]) -> None:
        if "spare" in batch:
            return
        if "owner" in batch:
            image, text = self.model.encode_image(batch["image"]), self.model.encode_text(batch["tokens"])
            self.retrieved[split].update(image, batch["index"], text, batch["owner"])
        elif self._classes is not None and self.measured:
            logits = self._logits(batch["image"])
            self._metric(split).update(logits, batch["label"], cross_entropy(logits, batch["label"], reduction="none"))
