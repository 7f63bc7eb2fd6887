"""Our linear sweep beside scikit-learn's, our nearest neighbours beside faiss's, our extraction beside a plain loop.

    python benchmarks/probe.py [--quick] [--json] [--threads 2] [--clock wall|cpu] [--only linear|knn|extraction]

Linear: 10,000 x 512 features of 102 classes, easy, noisy, and of unit length with a common mean as CLIP's are (two
images have a cosine of about 0.5), the eight C of the coarse grid and 0.316. The other is
`LogisticRegression(C=C, max_iter=1000)` for each C, cold as people write it, and warm-started from C to C; the ratio is
to the faster of the two. Objectives are evaluated in float64. Ours holds all it does: centring, principal axes, and the
fits along the path.

Nearest neighbours: 10,000 queries, 50,000 x 512 features, k = 20. faiss is `IndexFlatIP` on normalised features, with
normalising and building not counted; ours starts from raw features. The right answer, for the first 500
queries, is that of float64 rounded to float32, of equals the lower index.

Extraction: open_clip's ViT-B/32 in a plain fp32 loop over uint8 batches that lie in memory, and our pass over the same
images with the same weights (random ones, saved by open_clip and read by our loader), in the arithmetic that `auto`
takes here. Accuracy is that of the nearest neighbour, half of the images against the other half.

The two sides run in turns in one process; medians are reported. Synthetic features have a falling spectrum and a common
mean direction, as those of networks have.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

import faiss
import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits
from torch.nn.functional import cross_entropy, normalize

sys.path.insert(0, str(Path(__file__).parents[1]))
from tfcli.data.images.transforms import normalise
from tfcli.data.synthetic.shapes import ShapesWorld
from tfcli.engine.config.build import build
from tfcli.engine.config.compose import compose
from tfcli.engine.train.numerics import MARGIN, time_in_turns
from tfcli.probes import features
from tfcli.probes.logistic import Fit, Space, fit, predict
from tfcli.probes.neighbours import neighbours
from tfcli.weights.load import load_weights

clock = time.perf_counter
CS = (1e-6, 1e-4, 1e-2, 0.316, 1.0, 1e2, 1e4, 1e6)
NOISE = {"easy": 1.5, "noisy": 4.0, "unit": 2.0}
AIMS = {"linear": 4.0, "knn": 1.3, "extraction": 3.0}
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def clusters(
    count: int, width: int, classes: int, *, noise: float, unit: bool = False, seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Features (count, width) and their labels: Gaussian classes in a falling spectrum around a common mean.

    Their norm is 10 on average, most of it the mean; with `unit` each norm is 1, and the mean is half of its square.
    """
    generator = torch.Generator().manual_seed(seed)
    spread = torch.arange(1, width + 1).float().rsqrt()
    centres = torch.randn(classes, width, generator=generator) * spread
    label = torch.randint(classes, (count,), generator=generator)
    x = centres[label] + noise * torch.randn(count, width, generator=generator) * spread
    mean = torch.randn(width, generator=generator)
    if unit:
        mean *= x.norm(dim=1).mean() / mean.norm()
    x = (x + mean) @ torch.linalg.qr(torch.randn(width, width, generator=generator)).Q
    return normalize(x) if unit else 10 * x / x.norm(dim=1).mean(), label


def seconds(step: Callable[[], object]) -> tuple[float, object]:
    start = clock()
    result = step()
    return clock() - start, result


def objective(weight: torch.Tensor, bias: torch.Tensor, x: torch.Tensor, label: torch.Tensor, C: float) -> float:
    """In float64."""
    logits = x.double() @ weight.double().T + bias.double()
    return float(weight.double().square().sum() / 2 + C * cross_entropy(logits, label, reduction="sum"))


def path(x: torch.Tensor, label: torch.Tensor, classes: int) -> list[Fit]:
    """Ours: one fit for each C."""
    space, fits = Space.of(x), []
    for C in CS:
        fits.append(fit(space, label, num_classes=classes, C=C, start=fits[-1] if fits else None))
    return fits


def theirs(x: np.ndarray, label: np.ndarray, *, warm: bool) -> list[LogisticRegression]:
    """scikit-learn's fits, each cold or from the one before."""
    model = LogisticRegression(max_iter=1000, warm_start=warm)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [copy.deepcopy(model.set_params(C=C).fit(x, label)) for C in CS]


def linear_row(kind: str, *, turns: int, count: int, classes: int = 102) -> dict:
    x, label = clusters(count + 2000, 512, classes, noise=NOISE[kind], unit=kind == "unit")
    x, label, held, held_label = x[:count], label[:count], x[count:], label[count:]
    sides: dict[str, Callable[[], list]] = {
        "ours": lambda: path(x, label, classes),
        "cold": lambda: theirs(x.numpy(), label.numpy(), warm=False),
        "warm": lambda: theirs(x.numpy(), label.numpy(), warm=True),
    }
    times: dict[str, list[float]] = {name: [] for name in sides}
    found: dict[str, list] = {}
    for _ in range(turns):
        for name, side in sides.items():
            t, found[name] = seconds(side)
            times[name].append(t)
    by_c = []
    for place, C in enumerate(CS):
        ours, cold, warm = (found[name][place] for name in sides)
        peers = [tuple(torch.tensor(a) for a in (his.coef_, his.intercept_)) for his in (cold, warm)]
        by_c.append(
            {
                "C": C,
                "ours_objective": objective(ours.weight, ours.bias, x, label, C),
                "theirs_objective": min(objective(*peer, x, label, C) for peer in peers),
                "ours_accuracy": float((predict(ours, held).argmax(1) == held_label).float().mean()),
                "theirs_accuracy": max(float(his.score(held.numpy(), held_label.numpy())) for his in (cold, warm)),
                "ours_steps": ours.iterations,
                "theirs_steps": [int(his.n_iter_[0]) for his in (cold, warm)],
            }
        )
    ratios = {peer: median(b / a for a, b in zip(times["ours"], times[peer], strict=True)) for peer in ("cold", "warm")}
    return {
        "part": "linear",
        "features": kind,
        **{f"{name}_s": median(t) for name, t in times.items()},
        "ratio": min(ratios.values()),
        "ratio_to_cold": ratios["cold"],
        "aim": AIMS["linear"],
        "objective_above_theirs_at_most": max(row["ours_objective"] / row["theirs_objective"] - 1 for row in by_c),
        "by_C": by_c,
    }


def knn_row(*, turns: int, count: int, queries: int, k: int = 20) -> dict:
    features, _ = clusters(count + queries, 512, 102, noise=1.5)
    bank, query = features[:count], features[count:]
    unit, unit_query = normalize(bank), normalize(query)
    index = faiss.IndexFlatIP(512)
    index.add(unit.numpy())
    sides = {
        "ours": lambda: neighbours(query, bank, k=k)[1],
        "faiss": lambda: torch.from_numpy(index.search(unit_query.numpy(), k)[1]),
        "matmul": lambda: torch.cat([(some @ unit.T).topk(k, 1).indices for some in unit_query.split(1024)]),
    }
    times: dict[str, list[float]] = {name: [] for name in sides}
    found = {}
    for _ in range(turns):
        for name, side in sides.items():
            t, found[name] = seconds(side)
            times[name].append(t)
    checked = slice(0, 500)
    cosine = (normalize(query[checked].double()) @ normalize(bank.double()).T).float()
    right = cosine.argsort(dim=1, descending=True, stable=True)[:, :k]
    recall = {
        name: float((rows[checked][:, :, None] == right[:, None, :]).any(2).float().mean())
        for name, rows in found.items()
    }
    return {
        "part": "knn",
        **{f"{name}_s": median(t) for name, t in times.items()},
        "ratio": median(b / a for a, b in zip(times["ours"], times["faiss"], strict=True)),
        "ratio_to_matmul": median(b / a for a, b in zip(times["ours"], times["matmul"], strict=True)),
        "aim": AIMS["knn"],
        "recall": recall,
    }


def extraction_row(*, turns: int, count: int, batch_size: int = 32) -> dict:
    import open_clip

    world = ShapesWorld(224, k=1)
    seen = world.batch(np.arange(count), fields=("image", "label"), label="shape")
    image, label = torch.from_numpy(np.ascontiguousarray(seen["image"])), torch.from_numpy(seen["label"])
    batches = [
        {"image": part, "label": label[: len(part)], "index": torch.arange(len(part))}
        for part in image.split(batch_size)
    ]
    torch.manual_seed(0)
    theirs = open_clip.create_model("ViT-B-32-quickgelu", pretrained=None).eval()
    net = build(compose("train", ["model=clip_vit_b32", "model.text.vocab_size=49408"]).config.model)
    with tempfile.TemporaryDirectory() as folder:
        torch.save(theirs.state_dict(), Path(folder) / "clip.pt")
        load_weights(net, str(Path(folder) / "clip.pt"))
    net.eval().requires_grad_(False)
    place = torch.device("cpu")

    def ready(batch: dict) -> dict:
        return batch | {"image": normalise(batch["image"], MEAN, STD)}

    @torch.no_grad()
    def loop() -> torch.Tensor:
        return torch.cat([theirs.encode_image(normalise(batch["image"], MEAN, STD)) for batch in batches])

    def ours(name: str) -> torch.Tensor:
        dtype = features.DTYPES[name]
        (copied,) = features.replicas(net, [place], dtype)
        encode = features.encoder(copied, layer=None, pool="head")
        found = features.extract([encode], [place], batches, ready=ready, dtype=dtype, where="benchmark")
        return net.project(torch.cat([part["features"] for part in found]))

    few = batches[0]["image"][:8]
    steps = []
    for name in ("32", "bf16"):
        (copied,) = features.replicas(net, [place], features.DTYPES[name])
        pixels = normalise(few, MEAN, STD).to(features.DTYPES[name])
        steps.append(torch.no_grad()(partial(copied.encode_image, pixels)))
    plain_s, half_s = time_in_turns(steps)
    chosen = "bf16" if plain_s / half_s >= MARGIN else "32"
    times: dict[str, list[float]] = {"ours": [], "loop": []}
    for _ in range(turns):
        t, mine = seconds(partial(ours, chosen))
        times["ours"].append(t)
        t, bare = seconds(loop)
        times["loop"].append(t)
    cosine = torch.nn.functional.cosine_similarity(mine, bare)
    half = count // 2

    def nearest_accuracy(x: torch.Tensor) -> float:
        found = neighbours(x[half:], x[:half], k=1)[1][:, 0]
        return float((label[:half][found] == label[half:]).float().mean())

    return {
        "part": "extraction",
        **{f"{name}_s": median(t) for name, t in times.items()},
        "ratio": median(b / a for a, b in zip(times["ours"], times["loop"], strict=True)),
        "aim": AIMS["extraction"],
        "precision": chosen,
        "images": count,
        "cosine": float(cosine.min()),
        "accuracy": [nearest_accuracy(mine), nearest_accuracy(bare)],
    }


def show(row: dict) -> None:
    if row["part"] == "extraction":
        print(
            f"extraction, ViT-B/32: ours ({row['precision']}) {row['images'] / row['ours_s']:.1f} images/s, plain loop "
            f"{row['images'] / row['loop_s']:.1f}; ratio {row['ratio']:.2f} (aim {row['aim']}); least cosine "
            f"{row['cosine']:.5f}; nearest neighbour right {row['accuracy'][0]:.3f} against {row['accuracy'][1]:.3f}",
            flush=True,
        )
        return
    if row["part"] == "linear":
        for r in row["by_C"]:
            print(
                f"  C {r['C']:<7g} objective {r['ours_objective']:.6g} against {r['theirs_objective']:.6g}, accuracy "
                f"{r['ours_accuracy']:.3f} against {r['theirs_accuracy']:.3f}, steps {r['ours_steps']} against "
                f"{r['theirs_steps']}"
            )
        print(
            f"linear, {row['features']}: ours {row['ours_s']:.2f} s, scikit-learn {row['cold_s']:.2f} s cold and "
            f"{row['warm_s']:.2f} s warm; ratio to the faster {row['ratio']:.2f} (aim {row['aim']}), to the cold "
            f"{row['ratio_to_cold']:.2f}; objective at most "
            f"{row['objective_above_theirs_at_most']:+.1e} above",
            flush=True,
        )
    else:
        recall = ", ".join(f"{name} {value:.5f}" for name, value in row["recall"].items())
        print(
            f"knn: ours {row['ours_s']:.2f} s, faiss {row['faiss_s']:.2f} s, matmul and top-k {row['matmul_s']:.2f} s; "
            f"ratio to faiss {row['ratio']:.2f} (aim {row['aim']}), to matmul {row['ratio_to_matmul']:.2f}; "
            f"recall {recall}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small and one turn: does it run?")
    parser.add_argument("--json", action="store_true", help="print JSON only")
    parser.add_argument("--threads", type=int, default=2, help="of the CPU, for all (default: 2)")
    parser.add_argument("--turns", type=int, default=3, help="of each side (default: 3)")
    parser.add_argument("--only", choices=("linear", "knn", "extraction"), help="one of the parts")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="which seconds (default: wall)")
    args = parser.parse_args()
    global clock
    clock = {"wall": time.perf_counter, "cpu": time.process_time}[args.clock]
    torch.set_num_threads(args.threads)
    faiss.omp_set_num_threads(args.threads)
    turns, scale = (1, 10) if args.quick else (args.turns, 1)
    parts: list[Callable[[], dict]] = []
    if args.only in (None, "linear"):
        parts += [partial(linear_row, name, turns=turns, count=10_000 // scale) for name in NOISE]
    if args.only in (None, "knn"):
        parts.append(partial(knn_row, turns=turns, count=50_000 // scale, queries=10_000 // scale))
    if args.only in (None, "extraction"):
        parts.append(partial(extraction_row, turns=turns, count=320 // scale))
    rows = []
    with threadpool_limits(args.threads):
        for part in parts:
            rows.append(part())
            if not args.json:
                show(rows[-1])
    if args.json:
        print(json.dumps({"threads": args.threads, "clock": args.clock, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
