"""Find sweeps by name, and summarise their state."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tfcli.engine.runs.record import read_record, started, walk
from tfcli.engine.runs.summary import main_metric
from tfcli.errors import RunError, nearest
from tfcli.sweeps.state import State


def all_sweeps(root: Path | str = "outputs") -> list[Path]:
    """Return the folder of every sweep below `root`, the newest first."""
    found = walk(Path(root), 5, wanted=lambda folder: (folder / "sweep.json").is_file())
    return sorted(found, key=lambda folder: (started(folder), str(folder)), reverse=True)


def find_sweep(text: str, *, root: Path | str = "outputs") -> Path:
    """Find the sweep that `text` means: a path (or one inside), `latest`, the beginning of its folder's name or of its
    id, or `VERB-MODEL-DATA` for the newest of these.

    Raises:
        RunError: there is none (with the nearest name), or more than one.
    """
    path = Path(text).expanduser()
    if path.exists() and text != "latest":
        for folder in (path, *path.parents[:3]):
            if (folder / "sweep.json").is_file():
                return folder
        if "/" in text:
            raise RunError(f"`{text}` is no sweep: it has no `sweep.json`.")
    found = all_sweeps(root)
    if not found:
        raise RunError(
            f"there is no sweep `{text}`, nor any other below `{root}` yet. "
            "`tfcli train -m model=vit data=digits seed=0,1` makes one."
        )
    if text == "latest":
        return found[0]
    named = [folder for folder in found if folder.parent.name == text][:1]
    begin = [f for f in found if f.name.startswith(text) or (len(text) >= 3 and f.name[16:].startswith(text))]
    exact = [folder for folder in begin if folder.name == text]
    matching = named or exact or begin
    if len(matching) == 1:
        return matching[0]
    if matching:
        names = ", ".join(f"`{folder.name}`" for folder in matching[:5])
        raise RunError(f"`{text}` may mean {len(matching)} sweeps: {names}. Give more of the name, or the path.")
    known = [name for folder in found for name in (folder.name, folder.parent.name)]
    raise RunError(f"there is no sweep `{text}` below `{root}`.{nearest(text, known)}  (`tfcli sweep ls` lists them)")


def brief(folder: Path, state: State) -> dict[str, Any]:
    """Return one sweep as a row of `sweep ls`."""
    return {
        "sweep": folder.name,
        "of": folder.parent.name,
        "jobs": len(state.jobs),
        **{status: state.count(status) for status in ("finished", "failed", "running")},
        "left": state.count("pending", "interrupted"),
        "varied": ", ".join(state.swept),
        "path": str(folder),
        "started": state.started,
    }


def job_rows(folder: Path, state: State) -> list[dict[str, Any]]:
    """Return a row for each job of a sweep: its figure or its error, its run folder and its log."""
    rows = []
    for job in state.jobs:
        run = folder / job.name
        metric, score = None, None
        if job.status == "finished" and (run / "results.json").exists():
            record = read_record(run)
            metric = main_metric(record)
            score = record.metrics[metric] if metric else None
        rows.append(
            {
                "job": job.name,
                "varied": job.varied(state.swept),
                "status": job.status,
                "metric": metric,
                "score": score,
                "seconds": job.seconds,
                "error": job.error,
                "overrides": job.overrides,
                "run": str(run),
                "log": str(folder / f"{job.name}.log"),
                "slurm": job.slurm,
            }
        )
    return rows
