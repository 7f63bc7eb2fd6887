"""Every key of conf/ is read by something; choices and bounds are kept, and all else is refused, without torch."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import tfcli
from tfcli.engine.config.arguments import Setting, setting, settings
from tfcli.engine.config.configs import PACKAGED, Configs
from tfcli.engine.config.kinds import Alternative, Kind
from tfcli.engine.config.signatures import Signature, bases, find
from tfcli.engine.config.validate import check_values
from tfcli.errors import ConfigError

CONFIGS = Configs([PACKAGED])
PRIMARIES = sorted(path.stem for path in PACKAGED.glob("*.yaml"))
TABLES = {"ablation", "experiment", "published", "prompts", "suite"}
"""Groups of facts and of overrides, which have checks of their own."""
OPTIONS = [(group, option) for group in CONFIGS.groups() if group not in TABLES for option in CONFIGS.options(group)]


def tree(group: str, option: str) -> dict[str, Any]:
    if group:
        return CONFIGS.mounted(group, option)
    return {key: value for key, value in CONFIGS.load(option).items() if key not in ("defaults", "@package")}


@cache
def words_of_code() -> frozenset[str]:
    """Attributes and the words of strings in the package, but for the file that declares settings."""
    found: set[str] = set()
    for file in Path(tfcli.__file__).parent.rglob("*.py"):
        if file.name != "settings.py":
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Attribute):
                    found.add(node.attr)
                elif isinstance(node, ast.Constant) and isinstance(node.value, str) and len(node.value) < 60:
                    found.update(node.value.split("."))
    return frozenset(found)


@cache
def words_of_conf() -> frozenset[str]:
    """Keys that interpolations refer to."""
    text = "\n".join(file.read_text(encoding="utf-8") for file in PACKAGED.rglob("*.yaml"))
    return frozenset(re.findall(r"\$\{[\w.]*?(\w+)(?=\}|\.\$\{)", text))  # of `${data.classes_of.${data.label}}` both


@cache
def arguments_of_groups() -> frozenset[str]:
    """Keys of parts: `optim.lr`, as a model that brings its own recipe names them."""
    found = (s.key for group, option in OPTIONS for s in settings(tree(group, option)) if s.argument is not None)
    return frozenset([*found, *(s.key for name in PRIMARIES for s in settings(tree("", name)) if s.argument)])


@cache
def unread(target: str) -> frozenset[str]:
    """Arguments that the constructor of `target` itself takes and never looks at."""
    found = find(target)
    for base in bases(found) if found else ():
        node = base.node if base else None
        body = node.body if isinstance(node, ast.ClassDef) else []
        init = node if isinstance(node, ast.FunctionDef) else next((n for n in body if _is_init(n)), None)
        if isinstance(init, ast.FunctionDef):
            loaded = {n.id for n in ast.walk(init) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
            return frozenset(a.arg for a in (*init.args.args, *init.args.kwonlyargs)) - loaded - {"self"}
    return frozenset()


def _is_init(node: ast.stmt) -> bool:
    return isinstance(node, ast.FunctionDef) and node.name == "__init__"


def is_read(found: Setting, node: dict[str, Any]) -> bool:
    parent, _, leaf = found.key.rpartition(".")
    owner: Signature | None = found.owner
    if leaf in ("_target_", "_partial_", "_convert_") or leaf in words_of_conf():
        return True
    if (
        found.argument is not None
        and owner is not None
        and leaf in owner.arguments
        and owner.target.startswith("tfcli.")
    ):
        settled = owner.target.startswith("tfcli.engine.config.settings.")
        return leaf in words_of_code() if settled else leaf not in unread(owner.target)
    if found.key in arguments_of_groups():
        return True
    if parent and (owner is None or _has_free_keys(setting(node, parent))):  # such as `data.source.columns`
        return is_read(setting(node, parent), node)
    return leaf in words_of_code()


def _has_free_keys(found: Setting) -> bool:
    """Whether a setting is a mapping that its reader takes whole, with any keys."""
    argument, raw = found.argument, found.raw
    return argument is not None and argument.kind.any and not argument.fields and "_target_" not in (raw or ())


@pytest.mark.parametrize(("group", "option"), [*OPTIONS, *(("", name) for name in PRIMARIES)])
def test_every_declared_key_is_read(group, option):
    node = tree(group, option)
    assert [s.key for s in settings(node) if not is_read(s, node)] == []


@pytest.mark.parametrize("key", ["trainer.warp", "data.wrup", "task.teacher_wait", "attn.kernal", "data.sauce.files"])
def test_a_key_that_nothing_reads_is_found(key):
    group, _, rest = key.partition(".")
    option = {"trainer": "default", "data": "digits", "task": "distill", "attn": "full"}[group]
    node = tree(group, option)
    node[group] |= {"sauce": {"files": "a"}} if "." in rest else {rest: 1}
    assert [s.key for s in settings(node) if not is_read(s, node)] == [key]


def declared() -> dict[tuple[str, str], tuple[str, str, Setting]]:
    """Each setting with choices or numbers, by its key and who takes it, with an option in which it stands."""
    found: dict[tuple[str, str], tuple[str, str, Setting]] = {}
    for group, option in [*OPTIONS, *(("", name) for name in PRIMARIES)]:
        for s in settings(tree(group, option)):
            if s.argument is not None and s.owner is not None and (s.argument.kind.choices or numbers(s.argument.kind)):
                found.setdefault((s.key, s.owner.target), (group, option, s))
    return found


def numbers(kind: Kind) -> list[Alternative]:
    """The numbers that a kind takes, those in its lists included."""
    inner = [number for one in kind.alternatives for item in one.items for number in numbers(item)]
    return [one for one in kind.alternatives if one.type in (int, float)] + inner


def edges(kind: Kind) -> Iterator[tuple[Any, bool]]:
    """Values at the bounds of a kind, each with whether it lies within."""
    for one in kind.alternatives:
        fixed = len(one.items) if one.fixed else 1
        yield from (([value] * fixed, inside) for item in one.items[:1] for value, inside in edges(item))
        for low, high, above, below, _ in one.bounds:
            yield from ((value, True) for value in (low, high) if value is not None)
            yield from ((value, False) for value in (above, below) if value is not None)
            yield from [(low - 1, False)] if low is not None else []
            yield from [(high + 1, False)] if high is not None else []


def put(node: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    node = inner = deepcopy(node)
    *parents, leaf = key.split(".")
    for parent in parents:
        inner = inner[parent]
    inner[leaf] = value
    return node


def check_declared() -> int:
    """Try every choice, one other word, and values at all bounds of every setting; return how many settings there are.

    A value beyond a bound is refused unless another alternative of the same setting takes it.
    """
    known = declared()
    for (key, _), (group, option, found) in known.items():
        node, kind = tree(group, option), found.argument.kind  # type: ignore[union-attr]
        values = [(choice, True) for choice in kind.choices] + [("no_such_word", False)] * bool(kind.choices)
        for value, inside in [*values, *edges(kind)]:
            if inside:
                check_values(put(node, key, value))
            elif not kind.is_choice(value):
                with pytest.raises(ConfigError, match=f"`{re.escape(key)}` must be"):
                    check_values(put(node, key, value))
    return len(known)


def test_choices_and_bounds_are_accepted_and_all_else_refused_before_torch_is_imported():
    script = f"import sys; sys.path.insert(0, {str(Path(__file__).parents[1])!r})\n"
    script += "from contract.test_settings import check_declared\nassert check_declared() > 400\n"
    script += "assert not {'torch', 'lightning', 'pytorch_lightning'} & sys.modules.keys()"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


def test_every_number_has_bounds():
    """Where the signature gives none, any number would be taken: only the mean of a channel may be any."""
    free = {key for (key, _), (_, _, s) in declared().items() if not all(o.bounds for o in numbers(s.argument.kind))}
    assert free == {"data.mean"}
