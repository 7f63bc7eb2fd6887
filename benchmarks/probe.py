"""Our linear sweep beside scikit-learn's, and our nearest neighbours beside faiss and a plain matrix product.

    python benchmarks/probe.py [--quick] [--json] [--threads 2] [--clock wall|cpu] [--only linear|knn]

Linear: 10,000 x 512 features of 102 classes, easy and noisy, the eight C of the coarse grid and 0.316. The other is
`LogisticRegression(C=C, max_iter=1000)` for each C, as people write it; its objective is evaluated in float64, as is
ours. Ours holds all it does: centring, principal axes, and the fits along the path.

Nearest neighbours: 10,000 queries, 50,000 x 512 features, k = 20. faiss is `IndexFlatIP` on normalised features, with
normalising and building not counted; ours starts from raw features. The right answer, for the first 500
queries, is that of float64 rounded to float32, of equals the lower index.

The two sides run in turns in one process; medians are reported. Synthetic features have a falling spectrum and a common
mean direction, as those of networks have.
"""

from __future__ import annotations

import argparse
import json
import sys
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
from tfcli.probes.logistic import Fit, Space, fit, predict
from tfcli.probes.neighbours import neighbours

clock = time.perf_counter
CS = (1e-6, 1e-4, 1e-2, 0.316, 1.0, 1e2, 1e4, 1e6)
NOISE = {"easy": 1.5, "noisy": 4.0}
AIMS = {"linear": 4.0, "knn": 1.3}


def clusters(count: int, width: int, classes: int, *, noise: float, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Features (count, width) of norm 10 on average and their labels: Gaussian classes in a falling spectrum."""
    generator = torch.Generator().manual_seed(seed)
    spread = torch.arange(1, width + 1).float().rsqrt()
    centres = torch.randn(classes, width, generator=generator) * spread
    label = torch.randint(classes, (count,), generator=generator)
    x = centres[label] + noise * torch.randn(count, width, generator=generator) * spread
    x = (x + torch.randn(width, generator=generator)) @ torch.linalg.qr(
        torch.randn(width, width, generator=generator)
    ).Q
    return 10 * x / x.norm(dim=1).mean(), label


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


def cold(x: np.ndarray, label: np.ndarray) -> list[LogisticRegression]:
    """scikit-learn's."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [LogisticRegression(C=C, max_iter=1000).fit(x, label) for C in CS]


def linear_row(name: str, *, turns: int, count: int, classes: int = 102) -> dict:
    x, label = clusters(count + 2000, 512, classes, noise=NOISE[name])
    x, label, held, held_label = x[:count], label[:count], x[count:], label[count:]
    ours_s, theirs_s = [], []
    for _ in range(turns):
        t, fits = seconds(lambda: path(x, label, classes))
        ours_s.append(t)
        t, models = seconds(lambda: cold(x.numpy(), label.numpy()))
        theirs_s.append(t)
    by_c = [
        {
            "C": C,
            "ours_objective": objective(ours.weight, ours.bias, x, label, C),
            "theirs_objective": objective(*(torch.tensor(a) for a in (his.coef_, his.intercept_)), x, label, C),
            "ours_accuracy": float((predict(ours, held).argmax(1) == held_label).float().mean()),
            "theirs_accuracy": float(his.score(held.numpy(), held_label.numpy())),
            "ours_steps": ours.iterations,
            "theirs_steps": int(his.n_iter_[0]),
        }
        for C, ours, his in zip(CS, fits, models, strict=True)
    ]
    return {
        "part": "linear",
        "features": name,
        "ours_s": median(ours_s),
        "theirs_s": median(theirs_s),
        "ratio": median(b / a for a, b in zip(ours_s, theirs_s, strict=True)),
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


def show(row: dict) -> None:
    if row["part"] == "linear":
        for r in row["by_C"]:
            print(
                f"  C {r['C']:<7g} objective {r['ours_objective']:.6g} against {r['theirs_objective']:.6g}, accuracy "
                f"{r['ours_accuracy']:.3f} against {r['theirs_accuracy']:.3f}, steps {r['ours_steps']} against "
                f"{r['theirs_steps']}"
            )
        print(
            f"linear, {row['features']}: ours {row['ours_s']:.2f} s, scikit-learn {row['theirs_s']:.2f} s; ratio "
            f"{row['ratio']:.2f} (aim {row['aim']}); objective at most "
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
    parser.add_argument("--only", choices=("linear", "knn"), help="one of the parts")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="which seconds (default: wall)")
    args = parser.parse_args()
    global clock
    clock = {"wall": time.perf_counter, "cpu": time.process_time}[args.clock]
    torch.set_num_threads(args.threads)
    faiss.omp_set_num_threads(args.threads)
    turns, scale = (1, 10) if args.quick else (args.turns, 1)
    parts: list[Callable[[], dict]] = []
    if args.only != "knn":
        parts += [partial(linear_row, name, turns=turns, count=10_000 // scale) for name in NOISE]
    if args.only != "linear":
        parts.append(partial(knn_row, turns=turns, count=50_000 // scale, queries=10_000 // scale))
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
