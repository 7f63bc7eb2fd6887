"""Return candidates for shell completion: settings, options, values, runs, files. Imports no torch."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tfcli.engine.config.configs import Configs, compose, known_heads, roots
from tfcli.engine.runs import record

PATHS = {"data.root", "model.weights", "run.dir", "run.root"}
RUNS = {"model.weights", "task.teacher"}
OF_SWEEPS = ("launcher", "search")
"""Groups that no config composes: a sweep takes them off the words of its jobs."""


class Candidate(NamedTuple):
    """A word that may stand here, and what it means."""

    word: str
    help: str = ""


def settings(
    typed: Sequence[str], current: str, *, config_dir: str | None = None, primary: str = "train"
) -> list[Candidate]:
    """Return the overrides that complete `current`, given the words typed before it: groups, their options, keys and
    values.
    """
    configs = Configs(roots(config_dir), primary)
    if current.startswith("launcher.") and not any(word.startswith("launcher=") for word in typed):
        typed = [*typed, "launcher=local"]
    key, equals, value = current.partition("=")
    if equals:
        return [Candidate(f"{key}={word}", text) for word, text in _values(configs, typed, key, value)]
    plus = key[: len(key) - len(key.lstrip("+"))]
    name = key[len(plus) :]
    if "." not in name:
        return [Candidate(plus + word, text) for word, text in _tops(configs, typed) if word.startswith(name)]
    parent, _, leaf = name.rpartition(".")
    node: Any = compose(configs, typed)
    for part in parent.split("."):
        node = node.get(part) if isinstance(node, dict) else None
        node = _followed(configs, typed, node)
    found = []
    for child, inner in (node if isinstance(node, dict) else {}).items():
        if str(child).startswith(leaf) and not str(child).startswith("_"):
            deeper = isinstance(inner, dict) and inner
            now = "" if deeper else f"now {_plain(inner)}"
            found.append(Candidate(f"{plus}{parent}.{child}{'.' if deeper else '='}", now))
    return found


def _followed(configs: Configs, typed: Sequence[str], node: Any) -> Any:
    """Follow an interpolation such as `${pos}` by one step."""
    if isinstance(node, str) and node.startswith("${") and node.endswith("}"):
        target: Any = compose(configs, typed)
        for part in node[2:-1].split("."):
            target = target.get(part) if isinstance(target, dict) else None
        return target
    return node


def _tops(configs: Configs, typed: Sequence[str]) -> Iterator[Candidate]:
    top = configs.load(configs.primary)
    known = {str(k) for entry in top.get("defaults", []) if isinstance(entry, dict) for k in entry}
    groups = sorted(known - set(top.get("without", []))) + [g for g in OF_SWEEPS if configs.options(g)]
    for group in groups:
        yield Candidate(f"{group}=", f"{len(configs.options(group))} to choose from")
    for key, value in compose(configs, typed).items():
        if key in groups:
            continue
        if isinstance(value, dict):
            yield from (Candidate(f"{key}.{k}=", f"now {_plain(v)}") for k, v in value.items())
        else:
            yield Candidate(f"{key}=", f"now {_plain(value)}")


def _values(configs: Configs, typed: Sequence[str], key: str, value: str) -> Iterator[tuple[str, str]]:
    """Yield words for the value of a key. After a comma the next value of a sweep is completed."""
    name = key.lstrip("+")
    if name in RUNS:
        yield from runs(value)
    if name in PATHS and not (name in RUNS and "/" in value):  # a run may be a path as well
        yield from files(value)
        return
    before, comma, last = value.rpartition(",")
    done = set(before.split(","))
    for word, text in _words(configs, typed, name, last):
        if word.startswith(last) and word not in done:
            yield before + comma + word, text


def _words(configs: Configs, typed: Sequence[str], name: str, last: str) -> Iterator[tuple[str, str]]:
    options = configs.options(name.partition("@")[0]) if "." not in name.partition("@")[0] else {}
    if options:
        yield from options.items()
        if name == "model" and last:
            yield from ((word, "torchvision classifier") for word in configs.classifiers() if word not in options)
        return
    if name == "heads":
        yield from known_heads(configs).items()
        return
    from tfcli.engine.config.arguments import setting

    found = setting(compose(configs, typed), name)
    words = [*(found.argument.kind.values() if found.argument else ())]
    now = found.raw
    if words:
        yield from ((word, "as it is" if word == _plain(now) else "") for word in words)
    elif isinstance(now, bool):
        yield from (("true", ""), ("false", ""))
    elif now is not None and not isinstance(now, (dict, list)) and not last:
        yield str(now), "as it is"


def _plain(value: Any) -> str:
    return json.dumps(value) if value is None or isinstance(value, bool) else str(value)


def files(text: str) -> Iterator[Candidate]:
    """Yield files and folders (with `/`) that begin with `text`; hidden ones when a dot is typed."""
    head, slash, tail = text.rpartition("/")
    folder = Path(os.path.expanduser(head + slash) or ".")
    try:
        entries = sorted(os.scandir(folder), key=lambda e: e.name)
    except OSError:
        return
    for entry in entries:
        if entry.name.startswith(tail) and (tail.startswith(".") or not entry.name.startswith(".")):
            yield Candidate(f"{head}{slash}{entry.name}{'/' if entry.is_dir() else ''}")


def runs(text: str, *, root: str = "outputs", limit: int = 50) -> list[Candidate]:
    """Return runs by their short names, the newest first, `latest`, and paths when a path is typed."""
    if "/" in text or text.startswith("."):
        return list(files(text))
    newest = record.all_runs(root)
    found = [Candidate("latest", "the newest run")] if newest else []
    found += [Candidate(record.run_name(run), run.parent.name) for run in newest[:limit]]
    pairs = dict.fromkeys(run.parent.name for run in newest if not record.STAMP.match(run.parent.name))
    found += [Candidate(pair, "the newest run of this pair") for pair in pairs]
    return [candidate for candidate in found if candidate.word.startswith(text)]
