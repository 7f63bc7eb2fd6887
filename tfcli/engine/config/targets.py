"""Decide which callables a config may name by `_target_`: naming one runs it, and run folders are shared.

A class or function is judged by the module that defines it, never by the one through which it is reached. What a
refusal can be read from (names and source files) is read first, so that a refused config imports nothing heavy.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tfcli.engine.config import moved
from tfcli.engine.config.configs import PACKAGED
from tfcli.errors import ConfigError, nearest

PARTS = ("tfcli.models", "tfcli.nn", "tfcli.tasks", "tfcli.data")
"""Packages of our parts. Their classes may be named; others where one of our configs names them."""
LIBRARIES = ("torch.optim", "torch.nn", "torchvision.models", "torchvision.transforms")
NAMED = re.compile(r"^[^#\n]*\b_target_:\s*['\"]?([\w.]+)", re.M)
PACKAGE = Path(__file__).parents[2]


def named_in(folders: Sequence[Path]) -> frozenset[str]:
    """Return every `_target_` that the YAML files below `folders` name."""
    files = (file for folder in folders for file in folder.rglob("*.yaml"))
    return frozenset(name for file in files for name in NAMED.findall(file.read_text("utf-8", errors="replace")))


@cache
def _packaged() -> frozenset[str]:
    return named_in([PACKAGED])


def targets(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the key and the value of every `_target_` in plain values, lists included."""
    inner = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for name, value in inner:
        key = f"{path}.{name}" if path else str(name)
        if name == "_target_":
            yield key, value
        yield from targets(value, key)


def check(values: Any) -> None:
    """Refuse a callable that is none of the parts named above and lies in no module of the current folder.

    Raises:
        ConfigError: with its key.
    """
    for key, target in targets(values):
        if isinstance(target, str) and moved.target(target) != target:
            raise ConfigError(f"`{key}` names `{target}`, which is now `{moved.target(target)}`.")
        if not _plausible(target):
            raise _refused(key, target)


def check_saved(values: Any, *, folder: Path, conf: Sequence[Path], typed: Sequence[str] = ()) -> None:
    """Refuse in a run's own config a module of the current folder that nothing of the user's names.

    A run folder may come from anybody. What it says may use our parts, as any config may; the user's own code it may
    use where a config of the user's, or the command, names the same.

    Args:
        values: the run's config.
        folder: of the run, for the message.
        conf: the folders in which the user's configs are looked for.
        typed: the settings of the command.

    Raises:
        ConfigError: with the key and what to do where the run is to be trusted.
    """
    check(values)
    own = [(key, str(target)) for key, target in targets(values) if _local(str(target))]
    known = named_in(conf) if own else frozenset()
    for key, target in own:
        if target not in known and not any(target in text for text in typed):
            raise ConfigError(
                f"the run `{folder}` would run `{target}` of the current folder (`{key}`), which no config of yours "
                f"names; nothing was run. If you trust it, name it in a file below conf/, for instance "
                f"conf/model/mine.yaml with the line `_target_: {target}`."
            )


def check_objects(values: Any) -> None:
    """Import what is named and refuse what is defined elsewhere, is no class or function, or belongs to a class.

    Raises:
        ConfigError: with the key; nothing was called.
    """
    from hydra._internal.utils import _locate

    check(values)
    for key, target in targets(values):
        try:
            found = _locate(target)
        except (ImportError, ValueError) as error:
            cause = error.__cause__ or error
            raise ConfigError(f"`{key}`: `{target}` cannot be imported: {cause}") from error
        module = str(getattr(found, "__module__", ""))
        made = inspect.isclass(found) or inspect.isfunction(found)
        inside = _within(module, (*PARTS, *LIBRARIES)) or target in _packaged() or _local(module)
        if not made or not inside or "." in found.__qualname__:
            raise _refused(key, target)


def _plausible(target: Any) -> bool:
    """Return whether the text alone can name an allowed callable."""
    if not isinstance(target, str) or not all(part.isidentifier() for part in target.split(".")):
        return False
    if target.startswith("tfcli."):
        return (_within(target, PARTS) and _class_of_ours(target)) or target in _packaged()
    if _within(target, LIBRARIES):
        return _directly_in_a_module(target)
    return _local(target)


@cache
def _class_of_ours(target: str) -> bool:
    module, _, name = target.rpartition(".")
    file = _file_of_ours(module)
    return file is not None and bool(re.search(rf"^class {name}\b", file.read_text(encoding="utf-8"), re.M))


def _file_of_ours(module: str) -> Path | None:
    """Return the source file of a module of tfcli; None where there is none."""
    stem = PACKAGE.joinpath(*module.split(".")[1:])
    file = stem / "__init__.py" if stem.is_dir() else stem.with_suffix(".py")
    return file if file.is_file() else None


def _directly_in_a_module(target: str) -> bool:
    """Return whether a library's dotted name has packages and modules before its last part, which is public."""
    root, *parts, name = target.split(".")
    spec = find_spec(root)
    folder = Path(spec.submodule_search_locations[0]) if spec and spec.submodule_search_locations else None
    if folder is None or name.startswith("_"):
        return False
    *packages, last = parts
    folder = folder.joinpath(*packages)
    return (folder / last).is_dir() or (folder / f"{last}.py").is_file()


def _local(target: str) -> bool:
    """Return whether a dotted name begins with a module or package that lies in the current folder itself."""
    root = target.partition(".")[0]
    here = Path.cwd()
    if root == "tfcli" or not ((here / f"{root}.py").is_file() or (here / root).is_dir()):
        return False
    try:
        spec = find_spec(root)
    except (ImportError, ValueError):
        return False
    if spec is None:  # not importable yet: the folder joins the search path when parts are built
        return True
    places = [spec.origin] if spec.origin else list(spec.submodule_search_locations or ())
    own = (here / f"{root}.py", here / root, here / root / "__init__.py")
    return any(Path(place).resolve() in {path.resolve() for path in own} for place in places)


def _within(name: str, packages: Sequence[str]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def _refused(key: str, target: Any) -> ConfigError:
    module, _, name = str(target).rpartition(".")
    if _within(module, PARTS) and (file := _file_of_ours(module)):
        classes = [*re.findall(r"^class (\w+)", file.read_text(encoding="utf-8"), re.M)]
        if name not in classes and (close := nearest(name, classes)):
            return ConfigError(f"`{key}` names `{target}`, but `{module}` has no class `{name}`.{close}")
    return ConfigError(
        f"`{key}` names `{target}`, which is outside what tfcli runs: its own parts, classes and functions of "
        f"{', '.join(LIBRARIES)}, and of modules in the current folder. Nothing was run."
    )
