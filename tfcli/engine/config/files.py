"""Find the folders of configs, their groups and their options. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import yaml

from tfcli.errors import ConfigError

PACKAGED = next(p for p in (Path(__file__).parents[2] / "conf", Path(__file__).parents[3] / "conf") if p.is_dir())


def search_path(config_dir: str | None = None) -> list[Path]:
    """Return the folders of configs, first match first: `--config-dir`, `./conf`, the packaged ones.

    Raises:
        ConfigError: `config_dir` is no folder.
    """
    given = Path(config_dir) if config_dir else None
    if given and not given.is_dir():
        raise ConfigError(f"`--config-dir {config_dir}` is not a folder.")
    folders = [given] if given else []
    folders += [Path.cwd() / "conf", PACKAGED]
    return list(dict.fromkeys(f.resolve() for f in folders if f.is_dir()))


def groups(config_dir: str | None = None) -> list[str]:
    """Return the names of the config groups, for instance `model` and `data`."""
    return groups_in(search_path(config_dir))


def groups_in(folders: Sequence[Path]) -> list[str]:
    """Return the names of the groups below some folders, sorted."""
    return sorted({f.name for root in folders for f in root.iterdir() if f.is_dir() and f.name[0] not in "._"})


def options(group: str, config_dir: str | None = None) -> dict[str, str]:
    """Return the options of a group with their descriptions; names that start with `_` are bases, not options."""
    return options_in(search_path(config_dir), group)


def options_in(folders: Sequence[Path], group: str) -> dict[str, str]:
    """Return the options of a group below some folders, as `options` does; the first file of a name counts."""
    found: dict[str, str] = {}
    for root in folders:
        for file in sorted((root / group).glob("[!_]*.yaml")):
            if file.stem not in found:
                found[file.stem] = describe(file)
    return dict(sorted(found.items()))


def describe(file: Path) -> str:
    """Return the first comment line of a config file that is not a Hydra header."""
    with file.open(encoding="utf-8") as lines:
        for line in lines:
            text = line.strip()
            if text.startswith("#") and "@package" not in text:
                return text.lstrip("# ")
            if text and not text.startswith("#"):
                break
    return ""


@cache
def torchvision_names() -> tuple[str, ...]:
    """Return the names of torchvision's classifiers, which `model=` takes as well."""
    file = PACKAGED / "model" / "torchvision.yaml"
    return tuple(yaml.safe_load(file.read_text(encoding="utf-8"))["model"]["names"]) if file.exists() else ()
