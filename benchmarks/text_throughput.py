"""Tokens per second of our GPT through the whole trainer, beside bare PyTorch loops over GPT-2 of the same size.

    python benchmarks/text_throughput.py [--quick] [--json] [--threads 2] [--clock wall|cpu] [--only PART]

Ours is `tfcli train`: a composed config, the data module, callbacks, metrics and CSV logger, in this process. The
others are what a careful person writes: cross-entropy of the flattened logits, gradients clipped to a norm of 1, fused
AdamW, windows of tokens already in memory, over transformers' GPT-2 with its fused attention and over `bare_gpt.py`.
The latter also computes in bf16 autocast, with the faster of fused attention and two matrix products, where the CPU has
such products. Ours in `auto` stands beside all: the fastest is the limit.

Then 256 tokens are sampled with keys and values kept, without, and by `bare_gpt.py` with keys and values kept, and a
few more after them.

Left out: validation, test, checkpoints, and all before the first step; of sampling the reading of the prompt and the
spelling of tokens. `turns.py` says how the steps are timed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import cycle
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from transformers import GPT2Config, GPT2LMHeadModel

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.bare_gpt import BareGPT
from benchmarks.turns import CLOCKS, LEFT_OUT, Bare, compare, described, fastest, quartiles, seconds, set_clock
from tfcli.decoding.sampling import GREEDY, generate
from tfcli.engine.config.build import build
from tfcli.engine.config.compose import compose
from tfcli.engine.use.sample import Reader
from tfcli.probes.precision import has_bfloat16
from tfcli.tasks.lm import CausalLM


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
TINY = {"batch": 2, "width": 32, "depth": 2, "heads": 2, "context": 32, "vocab_size": None, "tokenizer": "chars"}
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


def bare(size: Size, vocab_size: int, kind: str, **options: Any) -> Bare:
    """Return a bare loop over GPT-2, on one of eight batches after the other.

    Args:
        kind: transformers, or of `bare_gpt.py` fused or explicit attention.
        options: of `Bare`.
    """
    torch.manual_seed(0)
    if kind == "transformers":
        drops = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
        shape = {"n_embd": size.width, "n_layer": size.depth, "n_head": size.heads, "n_positions": size.context}
        config = GPT2Config(
            vocab_size=vocab_size, **shape, **drops, use_cache=False, bos_token_id=None, eos_token_id=None
        )
        whole = GPT2LMHeadModel(config)
        net: torch.nn.Module = whole
        logits: Callable[[torch.Tensor], torch.Tensor] = lambda tokens: whole(tokens).logits  # noqa: E731
    else:
        shape = {"depth": size.depth, "heads": size.heads, "context": size.context}
        net = logits = BareGPT(size.width, **shape, vocab_size=vocab_size, explicit=kind == "explicit")
    windows = cycle(torch.randint(vocab_size, (8, size.batch, size.context + 1)))

    def loss() -> torch.Tensor:
        tokens = next(windows)
        return cross_entropy(logits(tokens[:, :-1]).flatten(0, 1).float(), tokens[:, 1:].flatten())

    return Bare(net, loss, lr=1e-3, weight_decay=0.1, **options)


def peers(size: Size, vocab_size: int) -> dict[str, Bare]:
    """Return the loops in fp32 and in bf16, the latter with the attention that is fastest here."""
    half = {
        "GPT-2 by hand, bf16, fused attention": partial(bare, size, vocab_size, "fused", bf16=True),
        "GPT-2 by hand, bf16, attention by two products": partial(bare, size, vocab_size, "explicit", bf16=True),
    }
    return {
        "transformers, fp32": bare(size, vocab_size, "transformers"),
        "GPT-2 by hand, fp32, fused attention": bare(size, vocab_size, "fused"),
        **(fastest(half, turn=size.turn) if has_bfloat16(torch.device("cpu")) else {}),
    }


def vocabulary(size: Size, common: list[str]) -> int:
    """How many tokens ours will have."""
    from tfcli.engine.loading.adopt import make_tokenizer

    config = compose("train", [*size.overrides, *common]).config
    data = build(config.data)
    tokenizer = make_tokenizer(config, None, lambda: data.texts("train"))
    assert tokenizer is not None
    return tokenizer.vocab_size


def sampling(*, times: int = 5, tokens: int = 256) -> list[dict]:
    """Return the tokens per second of the small model in turns: keys and values kept, not kept, and kept by hand."""
    overrides = [o for o in SMALL.overrides if not o.startswith("model.context")]
    config = compose("train", [*overrides, "model.context=288", "model.vocab_size=67"]).config
    torch.manual_seed(0)
    net = build(config.model).eval()
    hand = BareGPT(SMALL.width, depth=SMALL.depth, heads=SMALL.heads, context=288, vocab_size=67).eval()

    def ours(prompt: int, count: int, cached: bool) -> float:
        reader = Reader(net, context=288, cached=cached)
        text = torch.zeros(1, prompt, dtype=torch.long)
        chosen = generate(reader.begin(text), reader.step, limit=count + 1, sampler=GREEDY)
        next(chosen)
        return seconds(lambda: [int(token) for token in chosen])

    def by_hand(prompt: int, count: int) -> float:
        chosen = hand.greedy(torch.zeros(1, prompt, dtype=torch.long), count + 1)
        next(chosen)
        return seconds(lambda: list(chosen))

    rows = []
    for prompt, count in ((1, tokens), (256, min(31, tokens))):
        turns = [(ours(prompt, count, True), ours(prompt, count, False), by_hand(prompt, count)) for _ in range(times)]
        rows.append({"after": prompt, "tokens": count})
        for side, name in enumerate(("kept", "read_anew", "by_hand")):
            rows[-1][f"{name}_per_s"] = count / median(turn[side] for turn in turns)
            rows[-1][f"ratio_to_{name}"] = quartiles(sorted(turn[side] / turn[0] for turn in turns))
    return rows


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two short turns, tiny models: does it run?")
    parser.add_argument("--json", action="store_true", help="print JSON only")
    parser.add_argument("--threads", type=int, default=2, help="of the CPU, for all (default: 2)")
    parser.add_argument("--only", choices=("small", "large", "sampling"), help="one of the parts")
    parser.add_argument("--turn", type=int, help="steps of a turn (default: 10 small, 4 large)")
    parser.add_argument("--turns", type=int, help="of each side (default: 12 small, 8 large)")
    parser.add_argument("--precision", help="of ours; default: 32, then auto")
    parser.add_argument("--clock", choices=tuple(CLOCKS), default="wall", help="which seconds (default: wall)")
    args = parser.parse_args(words)
    set_clock(args.clock)
    torch.set_num_threads(args.threads)
    rows: list[dict] = []
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["TFCLI_CACHE"] = scratch  # `auto` is measured anew
        write_text(Path(scratch, "texts"))
        common = [f"run.root={scratch}/runs", f"data.root={scratch}/texts", "logger=csv"]
        common += ["trainer.accelerator=cpu", f"trainer.threads={args.threads}"]
        for size in (s for s in (SMALL, LARGE) if args.only in (None, s.name)):
            size = replace(size, turn=args.turn or size.turn, turns=args.turns or size.turns)
            if args.quick:
                size = replace(size, turn=3, turns=2, **TINY)
            others = peers(size, vocabulary(size, common))
            for precision in [args.precision] if args.precision else ["32", "auto"]:
                own = [*size.overrides, *common, f"trainer.precision={precision}"]
                amounts = {
                    "turn": size.turn,
                    "turns": size.turns,
                    "amount": size.batch * size.context,
                    "unit": "tokens",
                }
                rows.append(
                    {"size": size.name, "precision": precision, **compare(others, own, task=CausalLM, **amounts)}
                )
                if not args.json:
                    print(described(rows[-1]), flush=True)
        sampled = (
            sampling(**({"times": 2, "tokens": 16} if args.quick else {})) if args.only in (None, "sampling") else []
        )
    if args.json:
        facts = {"threads": args.threads, "clock": args.clock, "left_out": LEFT_OUT}
        print(json.dumps({**facts, "rows": rows, "sampling": sampled}, indent=1))
        return
    for row in sampled:
        anew, hand = (row[f"ratio_to_{name}"] for name in ("read_anew", "by_hand"))
        print(
            f"sampling {row['tokens']} tokens after {row['after']}: kept {row['kept_per_s']:.0f} tokens/s; read anew "
            f"{row['read_anew_per_s']:.0f}, ratio {anew[1]:.1f} [{anew[0]:.1f}, {anew[2]:.1f}]; by hand "
            f"{row['by_hand_per_s']:.0f}, ratio {hand[1]:.2f} [{hand[0]:.2f}, {hand[2]:.2f}]"
        )
    print(f"{args.threads} threads, {args.clock} time; {LEFT_OUT}; of sampling the prompt and the spelling")


if __name__ == "__main__":
    main()
