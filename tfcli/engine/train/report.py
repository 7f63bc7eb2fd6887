"""A run's output: its first lines, the record, baselines, figures, and errors with a remedy."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import torch

from tfcli.engine.config.configs import name_with_size
from tfcli.engine.runs.disk_space import no_space
from tfcli.engine.runs.folder import RUN_DIR, relative_path, say
from tfcli.engine.runs.paired import write_outcomes, write_translations
from tfcli.engine.runs.published import published_for
from tfcli.engine.runs.record import Record, read_metrics
from tfcli.engine.runs.summary import main_metric
from tfcli.engine.train.baselines import baselines
from tfcli.engine.train.callbacks import TrainLog
from tfcli.engine.train.numerics import peak_memory
from tfcli.engine.train.prepare import Parts
from tfcli.errors import TfcliError
from tfcli.files import is_full
from tfcli.metrics.info import Declared
from tfcli.metrics.intervals import UNKNOWN


def announce(parts: Parts, folder: Path, *, resumed: bool) -> None:
    """Print the run's first line, and a line for each thing that the user should know."""
    data, numerics = parts.data, parts.numerics
    arithmetic = {"32-true": "fp32", "bf16-mixed": "bf16", "16-mixed": "fp16", "64-true": "fp64"}.get(
        numerics.precision, numerics.precision
    )
    why = f" ({numerics.why})" if numerics.why else ""
    size = f"{parts.params['total'] / 1e6:,.1f} M parameters"
    model, name = name_with_size(parts.name.rpartition("-")[0], parts.config.model), parts.choices["data"]
    say(
        f"{model} on {name} · {parts.choices['task']} · {size} · {parts.devices.label}, "
        f"{arithmetic}{why} · {relative_path(folder)}"
    )
    counts = " · ".join(f"{split} {data.counts[split]:,}" for split in ("train", "val", "test"))
    classes = f" · {len(data.classes)} classes" if data.classes else ""
    say(f"{counts}{classes} · {steps(parts)}")
    for line in parts.notes:
        say(line)
    if parts.config.run.show_model:
        say(structure(parts))
    if resumed:
        say(f"resumed in epoch {data.start_epoch + 1} at batch {data.start_batch}")


def steps(parts: Parts) -> str:
    """Return how many optimizer steps a run takes and of how many samples, as in `12 steps of 256 images`."""
    data, ranks, accumulate = parts.data, parts.devices.ranks, parts.config.trainer.accumulate
    batches = data.batches(ranks)
    share, tokens = ranks * min(accumulate, batches), parts.config.data.get("batch_tokens")
    last = batches % accumulate if batches > accumulate else 0
    batch = (
        f"at most {tokens * share:,} tokens"
        if tokens
        else f"{min(data.batch_size * share, data.counts['train']):,} {data.unit}"
    )
    rest = f", the last of an epoch of {last} batch{'es' if last > 1 else ''} in place of {accumulate}" if last else ""
    return f"{parts.horizon.total:,} step{'s' if parts.horizon.total != 1 else ''} of {batch}{rest}"


def structure(parts: Parts) -> str:
    """Return the network as PyTorch prints it, and the parameters of each part."""
    net = parts.task.net
    lines = [str(net), ""]
    lines += [f"{sum(p.numel() for p in part.parameters()):>14,}  {name}" for name, part in net.named_children()]
    lines += [f"{parts.params['total']:>14,}  parameters, {parts.params['trainable']:,} of them trainable"]
    return "\n".join(lines) + "\n"


def new_record(parts: Parts, verb: str) -> Record:
    config = parts.config
    return Record(
        verb=verb,
        status="failed",
        model=parts.name.rpartition("-")[0],
        data=parts.choices["data"],
        task=parts.choices["task"],
        seed=config.seed,
        overrides=list(parts.overrides),
        counts=dict(parts.data.counts),
        params=parts.params,
        figures=declared(parts),
        main=parts.task.main_figure,
        next=parts.task.next_command,
        units={} if parts.data.unit == "images" else {"counts": parts.data.unit, "rate": parts.data.counted},
    )


def declared(parts: Parts) -> Declared:
    """Return title and direction of each figure of a run, by its name without the split."""
    of_test = parts.task.figures("test")
    logged = parts.task.train_figures | TrainLog.figures
    return of_test | {name: info for name, info in logged.items() if name not in of_test}


def is_lower_better(parts: Parts, metric: str) -> bool:
    """Return whether a smaller `metric`, named with its split, is the better one."""
    split, _, name = metric.partition("/")
    figures = parts.task.train_figures if split == "train" else parts.task.figures(split)
    return name in figures and figures[name].lower_is_better


def add_test_results(record: Record, parts: Parts, *, seconds: float | None, trained: bool = True) -> None:
    """Add the test's figures and intervals to the record, and what was published for similar runs.

    Args:
        seconds: what an evaluation took; None in a run that trains.
        trained: whether the weights were trained here.
    """
    record.figures = declared(parts)  # some are known only now, as those by length
    results = parts.task.test_results
    record.metrics |= {name: value for name, (value, _) in results.items()}
    record.intervals |= {name: list(bounds) for name, (_, bounds) in results.items() if bounds != UNKNOWN}
    record.signatures |= getattr(parts.task, "signatures", {})
    if results:
        with parts.task.left_out.guard("what guessing gives"):
            record.baselines |= parts.task.guesses(parts.data)
    with parts.task.left_out.guard("published figures"):
        record.published = published_for(
            record.model,
            record.data,
            metric=main_metric(record) or "test/accuracy",
            weights=parts.config.model.get("weights"),
            counts=record.counts,
            image_size=parts.config.data.get("image_size"),
            trained=trained,
        )
    if seconds is not None:
        tested = parts.data.counts["test"]
        record.cost = {"seconds": seconds, "examples_per_second": tested / seconds, "peak_memory_bytes": peak_memory()}


def measure_finished_run(record: Record, parts: Parts, folder: Path) -> list[Path]:
    """Measure, draw and keep everything that comes after a run; return the figures' files.

    What fails is left out of the record with its reason, said, and its traceback stands in log.txt.
    """
    left_out = parts.task.left_out
    images: list[Path] = []
    with left_out.guard("outcomes of the test"):
        keep_outcomes(parts, folder)
    if parts.data.baseline and parts.data.counts["test"]:
        with left_out.guard("baselines"):
            record.baselines |= baselines(parts)
    with left_out.guard("figures/"):
        images = figures(parts, folder)
    warn_left_out(record, parts, folder)
    return images


def warn_left_out(record: Record, parts: Parts, folder: Path) -> None:
    """Print what could not be measured, and keep it in the record and the log."""
    left_out = parts.task.left_out
    record.left_out |= left_out.reasons
    for what, reason in left_out.reasons.items():
        say(f"not measured: {what} ({reason}; log.txt has the details)")
    if left_out.traces:
        with open(folder / "log.txt", "a", encoding="utf-8") as log:
            log.write("\n".join(left_out.traces))


def keep_outcomes(parts: Parts, folder: Path) -> None:
    """Write which test samples a classifier got right, in the test set's order: `outcomes.safetensors`.

    Of a translator, what it said of each test sentence: `translations.tsv`.
    """
    written = getattr(parts.task, "written", None)
    if written:
        rows = parts.data.rows["test"]
        write_translations(folder, sources=rows["source"], references=rows["target"], ours=written)
    if parts.task.outcomes is not None:
        index, label, guess = parts.task.outcomes.unbind(1)
        write_outcomes(
            folder,
            index=index.numpy(),
            label=label.numpy(),
            guess=guess.numpy(),
            data=parts.choices["data"],
            fingerprint=parts.data.fingerprints.get("test", ""),
        )


def figures(parts: Parts, folder: Path) -> list[Path]:
    """Draw curves and confusion matrix, and write the table of classes."""
    from tfcli.viz.confusion import confusion
    from tfcli.viz.curves import curves

    (folder / "figures").mkdir(exist_ok=True)
    made = [folder / "figures" / "curves.png"]
    monitor = parts.config.trainer.monitor
    lower = is_lower_better(parts, monitor)
    curves(read_metrics(folder / "metrics.csv"), made[0], monitor=monitor, lower_is_better=lower, title=parts.name)
    if parts.task.confusion is not None:
        counts = parts.task.confusion.numpy()
        names = parts.data.classes or [str(number + 1) for number in range(len(counts))]  # of choices: their places
        made.append(folder / "figures" / "confusion.png")
        confusion(counts.tolist(), made[1], names=names, title=f"{parts.name}, test")
        with open(folder / "per_class.csv", "w", encoding="utf-8", newline="") as file:
            table = csv.writer(file)
            table.writerow(["class", "test_images", "right", "accuracy"])
            for name, row, i in zip(names, counts, range(len(counts)), strict=True):
                table.writerow([name, int(row.sum()), int(row[i]), f"{row[i] / max(1, row.sum()):.4f}"])
    return made


def last_values(folder: Path) -> dict[str, float]:
    """Return the last value of each metric that the run has written."""
    return {row.name: row.value for row in read_metrics(folder / "metrics.csv")}


def explain_error(error: BaseException, parts: Parts) -> BaseException:
    """Return an error with its remedy: out of memory or disk, a killed loader process; others stay as they are."""
    if "DataLoader worker" in str(error):
        return TfcliError(
            f"{str(error).strip()} Memory ran out, or someone ended it: try a smaller `data.workers=`, or 0."
        )
    if isinstance(error, OSError) and is_full(error):
        return no_space(Path(error.filename or os.environ.get(RUN_DIR, ".")), error)
    if isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error):
        batch, accumulate = parts.data.batch_size, parts.config.trainer.accumulate
        return TfcliError(
            f"out of memory: {parts.name} with batches of {batch} in {parts.numerics.precision} "
            f"on {parts.devices.label}. "
            f"Try `data.batch_size={max(1, batch // 2)} trainer.accumulate={2 * accumulate}`, "
            "or a smaller model or image."
        )
    return error
