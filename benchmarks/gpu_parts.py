"""The parts of `benchmarks/gpu.py`: each measures ours beside a bare loop in this process and gives rows.

Training is `turns.fit`, which is `tfcli train`. After a warm-up, blocks of our steps and of the bare loop's take turns.
A block lasts from one synchronisation of the device to the next, so that the host may run ahead inside it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import numpy as np
import pytorch_lightning as pl
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, scaled_dot_product_attention
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.bare_gpt import BareGPT
from benchmarks.turns import Bare, fit, quartiles
from tfcli.data.images.transforms import normalise
from tfcli.data.module import DataModule
from tfcli.decoding.sampling import GREEDY, generate
from tfcli.engine.config.build import build
from tfcli.engine.config.compose import compose
from tfcli.engine.tools.bench import one_pass
from tfcli.engine.use.sample import Reader
from tfcli.probes import features
from tfcli.probes.logistic import Fit, Space
from tfcli.probes.logistic import fit as fit_logistic
from tfcli.probes.neighbours import neighbours
from tfcli.tasks.classify import Classify
from tfcli.tasks.contrastive import Contrastive, contrastive_loss
from tfcli.tasks.lm import CausalLM
from tfcli.tasks.mlm import MaskedLM

Batch = dict[str, Any]
BATCHES = 4
"""Different batches in memory, which both sides read one after the other."""


@dataclass(frozen=True)
class Place:
    """Where it is measured, and how long.

    Args:
        device: torch's name of it.
        tiny: tiny sizes in fp32, which try the program and measure nothing.
        compiled: torch.compile on both sides.
        scratch: an empty folder.
        measure_s: seconds of the turns of each row, by the wall.
    """

    device: str
    tiny: bool
    compiled: bool
    scratch: Path
    measure_s: float = 4.0

    @property
    def half(self) -> bool:
        return not self.tiny

    def autocast(self) -> Any:
        """Return the context of bf16 autocast, or one that does nothing."""
        return torch.autocast(self.device, torch.bfloat16) if self.half else nullcontext()

    def wait(self) -> None:
        """Wait until the device has done what it was given."""
        if self.device == "cuda":
            torch.cuda.synchronize()

    def block(self, step: Callable[[], Any], count: int) -> float:
        """Return the mean seconds of a step in a block of `count`."""
        self.wait()
        start = time.perf_counter()
        for _ in range(count):
            step()
        self.wait()
        return (time.perf_counter() - start) / count

    def in_turns(self, ours: Callable[[], Any], bare: Callable[[], Any], count: int = 1) -> tuple[float, list[Any]]:
        """Return the seconds of the first calls, which warm up, and those of a step of both sides in each turn."""
        setup = [self.block(side, 1) for side in (ours, bare)]
        end, turns = time.perf_counter() + self.measure_s, []
        while time.perf_counter() < end or len(turns) < 3:
            turns.append((self.block(ours, count), self.block(bare, count)))
        return sum(setup), turns


def summary(turns: list[tuple[float, float]], amount: float, unit: str) -> dict[str, Any]:
    """Return what a row says of its turns.

    Args:
        turns: seconds of one step of ours and of one of the bare loop, of each turn.
        amount: what a step takes, in `unit`.
    """
    ours, bare = (median(turn[side] for turn in turns) for side in (0, 1))
    low, ratio, high = quartiles(sorted(b / a for a, b in turns))
    return {
        "unit": f"{unit}/s",
        "ours": amount / ours,
        "bare": amount / bare,
        "ratio": ratio,
        "ratio_quartiles": [low, high],
        "turns": len(turns),
    }


def ceiling(place: Place) -> list[dict[str, Any]]:
    """Return the row of the matrix ceiling: the most FLOP/s of a product of two square matrices, in bf16 on a GPU."""
    sizes = (128,) if place.tiny else (4096, 8192, 16384)
    found = {}
    for n in sizes:
        a, b = (torch.randn(n, n, device=place.device, dtype=torch.bfloat16 if place.half else None) for _ in range(2))
        multiply = partial(torch.mm, a, b, out=torch.empty_like(a))
        place.block(multiply, 3)
        found[n] = 2 * n**3 / median(place.block(multiply, 10) for _ in range(5))
    best = max(found, key=lambda n: found[n])
    return [{"unit": "FLOP/s", "ours": found[best], "note": f"{best} x {best}, {'bf16' if place.half else 'fp32'}"}]


# ---- training


class InMemory:
    """A loader of some batches that lie on the device, one after the other without end."""

    def __init__(self, loader: Any, place: Place):
        self.batches = [on(batch, place.device) for batch in islice(loader, BATCHES)]

    def __len__(self) -> int:
        return 10**6

    def __iter__(self) -> Iterator[Batch]:
        return (dict(batch) for batch in cycle(self.batches))


def on(batch: Batch, device: str, rows: int | None = None) -> Batch:
    """Return a batch, or its first `rows`, on a device."""
    return {k: v[:rows].to(device) if isinstance(v, Tensor) else v for k, v in batch.items()}


@dataclass(frozen=True)
class Training:
    """A model that is trained by both sides.

    Args:
        overrides: settings of ours; `tiny` are those at tiny size.
        data: settings of its data.
        task: the class of its task.
        batch: samples of a batch; 4 at tiny size.
        unit: of the speed: images, pairs or tokens.
        peer: makes the bare model, given the place and ours.
        loss: of the bare model on a batch.
        peer_name: of the bare model.
        ready: adds to a batch what the bare loop has prepared.
        files: writes data; returns their settings, with which a second row goes through our loader.
    """

    overrides: tuple[str, ...]
    tiny: tuple[str, ...]
    data: tuple[str, ...]
    task: type[pl.LightningModule]
    batch: int
    unit: str
    peer: Callable[[Place, Any], nn.Module]
    loss: Callable[[nn.Module, Batch], Tensor]
    peer_name: str
    ready: Callable[[Batch], Batch] = dict
    files: Callable[[Place, int], list[str]] | None = None
    optim: dict[str, Any] = field(default_factory=lambda: {"lr": 1e-4, "weight_decay": 0.05})


class Blocks(pl.Callback):
    """Clocks blocks of our steps, and after each a block of the bare loop; ends the fit when the time is over.

    Attributes:
        turns: seconds of a step of ours and of the bare loop, of each turn.
        setup_s: seconds until our first block, and those in which the bare loop was made and compiled.
        amount: what a batch takes, in the unit of the case.
        flops: of the forward and backward pass of the bare model, for each of these.
    """

    def __init__(self, case: Training, place: Place, bare: Bare | None = None):
        self.case, self.place, self.bare = case, place, bare
        self.warmup, self.size = (2, 2) if place.tiny else (8, 10)
        self.began = time.perf_counter()
        self.turns: list[tuple[float, float]] = []
        self.setup_s: list[float] = []
        self.amount, self.flops, self.count, self.mark, self.end = 0, 0.0, -self.warmup, 0.0, 0.0

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Batch, batch_idx: int) -> None:
        if self.count == 0 and not self.end:
            self._begin(trainer, pl_module, batch)
        elif self.count == self.size:
            self.place.wait()
            ours = (time.perf_counter() - self.mark) / self.size
            assert self.bare is not None
            self.turns.append((ours, self.place.block(self.bare, self.size)))
            self.count = 0
        if self.count == 0:
            self.place.wait()
            self.mark = time.perf_counter()
        self.count += 1

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        if self.end and time.perf_counter() > self.end and len(self.turns) >= 3:
            trainer.should_stop = True

    def _begin(self, trainer: Any, pl_module: Any, batch: Batch) -> None:
        self.place.wait()
        self.setup_s.append(time.perf_counter() - self.began)
        began = time.perf_counter()
        self.amount = int((batch["target"] if self.case.unit == "tokens" else batch["index"]).numel())
        if self.bare is None:
            self._make(trainer, pl_module)
        self.setup_s.append(time.perf_counter() - began)
        self.end = time.perf_counter() + self.place.measure_s

    def _make(self, trainer: Any, pl_module: Any) -> None:
        case, place, data = self.case, self.place, trainer.datamodule
        raw = trainer.train_dataloader.batches
        batches = [case.ready(data.on_after_batch_transfer(dict(batch), 0)) for batch in raw]
        with torch.device(place.device):
            net = case.peer(place, pl_module.net).train()
        counts = [sum(p.numel() for p in side.parameters()) for side in (pl_module.net, net)]
        if counts[0] != counts[1]:
            raise SystemExit(f"ours has {counts[0]:,} parameters, the bare model {counts[1]:,}")
        rows = 2
        few = case.ready(data.on_after_batch_transfer(on(raw[0], "cpu", rows), 0))
        with torch.device("meta"):
            self.flops = flops(case.peer(place, pl_module.net).train(), case.loss, on(few, "meta"))
        self.flops /= few["target"].numel() if case.unit == "tokens" else rows
        if place.device == "cuda" and any(isinstance(m, nn.BatchNorm2d) for m in net.modules()):
            net.to(memory_format=torch.channels_last)
        if place.compiled:
            net.compile()
        source = cycle(batches)

        def loss() -> Tensor:
            with place.autocast():
                return case.loss(net, next(source))

        self.bare = Bare(net, loss, adamw="fused", **case.optim)
        place.block(self.bare, self.warmup)


def flops(net: nn.Module, loss: Callable[[nn.Module, Batch], Tensor], batch: Batch) -> float:
    """Return the FLOPs of a forward and backward pass, two a multiply-add; the model and the batch are on `meta`."""
    with FlopCounterMode(display=False) as counter:
        loss(net, batch).backward()
    return float(counter.get_total_flops())


def train_part(case: Training, place: Place) -> Iterator[dict[str, Any]]:
    """Yield the row of both sides with batches in memory, and where the case has files the row of our own loader."""
    size = 4 if place.tiny else case.batch
    common = [
        f"run.root={place.scratch}/runs",
        "logger=csv",
        f"trainer.accelerator={'gpu' if place.device == 'cuda' else 'cpu'}",
        f"trainer.precision={'bf16' if place.half else '32'}",
        f"trainer.compile={str(place.compiled).lower()}",
        "trainer.devices=1",
        "trainer.max_epochs=1000",
        "trainer.val_every_epochs=100000",
        "trainer.save_every_minutes=1000",
        "trainer.test=none",
        f"data.batch_size={size}",
        "data.baseline=false",
        *([f"trainer.threads={torch.get_num_threads()}"] if place.device == "cpu" else []),
    ]
    overrides = [*case.overrides, *(case.tiny if place.tiny else ()), *common]
    watcher = Blocks(case, place)
    own = DataModule.train_dataloader
    with ExitStack() as stack:
        stack.enter_context(patch.object(DataModule, "train_dataloader", lambda self: InMemory(own(self), place)))
        fit([*overrides, *case.data], task=case.task, watcher=watcher)
    yield _row(watcher, case, f"batch {size}, inputs in memory; bare: {case.peer_name}")
    if case.files:
        again = Blocks(case, place, watcher.bare)
        fit([*overrides, *case.files(place, size)], task=case.task, watcher=again)
        again.flops = watcher.flops
        yield {"what": "our loader", **_row(again, case, "ours through our loader, bare with inputs in memory")}


def _row(watcher: Blocks, case: Training, note: str) -> dict[str, Any]:
    found = summary(watcher.turns, watcher.amount, case.unit)
    return {**found, "flops": watcher.flops, "setup_s": [round(s, 1) for s in watcher.setup_s], "note": note}


def timm_vit(place: Place, ours: Any, **sizes: Any) -> nn.Module:
    from timm.models import VisionTransformer

    tiny = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2}
    return VisionTransformer(num_classes=48, **(tiny if place.tiny else sizes))


def timm_resnet(place: Place, ours: Any) -> nn.Module:
    import timm

    return timm.create_model("resnet18" if place.tiny else "resnet50", num_classes=48)


def image_loss(net: nn.Module, batch: Batch) -> Tensor:
    return cross_entropy(net(batch["image"]).float(), batch["label"])


def bare_gpt(place: Place, ours: Any) -> nn.Module:
    return BareGPT(
        ours.embed.embedding_dim,
        depth=ours.layers,
        heads=2 if place.tiny else 12,
        context=ours.context,
        vocab_size=ours.embed.num_embeddings,
    )


def token_loss(net: nn.Module, batch: Batch) -> Tensor:
    return cross_entropy(net(batch["tokens"]).flatten(0, 1).float(), batch["target"].flatten())


class HandBERT(nn.Module):
    """transformers' BERT, whose head reads the masked tokens alone, of which each batch has a fixed number."""

    def __init__(self, **sizes: Any):
        from transformers import BertConfig, BertForPreTraining

        super().__init__()
        config = BertConfig(**sizes, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
        config._attn_implementation = "sdpa"
        self.net = BertForPreTraining(config)

    def forward(self, tokens: Tensor, segments: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits (R, V) of the tokens at `places` (R,) of the flattened batch, and (B, 2) of the next one."""
        out = self.net.bert(tokens, token_type_ids=segments)
        hidden = out.last_hidden_state.flatten(0, 1)[places]
        return self.net.cls.predictions(hidden), self.net.cls.seq_relationship(out.pooler_output)


def bare_bert(place: Place, ours: Any) -> nn.Module:
    width = ours.embed.embedding_dim
    return HandBERT(
        vocab_size=ours.embed.num_embeddings,
        hidden_size=width,
        num_hidden_layers=ours.layers,
        num_attention_heads=2 if place.tiny else 12,
        intermediate_size=4 * width,
        max_position_embeddings=ours.context,
    )


def bert_ready(batch: Batch) -> Batch:
    """Add `places` and `masked`: the places and ids of the masked tokens, as many as 15 % of the batch."""
    target = batch["target"].flatten()
    places = (target >= 0).nonzero()[:, 0]
    count = round(0.15 * target.numel())
    return {**batch, "places": places.repeat(2)[:count], "masked": target[places.repeat(2)[:count]]}


def bert_loss(net: nn.Module, batch: Batch) -> Tensor:
    words, following = net(batch["tokens"], batch["segments"], batch["places"])
    return cross_entropy(words.float(), batch["masked"]) + cross_entropy(following.float(), batch["next"].clamp(min=0))


def open_clip_model(place: Place, ours: Any) -> nn.Module:
    from open_clip import CLIP

    image = {"image_size": 224, "layers": 12, "width": 768, "patch_size": 32, "head_width": 64}
    text = {"context_length": 77, "vocab_size": 49408, "width": 512, "heads": 8, "layers": 12}
    if place.tiny:
        image = {"image_size": 32, "layers": 2, "width": 32, "patch_size": 8, "head_width": 16}
        text |= {"context_length": 16, "vocab_size": 100, "width": 32, "heads": 2, "layers": 2}
    return CLIP(embed_dim=16 if place.tiny else 512, vision_cfg=image, text_cfg=text)


def pair_loss(net: nn.Module, batch: Batch) -> Tensor:
    image, text, scale = net(batch["image"], batch["tokens"])[:3]
    return contrastive_loss(image, text, scale)


def write_photographs(place: Place, size: int) -> list[str]:
    """Write JPEG files of noise, 256 x 256 pixels, of which some names are one file; return the settings of ours."""
    root, noise = place.scratch / "photographs", np.random.default_rng(0)
    distinct, count = (8, 48) if place.tiny else (512, 48 * size)
    for split, number in (("train", count), ("val", 48), ("test", 48)):
        for i in range(number):
            folder = root / split / f"class{i % 48:02}"
            folder.mkdir(parents=True, exist_ok=True)
            kept = root / f"{i % distinct}.jpg"
            if not kept.exists():
                coarse = Image.fromarray(noise.integers(0, 256, (32, 32, 3), dtype=np.uint8))
                coarse.resize((256, 256), Image.Resampling.BICUBIC).save(kept, quality=90)
            (folder / f"{i}.jpg").hardlink_to(kept)
    for kept in root.glob("*.jpg"):
        kept.unlink()
    return ["data=folder", f"data.root={root}", "data.cache=memory", f"data.image_size={32 if place.tiny else 224}"]


def write_words(place: Place) -> None:
    """Write a text of 50,299 words (GPT-2's vocabulary with five marks, filled up to 50,304), and BERT's vocabulary."""
    number = 95 if place.tiny else 50_299
    draw = np.random.default_rng(0)
    for split, length in (("train", 20_000 if place.tiny else 2_000_000), ("val", 2000), ("test", 2000)):
        chosen = draw.integers(0, number, length)
        if split == "train":
            chosen = np.concatenate([np.arange(number), chosen])
        text = "\n".join(
            " ".join(f"w{i}" for i in line) + "." for line in np.array_split(chosen, max(1, len(chosen) // 16))
        )
        (place.scratch / "words").mkdir(exist_ok=True)
        (place.scratch / "words" / f"{split}.txt").write_text(text, encoding="utf-8")
    marks = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "."]
    (place.scratch / "wordpiece").mkdir(exist_ok=True)
    words = [*marks, *(f"w{i}" for i in range(94 if place.tiny else 30_516))]
    (place.scratch / "wordpiece" / "vocab.txt").write_text("\n".join(words), encoding="utf-8")


# ---- frozen features, neighbours, regression


def extraction(place: Place) -> list[dict[str, Any]]:
    """Return the row of a frozen ViT-B/16: ours in `features.extract`, timm's in a loop, bf16 weights on a GPU.

    Both read uint8 images in the host's memory and return features there.
    """
    tiny = ["model=vit", "data=shapes", "model.width=32", "model.depth=2", "model.heads=2"]
    sizes = tiny if place.tiny else ["model=vit_b16", "data=shapes", "data.image_size=224"]
    net = build(compose("train", sizes).config.model)
    bare = timm_vit(place, None) if place.tiny else timm_vit(place, None, img_size=224)
    dtype = torch.bfloat16 if place.half else torch.float32
    side, size, count = (32, 8, 2) if place.tiny else (224, 256, 8)
    device, mean = torch.device(place.device), (0.5, 0.5, 0.5)
    images = torch.randint(0, 256, (count, size, 3, side, side), dtype=torch.uint8)
    images = images.pin_memory() if place.device == "cuda" else images
    label = torch.zeros(size, dtype=torch.long)
    batches = [{"image": image, "label": label, "index": torch.arange(size)} for image in images]
    (copied,) = features.replicas(net, [device], dtype)
    encode = features.encoder(copied, layer=None, pool="head")
    bare.reset_classifier(0)
    bare = bare.to(device, dtype).eval()
    if place.compiled:
        bare.compile()

    def ready(batch: Batch) -> Batch:
        return batch | {"image": normalise(batch["image"], mean, mean)}

    def ours() -> list[Any]:
        return list(features.extract([encode], [device], batches, ready=ready, dtype=dtype, where="benchmark"))

    @torch.inference_mode()
    def loop() -> Tensor:
        found = []
        for image in images:
            pixels = normalise(image.to(device, non_blocking=True), mean, mean).to(dtype)
            found.append(bare(pixels).float())
        return torch.cat(found).cpu()

    setup_s, turns = place.in_turns(ours, loop)
    note = f"ViT-B/16, batch {size}, uint8 images in the host's memory; bare: timm, bf16 weights"
    return [{**summary(turns, size * count, "images"), "setup_s": [round(setup_s, 1)], "note": note}]


CS = (1e-4, 1e-2, 1.0, 1e2)


def linear(place: Place) -> list[dict[str, Any]]:
    """Return the row of logistic regression over four C: ours, and PyTorch's L-BFGS, both warm-started."""
    count, width, classes = (200, 16, 4) if place.tiny else (10_000, 512, 102)
    draw = torch.Generator().manual_seed(0)
    spread = torch.arange(1, width + 1).float().rsqrt()
    centres = torch.randn(classes, width, generator=draw) * spread
    label = torch.randint(classes, (count,), generator=draw)
    x = centres[label] + 1.5 * torch.randn(count, width, generator=draw) * spread
    x, label = torch.nn.functional.normalize(x).to(place.device), label.to(place.device)
    objectives: dict[str, list[float]] = {}

    def objective(weight: Tensor, bias: Tensor, C: float) -> Tensor:
        return weight.square().sum() / 2 + C * cross_entropy(x @ weight.T + bias, label, reduction="sum")

    def ours() -> None:
        space, fits = Space.of(x), list[Fit]()
        for C in CS:
            fits.append(fit_logistic(space, label, num_classes=classes, C=C, start=fits[-1] if fits else None))
        objectives["ours"] = [float(objective(f.weight.to(x), f.bias.to(x), f.C)) for f in fits]

    def bare() -> None:
        weight = torch.zeros(classes, width, device=place.device, requires_grad=True)
        bias, found = torch.zeros(classes, device=place.device, requires_grad=True), []
        for C in CS:
            optimizer = torch.optim.LBFGS(
                [weight, bias], max_iter=200, tolerance_grad=1e-3, tolerance_change=1e-6, line_search_fn="strong_wolfe"
            )

            def closure(C: float = C, optimizer: Any = optimizer) -> Tensor:
                optimizer.zero_grad()
                loss = objective(weight, bias, C)
                loss.backward()
                return loss

            optimizer.step(closure)
            found.append(float(objective(weight, bias, C).detach()))
        objectives["bare"] = found

    setup_s, turns = place.in_turns(ours, bare)
    above = max(a / b - 1 for a, b in zip(objectives["ours"], objectives["bare"], strict=True))
    note = f"{count} x {width} unit features, {len(CS)} C; bare: torch's LBFGS; objective at most {above:+.1e} above"
    return [{**summary(turns, len(CS), "fits"), "setup_s": [round(setup_s, 1)], "note": note}]


def knn(place: Place) -> list[dict[str, Any]]:
    """Return the row of exact nearest neighbours: ours, and one fp32 product with `topk`."""
    queries, count, k = (20, 200, 5) if place.tiny else (10_000, 50_000, 20)
    draw = torch.Generator().manual_seed(0)
    query, bank = (torch.randn(n, 512, generator=draw).to(place.device) for n in (queries, count))

    def bare() -> Tensor:
        unit = torch.nn.functional.normalize(bank)
        parts = torch.nn.functional.normalize(query).split(4096)
        return torch.cat([(part @ unit.T).topk(k, 1).indices for part in parts])

    def ours() -> Tensor:
        return neighbours(query, bank, k=k)[1]

    setup_s, turns = place.in_turns(ours, bare)
    same = float((ours() == bare()).float().mean())
    note = f"{queries} queries, {count} x 512, k = {k}; bare: matmul and topk in fp32; {same:.5f} of the ranks equal"
    return [{**summary(turns, queries, "queries"), "setup_s": [round(setup_s, 1)], "note": note}]


# ---- sampling and attention


def sampling(place: Place) -> list[dict[str, Any]]:
    """Return the row of greedy sampling with keys and values kept, one text, GPT-2 in fp32 as `sample` has it.

    Each token is read by the host, as it is when it is printed.
    """
    size = ["model=gpt2", "model.vocab_size=50304"] if not place.tiny else ["model=gpt", "model.vocab_size=100"]
    tiny = ["model.width=32", "model.depth=2", "model.heads=2", "model.context=64"] if place.tiny else []
    net = build(compose("train", [*size, "data=text", *tiny]).config.model).to(place.device).eval()
    bare = bare_gpt(place, net).to(place.device).eval()
    count = 16 if place.tiny else 256
    tokens = torch.zeros(1, 1, dtype=torch.long, device=place.device)

    def ours() -> list[int]:
        reader = Reader(net, context=net.context)
        found = generate(reader.begin(tokens), reader.step, limit=count, sampler=GREEDY)
        return [int(token) for token in found]

    setup_s, turns = place.in_turns(ours, lambda: list(bare.greedy(tokens, count)))
    note = f"{count} tokens of one text, fp32; bare: eager, keys and values in one tensor"
    return [{**summary(turns, count, "tokens"), "setup_s": [round(setup_s, 1)], "note": note}]


def attention(place: Place) -> Iterator[dict[str, Any]]:
    """Yield rows of one layer with a sliding window by blocks: ours and FlexAttention by hand, forward and backward.

    The full layer through `scaled_dot_product_attention` is in the note. At tiny size forward alone: FlexAttention has
    no backward pass on a CPU.
    """
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    backward, width, heads, window = not place.tiny, *((32, 2, 16) if place.tiny else (768, 12, 256))
    attend: Callable[..., Any] = torch.compile(flex_attention, dynamic=False) if place.compiled else flex_attention
    for n in (256,) if place.tiny else (4096, 16384):
        settings = {"width": width, "heads": heads, "batch_size": 1, "backward": backward}
        names = ["attn=sliding", f"attn.pattern.size={window}", "attn.kernel=flex"]
        with torch.device(place.device):
            step, _ = one_pass(compose("bench", names).config, settings, n)
            qkv, out = nn.Linear(width, 3 * width), nn.Linear(width, width)
            x = torch.randn(1, n, width, requires_grad=backward)
        near = partial(_near, window // 2)
        mask = create_block_mask(near, None, None, n, n, device=place.device)

        def by_hand(
            kernel: Callable[..., Any], n: int = n, qkv: nn.Module = qkv, out: nn.Module = out, x: Tensor = x
        ) -> None:
            with place.autocast(), torch.set_grad_enabled(backward):
                q, k, v = qkv(x).view(1, n, 3, heads, -1).permute(2, 0, 3, 1, 4)
                made = out(kernel(q, k, v).transpose(1, 2).flatten(2)).sum()
            if backward:
                qkv.zero_grad()
                out.zero_grad()
                x.grad = None
                made.backward()

        def ours(step: Callable[[], None] = step) -> None:
            with place.autocast():
                step()

        setup_s, turns = place.in_turns(
            ours, partial(by_hand, partial(attend, block_mask=mask)), 1 if place.tiny else 5
        )
        full = partial(by_hand, scaled_dot_product_attention)
        place.block(full, 1)
        dense_ms = 1e3 * median(place.block(full, 5) for _ in range(3))
        note = f"n = {n:,}, window {window}, width {width}; bare: FlexAttention by hand; full by SDPA {dense_ms:.2f} ms"
        yield {**summary(turns, n, "tokens"), "setup_s": [round(setup_s, 1)], "note": note}


def _near(reach: int, b: Tensor, h: Tensor, query: Tensor, key: Tensor) -> Tensor:
    return (query - key).abs() <= reach


# ---- all of them

IMAGES = ("data=shapes", "data.num_val=16", "data.num_test=16", "data.workers=0")
SMALL = ("data.image_size=32", "data.num_train=64")
LARGE = ("data.image_size=224", "data.num_train=4096")


def training_cases(place: Place) -> dict[str, Training]:
    """Return the models that are trained, in the order of their importance."""
    images = (*IMAGES, *(SMALL if place.tiny else LARGE))
    text = ("data=text", f"data.root={place.scratch}/words")
    drops = ("model.dropout=0", "model.attention_dropout=0")
    tower = ("model.width=32", "model.depth=2", "model.heads=2")
    vit = ("model=vit", *tower, "data.patch_size=8")
    pieces = (
        "model.tokenizer.kind=wordpiece",
        f"model.tokenizer.path={place.scratch}/wordpiece",
        f"model.vocab_size={100 if place.tiny else 30_522}",
        "model.tokenizer.vocab_size=null",
    )
    clip = ("model.tokenizer.kind=words", "model.text.context=77", "model.text.vocab_size=49408")
    clip_tiny = (
        *("model.embed_width=16", "model.image.width=32", "model.image.depth=2", "model.image.heads=2"),
        *("model.image.patch_size=8", "model.text.width=32", "model.text.depth=2", "model.text.heads=2"),
        *("model.text.context=16", "model.text.vocab_size=100"),
    )
    wide = {"img_size": 224, "patch_size": 16, "depth": 12}
    b16, ti16 = {"embed_dim": 768, "num_heads": 12, **wide}, {"embed_dim": 192, "num_heads": 3, **wide}
    return {
        "vit_b16": Training(
            ("model=vit_b16",), vit, images, Classify, 256, "images", partial(timm_vit, **b16), image_loss, "timm",
            files=write_photographs,
        ),
        "gpt2": Training(
            ("model=gpt2", *drops, "model.tokenizer.kind=words", "model.tokenizer.vocab_size=50304"),
            ("model=gpt", *tower, "model.context=64", "model.tokenizer.vocab_size=100"),
            text, CausalLM, 16, "tokens", bare_gpt, token_loss, "GPT-2 by hand, SDPA",
            files=lambda place, size: [*text],
        ),
        "vit_ti16": Training(
            ("model=vit_ti16",), vit, images, Classify, 512, "images", partial(timm_vit, **ti16), image_loss, "timm"
        ),
        "resnet50": Training(
            ("model=resnet50",), ("model=resnet18",), images, Classify, 256, "images", timm_resnet, image_loss,
            "timm, channels-last",
        ),
        "bert_base": Training(
            ("model=bert_base", *drops, *pieces, "data.max_length=128"),
            ("model=bert", *tower, "model.post_norm=true", "model.context=64", "data.max_length=64"),
            text, MaskedLM, 256, "tokens", bare_bert, bert_loss, "transformers, SDPA, masked tokens alone in the head",
            ready=bert_ready,
        ),
        "clip_b32": Training(
            ("model=clip_vit_b32", *clip), clip_tiny, images, Contrastive, 512, "pairs", open_clip_model, pair_loss,
            "open_clip",
        ),
    }  # fmt: skip
