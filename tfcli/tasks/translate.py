"""Machine translation: training with smoothed labels, and BLEU of the translations that beam search finds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from tfcli.bounds import Count, Natural, NotNegative, Rate
from tfcli.data.module import DataModule
from tfcli.data.views.translations import start_of
from tfcli.decoding.sampling import greedy
from tfcli.decoding.search import WU, Hypothesis, Rules, beam_search
from tfcli.metrics.translated import TranslatedMetrics
from tfcli.models.protocols import Translator
from tfcli.shapes import Bool, Float, Int
from tfcli.tasks.baselines.texts import translation_baselines
from tfcli.tasks.lm import nats
from tfcli.tasks.objective import MeasuredObjective

MODES = ("torch", "t2t")

BleuTokenizer = Literal[
    "13a", "zh", "intl", "char", "none", "ja-mecab", "ko-mecab", "flores101", "flores200", "spBLEU-1K"
]
"""Tokenizer of sacrebleu."""


def smoothed_loss(
    logits: Float[Tensor, "B N V"], target: Int[Tensor, "B N"], *, smoothing: float, mode: str = "torch"
) -> Float[Tensor, ""]:
    """Return the mean cross-entropy with label smoothing over targets that are not -100 (Vaswani et al. 2017, 5.4).

    Args:
        smoothing: share of the target that is spread over the vocabulary.
        mode: torch: spread over all tokens, the target included; t2t: over all others (tensor2tensor).
    """
    logits, target = logits.flatten(0, 1).float(), target.flatten()
    if mode == "torch":
        return cross_entropy(logits, target, label_smoothing=smoothing)
    logs = logits.log_softmax(-1)
    right = cross_entropy(logits, target, reduction="sum")
    others = -logs[target >= 0].sum() - right
    spread = smoothing / (logits.shape[1] - 1)
    return ((1 - smoothing) * right + spread * others) / (target >= 0).sum()


@torch.no_grad()
def translate(
    net: Translator,
    source: Int[Tensor, "B M"],
    valid: Bool[Tensor, "B M"],
    *,
    start: int,
    stop: int,
    beams: int,
    alpha: float = 0.6,
    longer: int = 50,
    longest: int | None = None,
    rules: Rules = WU,
) -> list[list[Hypothesis]]:
    """Return the translations of each sentence, best first.

    Args:
        source, valid: source sentences, and False for padding.
        start, stop: ids of the start and end marks of a translation.
        beams: number of beams; 1: greedy decoding.
        alpha: length penalty of the search.
        longer: how many tokens a translation may be longer than its source (Vaswani et al. 2017, section 6.1), if
            `rules` set no limit.
        longest: the model's limit in tokens; None: there is none.
        rules: rules of the search.
    """
    state = net.begin(source, valid)
    logits = net.step(torch.full((len(source),), start, device=source.device), state)
    limits = valid.sum(1) + longer if rules.longest is None else torch.full_like(valid.sum(1), rules.longest)
    if longest is not None:
        limits = limits.clamp(max=longest)

    def step(token: Tensor) -> Tensor:
        return net.step(token, state)

    if beams == 1 and not (rules.banned or rules.ends):
        rows = greedy(logits, step, limits=limits, stop=[stop])
        return [
            [Hypothesis(row, float("nan"), float("nan"), len(row) < int(n))]
            for row, n in zip(rows, limits, strict=True)
        ]
    return beam_search(logits, step, state.reorder, beams=beams, limits=limits, stop=[stop], alpha=alpha, rules=rules)


class Translate(MeasuredObjective):
    """Machine translation by teacher forcing; the figures are perplexity without label smoothing, BLEU and chrF.

    Validation decodes greedily, which is fast; the test uses beam search. Logs train/loss, and under val/ and test/ the
    figures of `TranslatedMetrics`.

    Args:
        net: a `Translator`.
        label_smoothing, smoothing_mode: label smoothing of the training loss; see `smoothed_loss`.
        beams, alpha, longer, search: beam search; see `translate`, whose `rules` are `search`.
        tokenize: sacrebleu's tokenizer.
        objective: as in `Objective`.

    Attributes:
        signatures: sacrebleu's signatures of BLEU and chrF after a test.
        written: the translation of each test sentence.
    """

    net_protocol = Translator
    main_figure = "bleu"
    next_command = 'tfcli sample latest --text "..."'

    def __init__(
        self,
        net: nn.Module,
        *,
        label_smoothing: Rate = 0.1,
        smoothing_mode: Literal["torch", "t2t"] = "torch",
        beams: Count = 4,
        alpha: NotNegative = 0.6,
        longer: Natural = 50,
        search: Rules = WU,
        tokenize: BleuTokenizer = "13a",
        **objective: Any,
    ):
        super().__init__(net, **objective)
        if smoothing_mode not in MODES:
            raise ValueError(f"`task.smoothing_mode` must be one of {', '.join(MODES)}, but is {smoothing_mode!r}.")
        self.label_smoothing, self.smoothing_mode = label_smoothing, smoothing_mode
        self.beams, self.alpha, self.longer, self.search = beams, alpha, longer, search
        self.measured = nn.ModuleDict({split: TranslatedMetrics(tokenize=tokenize) for split in ("val_", "test_")})
        self.signatures: dict[str, str] = {}
        self.written: list[str] = []
        self._texts: dict[str, tuple[list[str], list[str]]] = {}
        self._decode: Callable[[list[int]], str] | None = None
        self._start_stop = (0, 0)

    def setup_data(self, data: DataModule) -> None:
        """Set source and target texts, and the tokenizer's decoder and marks."""
        assert data.tokenizer is not None
        self._texts = {split: (rows["source"], rows["target"]) for split, rows in data.rows.items()}
        self._decode, self._start_stop = data.tokenizer.decode, (start_of(data.tokenizer), data.tokenizer.eos_id or 0)

    def baselines(self, data: DataModule) -> dict[str, float]:
        return translation_baselines(data)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        logits, target = self._logits(batch), batch["target"]
        loss = smoothed_loss(logits, target, smoothing=self.label_smoothing, mode=self.smoothing_mode)
        self.average(loss, target)
        return loss

    def _logits(self, batch: dict[str, Tensor]) -> Float[Tensor, "B N V"]:
        return self.net(batch["source"], batch["tokens"], valid=batch["valid"])

    def measure(self, split: str, batch: dict[str, Tensor]) -> None:
        start, stop = self._start_stop
        found = translate(
            cast(Translator, self.net), batch["source"], batch["valid"], start=start, stop=stop,
            beams=self.beams if self.trainer.testing else 1, alpha=self.alpha, longer=self.longer,
            longest=getattr(self.net, "context", None), rules=self.search,
        )  # fmt: skip
        assert self._decode is not None
        written = [self._decode(best[0].tokens) for best in found]
        sources, targets = self._texts[split]
        rows = batch["index"].tolist()
        self.metric(split).update(
            written,
            [targets[row] for row in rows],
            [sources[row] for row in rows],
            batch["index"],
            nats=nats(self._logits(batch), batch["target"]),
            tokens=(batch["target"] >= 0).sum(1),
        )

    def on_test_epoch_end(self) -> None:
        super().on_test_epoch_end()
        metric = self.metric("test")
        self.signatures = dict(metric.signatures)
        self.written = [row[0] for row in metric.rows()]
