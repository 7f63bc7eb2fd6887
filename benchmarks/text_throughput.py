"""Tokens per second of our GPT through the whole trainer, beside a bare PyTorch loop over transformers' GPT-2.

    python benchmarks/text_throughput.py [--quick] [--json] [--threads 2] [--clock wall|cpu] [--only PART]

Ours is `tfcli train`: a composed config, the data module, callbacks, metrics and CSV logger, in this process. The other
is what a careful person writes: transformers' GPT-2 of the same size in train mode with its fused attention,
cross-entropy of the flattened logits, gradients clipped to a norm of 1, AdamW (the faster of PyTorch's default and
fused), windows of tokens already in memory. Both run in one process in turns; `turns.py` says how they are timed.

Then 256 tokens are sampled with keys and values kept and without, and a few more after them.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from pathlib import Path
from statistics import median

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from transformers import GPT2Config, GPT2LMHeadModel

sys.path.insert(0, str(Path(__file__).parents[1]))
from turns import CLOCKS, Bare, compare, faster, seconds, set_clock

from tfcli.decoding.sampling import Sampler, generate
from tfcli.engine.config.build import build
from tfcli.engine.config.compose import compose
from tfcli.engine.use.sample import Reader
from tfcli.tasks.lm import CausalLM

AIMS = {("small", "auto"): 1.2, ("large", "auto"): 1.2, "sampling": 5.0}


@dataclass(frozen=True)
class Size:
    """A model and its batches. `turn` is the number of steps of one side before the other's turn."""

    name: str
    width: int
    depth: int
    heads: int
    context: int
    tokenizer: str
    vocab_size: int | None
    batch: int
    turn: int
    turns: int

    @property
    def overrides(self) -> list[str]:
        shape = [f"model.{name}={getattr(self, name)}" for name in ("width", "depth", "heads", "context")]
        vocabulary = [
            f"model.tokenizer.{k}={v}" for k, v in (("kind", self.tokenizer), ("vocab_size", self.vocab_size)) if v
        ]
        return ["model=gpt", "data=text", *shape, *vocabulary, f"data.batch_size={self.batch}", "data.baseline=false"]


SMALL = Size("small", 128, 4, 4, 256, "chars", None, batch=8, turn=10, turns=12)
LARGE = Size("large", 384, 6, 6, 256, "byte_bpe", 4096, batch=8, turn=4, turns=8)


def write_text(root: Path, *, characters: int = 600_000) -> None:
    """A text of made-up words, enough for the measurement and for 4,096 pieces."""
    draw = np.random.default_rng(0)
    syllables = [c + v + e for c in "bdfgklmnprstvz" for v in "aeiou" for e in ("", "n", "r", "s")]
    words = ["".join(draw.choice(syllables, draw.integers(1, 4))) for _ in range(6000)]
    chances = 1 / np.arange(1, len(words) + 1)
    text = " ".join(draw.choice(words, characters // 5, p=chances / chances.sum()))
    root.mkdir(parents=True)
    for split, part in (("train", text[: characters * 9 // 10]), ("val", text[-4000:-2000]), ("test", text[-2000:])):
        (root / f"{split}.txt").write_text(part.replace(f" {words[0]} ", ".\n"), encoding="utf-8")


def bare(size: Size, vocab_size: int, adamw: str) -> Bare:
    """The bare loop over transformers' GPT-2, on one of eight batches after the other."""
    torch.manual_seed(0)
    drops = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    shape = {"n_embd": size.width, "n_layer": size.depth, "n_head": size.heads, "n_positions": size.context}
    net = GPT2LMHeadModel(
        GPT2Config(vocab_size=vocab_size, **shape, **drops, use_cache=False, bos_token_id=None, eos_token_id=None)
    )
    windows = cycle(torch.randint(vocab_size, (8, size.batch, size.context + 1)))

    def loss() -> torch.Tensor:
        tokens = next(windows)
        logits = net(tokens[:, :-1]).logits
        return cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())

    return Bare(net, loss, adamw=adamw, lr=1e-3, weight_decay=0.1)


def vocabulary(size: Size, common: list[str]) -> int:
    """How many tokens ours will have."""
    from tfcli.engine.loading.adopt import make_tokenizer

    config = compose("train", [*size.overrides, *common]).config
    data = build(config.data)
    tokenizer = make_tokenizer(config, None, lambda: data.texts("train"))
    assert tokenizer is not None
    return tokenizer.vocab_size


def sampling(*, times: int = 5) -> list[dict]:
    """Tokens per second of the small model, keys and values kept or not, in turns: of 256 tokens, and of some more."""
    overrides = [o for o in SMALL.overrides if not o.startswith("model.context")]
    config = compose("train", [*overrides, "model.context=288", "model.vocab_size=67"]).config
    torch.manual_seed(0)
    net = build(config.model).eval()

    def took(prompt: int, count: int, cached: bool) -> float:
        reader = Reader(net, context=288, cached=cached)
        tokens, draws = torch.zeros(1, prompt, dtype=torch.long), torch.Generator().manual_seed(0)
        chosen = generate(
            reader.begin(tokens), reader.step, limit=count + 1, sampler=Sampler(), prompt=tokens, generator=draws
        )
        next(chosen)
        return seconds(lambda: list(chosen))

    rows = []
    for prompt, count in ((1, 256), (256, 31)):
        pairs = [(took(prompt, count, True), took(prompt, count, False)) for _ in range(times)]
        cached, uncached = (median(pair[side] for pair in pairs) for side in (0, 1))
        rows.append(
            {
                "after": prompt,
                "tokens": count,
                "cached_tokens_per_s": count / cached,
                "uncached_tokens_per_s": count / uncached,
                "ratio": median(b / a for a, b in pairs),
                "aim": AIMS["sampling"],
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two short turns: does it run?")
    parser.add_argument("--json", action="store_true", help="print JSON only")
    parser.add_argument("--threads", type=int, default=2, help="of the CPU, for both (default: 2)")
    parser.add_argument("--only", choices=("small", "large", "sampling"), help="one of the parts")
    parser.add_argument("--turns", type=int, help="of each side (default: 12 small, 8 large)")
    parser.add_argument("--precision", help="of ours; default: 32, then auto")
    parser.add_argument("--clock", choices=tuple(CLOCKS), default="wall", help="which seconds (default: wall)")
    args = parser.parse_args()
    set_clock(args.clock)
    torch.set_num_threads(args.threads)
    rows: list[dict] = []
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["TFCLI_CACHE"] = scratch  # `auto` is measured anew
        write_text(Path(scratch, "texts"))
        common = [f"run.root={scratch}/runs", f"data.root={scratch}/texts", "logger=csv"]
        common += ["trainer.accelerator=cpu", f"trainer.threads={args.threads}"]
        for size in (s for s in (SMALL, LARGE) if args.only in (None, s.name)):
            turn, turns = (3, 2) if args.quick else (size.turn, args.turns or size.turns)
            other = faster(partial(bare, size, vocabulary(size, common)), turn=turn)
            for precision in [args.precision] if args.precision else ["32", "auto"]:
                own = [*size.overrides, *common, f"trainer.precision={precision}"]
                amounts = {"amount": size.batch * size.context, "unit": "tokens"}
                row = compare(other, own, task=CausalLM, turn=turn, turns=turns, **amounts)
                rows.append({"size": size.name, "precision": precision, **row, "aim": AIMS.get((size.name, precision))})
                if not args.json:
                    show(rows[-1])
        sampled = sampling(times=2 if args.quick else 5) if args.only in (None, "sampling") else []
    if args.json:
        print(json.dumps({"threads": args.threads, "clock": args.clock, "rows": rows, "sampling": sampled}, indent=1))
    for row in sampled if not args.json else []:
        print(
            f"sampling {row['tokens']} tokens after {row['after']}: cached {row['cached_tokens_per_s']:.0f} tokens/s, "
            f"uncached {row['uncached_tokens_per_s']:.0f}; ratio {row['ratio']:.1f} (aim {row['aim']:g})"
        )


def show(row: dict) -> None:
    low, high = row["ratio_quartiles"]
    aim = f", aim {row['aim']}" if row["aim"] else ""
    print(
        f"{row['size']:5} {row['precision']:>4} ({row['settled']}; {row['params']:,} parameters): "
        f"ours {row['ours_ms']:.1f} ms, {row['ours_tokens_per_s']:,.0f} tokens/s; "
        f"transformers fp32, {row['bare_adamw']} AdamW: {row['bare_ms']:.1f} ms, "
        f"{row['bare_tokens_per_s']:,.0f} tokens/s; "
        f"ratio {row['ratio']:.2f} (quartiles of turns {low:.2f} to {high:.2f}{aim})",
        flush=True,
    )


if __name__ == "__main__":
    main()
