"""From one language to another: cross-entropy with smoothed labels, and BLEU of what a search finds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, cast

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
from tfcli.tasks.text import TextObjective

MODES = ("torch", "t2t")

BleuTokenizer = Literal[
    "13a", "zh", "intl", "char", "none", "ja-mecab", "ko-mecab", "flores101", "flores200", "spBLEU-1K"
]
"""Of sacrebleu."""


def smoothed_loss(
    logits: Float[Tensor, "B N V"], target: Int[Tensor, "B N"], *, smoothing: float, mode: str = "torch"
) -> Float[Tensor, ""]:
    """Mean cross-entropy over the tokens whose target is not -100, their labels smoothed (Vaswani et al. 2017, 5.4).

    Args:
        smoothing: share of the target that is spread.
        mode: over what: torch, all tokens, the right one included; t2t, all others (tensor2tensor).
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
    """Translations of each sentence, best first.

    Args:
        source, valid: sentences, and what of them is no padding.
        start, stop: marks of a translation.
        beams: followed at a time; 1: the likeliest token each time.
        alpha: length penalty of the search.
        longer: by how many tokens a translation may be longer than its source (Vaswani et al. 2017, section 6.1), where
            `rules` do not say how long it may be.
        longest: tokens that the model takes; None: any number.
        rules: of the search.
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


class Translate(TextObjective):
    """Trains by teacher forcing; measures perplexity without smoothing, BLEU and chrF.

    Validation takes the likeliest token each time, which is quick; the test searches with a beam. Logs train/loss;
    under val/ and test/ what `TranslatedMetrics` computes.

    Args:
        net: a `Translator`.
        optim: makes an optimizer, called as `optim(net)`.
        schedule: the learning rate's factor, called as `schedule(step, total=..., epoch=...)`.
        label_smoothing, smoothing_mode: of the training loss; see `smoothed_loss`.
        beams, alpha, longer, search: of the search; see `translate`, whose `rules` are `search`.
        tokenize: sacrebleu's tokenizer.

    Attributes:
        signatures: of BLEU and chrF after a test.
        written: after a test, what was said of each row.
    """

    net_protocol = Translator
    main_figure = "bleu"
    next_command = 'tfcli sample latest --text "..."'

    def __init__(
        self,
        net: nn.Module,
        *,
        optim: Callable[..., torch.optim.Optimizer],
        schedule: Callable[..., float],
        label_smoothing: Rate = 0.1,
        smoothing_mode: Literal["torch", "t2t"] = "torch",
        beams: Count = 4,
        alpha: NotNegative = 0.6,
        longer: Natural = 50,
        search: Rules = WU,
        tokenize: Literal[
            "13a", "zh", "intl", "char", "none", "ja-mecab", "ko-mecab", "flores101", "flores200", "spBLEU-1K"
        ] = "13a",
    ):
        super().__init__(net, optim=optim, schedule=schedule)
        if smoothing_mode not in MODES:
            raise ValueError(f"`task.smoothing_mode` must be one of {', '.join(MODES)}, but is {smoothing_mode!r}.")
        self.label_smoothing, self.smoothing_mode = label_smoothing, smoothing_mode
        self.beams, self.alpha, self.longer, self.search = beams, alpha, longer, search
        self.measured = nn.ModuleDict({split: TranslatedMetrics(tokenize=tokenize) for split in ("val_", "test_")})
        self.signatures: dict[str, str] = {}
        self.written: list[str] = []
        self._texts: dict[str, tuple[list[str], list[str]]] = {}
        self._spell: Callable[[list[int]], str] | None = None
        self._marks = (0, 0)

    def setup_data(self, data: DataModule) -> None:
        """Take sources and translations as they are written, and how ids are spelled."""
        assert data.tokenizer is not None
        self._texts = {split: (rows["source"], rows["target"]) for split, rows in data.rows.items()}
        self._spell, self._marks = data.tokenizer.decode, (start_of(data.tokenizer), data.tokenizer.eos_id or 0)

    def baselines(self, data: DataModule) -> dict[str, float]:
        return translation_baselines(data)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        logits, target = self._read(batch), batch["target"]
        loss = smoothed_loss(logits, target, smoothing=self.label_smoothing, mode=self.smoothing_mode)
        self.average(loss, target)
        return loss

    def _read(self, batch: dict[str, Tensor]) -> Float[Tensor, "B N V"]:
        return self.net(batch["source"], batch["tokens"], valid=batch["valid"])

    def measure(self, split: str, batch: dict[str, Tensor]) -> None:
        start, stop = self._marks
        found = translate(
            cast(Translator, self.net), batch["source"], batch["valid"], start=start, stop=stop,
            beams=self.beams if self.trainer.testing else 1, alpha=self.alpha, longer=self.longer,
            longest=getattr(self.net, "context", None), rules=self.search,
        )  # fmt: skip
        assert self._spell is not None
        written = [self._spell(best[0].tokens) for best in found]
        sources, targets = self._texts[split]
        rows = batch["index"].tolist()
        self.metric(split).update(
            written,
            [targets[row] for row in rows],
            [sources[row] for row in rows],
            batch["index"],
            nats=nats(self._read(batch), batch["target"]),
            tokens=(batch["target"] >= 0).sum(1),
        )

    def on_test_epoch_end(self) -> None:
        super().on_test_epoch_end()
        metric = self.metric("test")
        self.signatures = dict(metric.signatures)
        self.written = [row[0] for row in metric.rows()]
