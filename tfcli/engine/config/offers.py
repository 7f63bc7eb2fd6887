"""Find the tasks that a model offers, and those that fit the columns of a data set. Imports no torch.

A task says which protocol its network must keep (`net_protocol`) and which head it wants (`answer` in its config); a
model has the protocol's methods or not, and says in its signature which heads it makes. Both are read from the source.
Of a user's own model or task nothing is assumed: it is built, and says itself what it lacks.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, cast

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from tfcli.engine.config.configs import Configs
from tfcli.engine.config.signatures import Definition, bases, find, signature
from tfcli.errors import ConfigError


def lacking(model: Mapping[str, Any], task: Mapping[str, Any]) -> str | None:
    """Return what a model lacks for a task, in words; None where it offers the task.

    Args:
        model: its config, with `_target_`.
        task: its config, with `_target_` and, where the task wants a head, `answer`.
    """
    target, answer = str(model.get("_target_")), task.get("answer")
    protocol = _protocol(str(task.get("_target_")))
    if protocol is None or not target.startswith("tfcli."):
        return None
    missing = _missing(target, protocol.name)
    if missing:
        return missing
    known = signature(target)
    head = known.arguments.get("head") if known else None
    if answer and head is not None and not head.kind.takes(answer):
        return f"it has no head `{answer}`, only {', '.join(map(str, head.kind.choices))}"
    return None


def tasks_of(model: Mapping[str, Any], configs: Configs) -> dict[str, list[str]]:
    """Return the tasks that a model offers, each with the columns that it needs."""
    found: dict[str, list[str]] = {}
    for name in configs.options("task"):
        task = configs.mounted("task", name).get("task", {})
        if lacking(model, task) is None:
            found[name] = [str(need) for need in task.get("needs") or []]
    return found


def columns_of(data: Mapping[str, Any]) -> list[str]:
    """Return the names of a set's columns; its config maps them to those of a table, or lists them.

    Raises:
        ConfigError: it does neither.
    """
    columns = data.get("columns")
    if columns == "???":
        return []
    if isinstance(columns, str | int | float):
        raise ConfigError(f"`data.columns` must be a list of names or {{OURS: THEIRS, ...}}, but is `{columns}`.")
    return list(map(str, columns or ()))


def fitting(model: Mapping[str, Any], columns: Iterable[str], configs: Configs) -> list[str]:
    """Return the tasks that a model offers on such columns and that use most of them: none needs only a part of what
    another needs.
    """
    there = set(columns)
    offered = {name: set(needs) for name, needs in tasks_of(model, configs).items() if set(needs) <= there}
    return [name for name, needs in offered.items() if not any(needs < other for other in offered.values())]


def check_offer(
    model: Mapping[str, Any], task: Mapping[str, Any], choices: Mapping[str, str], configs: Configs
) -> None:
    """Refuse a model that does not offer the task.

    Raises:
        ConfigError: names both, the tasks that the model offers and the models that offer the task.
    """
    missing = lacking(model, task)
    if missing is None:
        return
    tasks = ", ".join(tasks_of(model, configs)) or "none: it is for frozen features (`tfcli probe`)"
    raise ConfigError(
        f"model `{choices.get('model')}` does not offer task `{choices.get('task')}`: {missing}. "
        f"Its tasks: {tasks}. Models for `{choices.get('task')}`: {', '.join(families(task, configs)) or 'none'}."
    )


def families(task: Mapping[str, Any], configs: Configs) -> list[str]:
    """Return the families of models that offer a task."""
    return [name for name, model in _families(configs) if lacking(model, task) is None]


def families_for(columns: Iterable[str], configs: Configs) -> list[str]:
    """Return the families of models that offer some task on such columns."""
    there = list(columns)
    return [name for name, model in _families(configs) if fitting(model, there, configs)]


def _families(configs: Configs) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield one option of each class of models, the first that names it, and its class."""
    seen: set[str] = set()
    for name in configs.options("model"):
        target = class_of(name, configs)
        if target and target not in seen:
            seen.add(target)
            yield name, {"_target_": target}


def class_of(model: str, configs: Configs) -> str | None:
    """Return the class that an option of `model` names itself or by its nearest base."""
    own = configs.load(f"model/{model}")
    target = (own.get("model") or own).get("_target_")
    bases = [entry for entry in own.get("defaults", []) if isinstance(entry, str) and entry != "_self_"]
    return target or next((found for base in reversed(bases) if (found := class_of(base, configs))), None)


def _protocol(task: str) -> Definition | None:
    """Return the protocol that a task names as its `net_protocol`, or that its base does."""
    found = find(task)
    for base in bases(found) if found else ():
        if base is None:
            return None
        for node in base.node.body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "net_protocol":
                return find(f"{base.module}.{ast.unparse(node.value)}")
    return None


def has_method(target: str, name: str) -> bool:
    """Return whether a class, or one of its bases whose source is here, defines a method."""
    found = find(target)
    nodes = [node for base in bases(found) if base for node in base.node.body] if found else []
    return any(isinstance(node, ast.FunctionDef) and node.name == name for node in nodes)


@cache
def _missing(model: str, protocol: str) -> str | None:
    """Return the methods of the protocol that the model's class lacks."""
    asked, has = find(protocol), find(model)
    if asked is None or has is None:
        return None
    members = _members(has)
    if members is None:
        return None
    for name, method in (_members(asked) or {}).items():
        name = "forward" if name == "__call__" else name
        if name not in members:
            return f"it has no `{name}`"
        own = members[name]
        if method is not None and own is not None and (wrong := _other_input(method, own)):
            return wrong
    return None


def _other_input(asked: ast.FunctionDef, own: ast.FunctionDef) -> str | None:
    """Return whether a method reads another input than the protocol gives, or wants more."""
    given = [a.arg for a in (*asked.args.args, *asked.args.kwonlyargs)][1:]
    names = [a.arg for a in own.args.args][1:]
    needed = names[: len(names) - len(own.args.defaults)]
    first = [a.arg for a in asked.args.args][1:2]
    if first and names and names[0] != first[0]:
        return f"it reads {names[0]}, not {first[0]}"
    more = [name for name in needed if name not in given]
    return f"its `{own.name}` also wants {', '.join(more)}" if more else None


def _members(found: Definition) -> dict[str, ast.FunctionDef | None] | None:
    """Return the methods of a class and the names of its other attributes; None where a base is not known."""
    members: dict[str, ast.FunctionDef | None] = {}
    for base in bases(found):
        if base is None:
            return None
        for node in base.node.body:
            if isinstance(node, ast.FunctionDef):
                plain = not any("property" in ast.unparse(mark) for mark in node.decorator_list)
                members.setdefault(node.name, node if plain else None)
                for inner in ast.walk(node):
                    if isinstance(inner, ast.Attribute) and isinstance(inner.ctx, ast.Store):
                        members.setdefault(inner.attr, None)
            elif isinstance(node, ast.AnnAssign | ast.Assign):
                target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
                members.setdefault(ast.unparse(target), None)
    return members


def task_of_data(
    config: DictConfig,
    choices: Mapping[str, str],
    chosen: Sequence[Override],
    single: Sequence[Override],
    configs: Configs,
) -> str | None:
    """Return the task that the columns of the data ask for, where the family's own would leave some of them unused.

    A task that the command or its experiment names stays as it is: None.

    Args:
        config: composed from the options that were `chosen`, `choices` in words; no value is set yet.
        single: the settings of single values, of which a table's columns matter here.

    Raises:
        ConfigError: several tasks would fit, and the command must say which; or none does.
    """
    if "task" not in config or "task" in config.get("without", []) or "columns" not in config.get("data", {}):
        return None
    picked = {o.key_or_group for o in chosen}
    experiment = choices.get("experiment")
    named = "task" in picked or "task" in dict(configs.overrides(f"experiment/{experiment}"))
    if named or (experiment and not picked & {"model", "data"}):
        return None
    columns = _columns(config, single)
    model = cast(dict[str, Any], OmegaConf.to_container(config.model, resolve=False))
    if not columns or not tasks_of(model, configs):
        return None  # what is wrong is said where the parts are checked
    fits = fitting(model, columns, configs)
    if choices["task"] in fits:
        return None
    there = f"data `{choices['data']}` ({', '.join(columns)})"
    if not fits:
        others = families_for(columns, configs)
        raise ConfigError(
            f"model `{choices['model']}` offers no task for {there}; its tasks are "
            f"{', '.join(tasks_of(model, configs))}. Models for these data: {', '.join(others) or 'none yet'}."
        )
    if len(fits) > 1:
        listed = " or ".join(f"task={name}" for name in fits)
        raise ConfigError(f"model `{choices['model']}` can do several tasks with {there}: say {listed}.")
    return fits[0]


def _columns(config: DictConfig, single: Sequence[Override]) -> list[str]:
    """Return the columns that the data will have, those of a table as the command names them."""
    changed = OmegaConf.create({"data": config.data})
    for override in single:
        if override.key_or_group.startswith("data.columns") and not override.is_delete():
            OmegaConf.update(changed, override.key_or_group, override.value(), merge=False, force_add=True)
    return columns_of(changed.data)


def task_note(config: DictConfig, choices: Mapping[str, str]) -> str:
    """Return the line that names the chosen task and the reason."""
    needs = " and ".join(config.task.needs) if len(config.task.needs) < 3 else ", ".join(config.task.needs)
    return f"task {choices['task']}: data {choices['data']} has {needs} (task=NAME chooses another)"
