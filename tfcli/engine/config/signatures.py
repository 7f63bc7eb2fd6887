"""Read a signature from source: names, types, choices and bounds of arguments. Imports nothing of it.

`Literal[...]` says which choices there are and `Annotated[int, Bounds(low=1)]` which numbers (`tfcli.bounds`). From
this one statement values are checked, completed and documented. What the source does not say, anything may be.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from tfcli.bounds import Bounds
from tfcli.engine.config.kinds import ANY, NULL, Kind
from tfcli.errors import ConfigError

PLAIN = {"int": int, "float": float, "bool": bool, "str": str, "Path": str}
LISTS = {"list", "List", "tuple", "Tuple", "Sequence", "Iterable"}
ROOT = Path(__file__).parents[3]


@dataclass(frozen=True)
class Argument:
    """One argument: its kind, its default (`...` where it must be given), and what the docstring says of it.

    `fields` are those of a group of settings that is handed on whole: `Augment(**augment)`.
    """

    name: str
    kind: Kind
    default: Any = ...
    help: str = ""
    fields: Signature | None = None


@dataclass
class Signature:
    """The arguments of a callable by their names; `open` where it takes any further ones.

    `each` describes every value of a mapping with free keys: the row counts of `splits: Mapping[str, Count]`.
    """

    target: str
    arguments: dict[str, Argument] = field(default_factory=dict)
    open: bool = False
    each: Argument | None = None


@dataclass(frozen=True)
class Definition:
    """A class or function in the source of a module."""

    module: str
    node: ast.ClassDef | ast.FunctionDef

    @property
    def name(self) -> str:
        return f"{self.module}.{self.node.name}"


def signature(target: str) -> Signature | None:
    """Return the arguments of `target`, with those that its bases take; None where there is no source to read."""
    return _ours(target) if target.startswith("tfcli.") else _read(target)


def stated(target: str, bounds: Mapping[str, Any]) -> Signature:
    """Return a signature of what a config states of a library's class, by the names of `typing` and `tfcli.bounds`.

    Args:
        target: the class; it may take further arguments.
        bounds: of arguments by their names, for instance `{"lr": "Positive", "mode": "Literal['min', 'max']"}`.

    Raises:
        ConfigError: a text is no such type.
    """
    read = Signature(target, open=True)
    for name, text in bounds.items():
        try:
            found = kind("tfcli.bounds", ast.parse(str(text), mode="eval").body)
        except SyntaxError:
            found = ANY
        if not found.restricts:
            raise ConfigError(f"`_bounds_` of {target}: `{text}` of `{name}` is no bound; write Count or Literal['a'].")
        read.arguments[name] = Argument(name, found)
    return read


def _read(target: str) -> Signature | None:
    found = find(target)
    if found is None:
        return None
    if isinstance(found.node, ast.FunctionDef):
        return _of_function(target, found, found.node, skip=0)
    return _of_class(target, found)


_ours = cache(_read)


def find(target: str) -> Definition | None:
    """Find the class or function that `target` names, through imports; None where its source is not here."""
    module, _, name = target.rpartition(".")
    tree = _tree(module)
    if tree is None:
        return None
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name:
            return Definition(module, node)
    origin = _imports(module).get(name)
    return find(origin) if origin else None


def summary(target: str) -> str:
    """Return the first line of a docstring; an empty text where there is none to read."""
    found = find(target)
    return ((ast.get_docstring(found.node) if found else None) or "").partition("\n")[0]


def bases(found: Definition) -> Iterator[Definition | None]:
    """Yield the class itself and its bases in order; None stands for one whose source is not here."""
    yield found
    for base in getattr(found.node, "bases", []):
        name = base.value if isinstance(base, ast.Subscript) else base
        if ast.unparse(name) in ("Protocol", "nn.Module", "pl.LightningModule", "NamedTuple", "TypedDict", "object"):
            continue
        inner = find(_full_name(found.module, ast.unparse(name)))
        if inner is None:
            yield None
        else:
            yield from bases(inner)


def _of_class(target: str, found: Definition) -> Signature | None:
    line = list(bases(found))
    if _has_fields(found):
        return _of_fields(target, line)
    for index, base in enumerate(line):
        if base is None:
            return None
        init = next((n for n in base.node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"), None)
        if init is not None:
            return _of_function(target, base, init, skip=1, after=line[index + 1 :])
    return Signature(target, open=True)


def _has_fields(found: Definition | None) -> bool:
    """Return whether a class is made of its annotated fields: a dataclass or a TypedDict."""
    if found is None or not isinstance(found.node, ast.ClassDef):
        return False
    marks = [ast.unparse(node) for node in (*found.node.decorator_list, *found.node.bases)]
    return any("dataclass" in mark or mark == "TypedDict" for mark in marks)


def _of_fields(target: str, line: list[Definition | None]) -> Signature:
    found = Signature(target)
    for base in reversed([base for base in line if base is not None]):
        comments = _docstring(base.node)
        for node in base.node.body:
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                name, default = node.target.id, ... if node.value is None else _literal(node.value)
                inner = [find(_full_name(base.module, word)) for word in sorted(_names(node.annotation))]
                fields = next((_of_class(each.name, each) for each in inner if each and _has_fields(each)), None)
                found.arguments[name] = Argument(
                    name, kind(base.module, node.annotation), default, comments.get(name, ""), fields
                )
    found.open = None in line or not _closed(line[0])
    return found


def _closed(found: Definition | None) -> bool:
    """Return whether no other fields can be given: a dataclass is called with its own, a TypedDict names only some."""
    return found is not None and bool(getattr(found.node, "decorator_list", []))


def _of_function(
    target: str, found: Definition, node: ast.FunctionDef, *, skip: int, after: Sequence[Definition | None] = ()
) -> Signature:
    args = node.args
    names = [*args.posonlyargs, *args.args]
    defaults = [None] * (len(names) - len(args.defaults)) + list(args.defaults)
    pairs = [*zip([*names, *args.kwonlyargs], [*defaults, *args.kw_defaults], strict=True)][skip:]
    comments = _docstring(found.node) | _docstring(node)
    read = Signature(target)
    for arg, default in pairs:
        value = ... if default is None else _literal(default)
        read.arguments[arg.arg] = Argument(
            arg.arg,
            kind(found.module, arg.annotation),
            value,
            comments.get(arg.arg, ""),
            next((fields for fields, _ in _handed_on(found, node, arg.arg, after)), _mapping(found, arg)),
        )
    if args.kwarg is not None:
        read.arguments |= _unpacked(found.module, args.kwarg.annotation)
        receivers = list(_handed_on(found, node, args.kwarg.arg, after))
        read.open = not receivers
        for receiver, given in receivers:
            read.open = read.open or receiver.open
            further = {k: v for k, v in receiver.arguments.items() if k not in given | read.arguments.keys()}
            read.arguments |= further  # after its own, of which a caller may give the first by place
    return read


def _mapping(found: Definition, arg: ast.arg) -> Signature | None:
    """Return the fields of an argument annotated `Mapping[str, KIND]` or `dict[str, KIND]`; None for any other."""
    node = arg.annotation
    if not isinstance(node, ast.Subscript) or ast.unparse(node.value) not in ("Mapping", "dict"):
        return None
    inner = kind(found.module, node.slice.elts[-1]) if isinstance(node.slice, ast.Tuple) else ANY
    return Signature(f"{found.name}.{arg.arg}", open=True, each=Argument("", inner)) if inner.restricts else None


def _unpacked(module: str, node: ast.expr | None) -> dict[str, Argument]:
    """Return the keywords that `**name: Unpack[...]` declares by a TypedDict; all of them may be left out."""
    if not isinstance(node, ast.Subscript) or ast.unparse(node.value) != "Unpack":
        return {}
    declared = signature(_full_name(module, ast.unparse(node.slice)))
    return {name: replace(argument, default=None) for name, argument in declared.arguments.items()} if declared else {}


def _handed_on(
    found: Definition, node: ast.FunctionDef, name: str, after: Sequence[Definition | None]
) -> Iterator[tuple[Signature, set[str]]]:
    """Yield the signatures of what a body calls with `**name`, each with the arguments that are given besides."""
    for call, unpacked in _unpacking(node):
        if name not in unpacked:
            continue
        called = ast.unparse(call.func)
        if called == "partial" and call.args:
            called, call = ast.unparse(call.args[0]), ast.Call(call.func, call.args[1:], call.keywords)
        if called == "super().__init__":
            receiver = _of_class(after[0].name, after[0]) if after and after[0] else None
        else:
            receiver = signature(_full_name(found.module, called))
        if receiver is not None:
            yield receiver, {k.arg for k in call.keywords if k.arg} | set(list(receiver.arguments)[: len(call.args)])


@cache  # a body is read once, and not again for each of its arguments
def _unpacking(node: ast.FunctionDef) -> list[tuple[ast.Call, set[str]]]:
    """Return the calls in a body that unpack keywords, each with the names in what they unpack."""
    calls = [call for call in ast.walk(node) if isinstance(call, ast.Call)]
    unpacked = [{name for k in call.keywords if k.arg is None for name in _names(k.value)} for call in calls]
    return [(call, names) for call, names in zip(calls, unpacked, strict=True) if names]


def _names(node: ast.expr) -> set[str]:
    return {inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)}


def kind(module: str, node: ast.expr | None) -> Kind:
    """Return the kind of value that an annotation in `module` stands for."""
    if node is None:
        return ANY
    if isinstance(node, ast.Constant):
        return NULL if node.value is None else kind(module, ast.parse(str(node.value), mode="eval").body)
    if isinstance(node, ast.BinOp):
        return kind(module, node.left) | kind(module, node.right)
    if isinstance(node, ast.Subscript):
        return _subscript(module, node)
    name = ast.unparse(node).removeprefix("typing.")
    if name in PLAIN:
        return Kind.of(PLAIN[name])
    return _named(module, name)


def _subscript(module: str, node: ast.Subscript) -> Kind:
    outer = ast.unparse(node.value).rpartition(".")[2]
    parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    if outer == "Literal":
        values = [p.value for p in parts if isinstance(p, ast.Constant)]
        return Kind.among(*[v for v in values if v is not None]) | (NULL if None in values else Kind())
    if outer == "Optional":
        return kind(module, parts[0]) | NULL
    if outer == "Union":
        found = Kind()
        for part in parts:
            found |= kind(module, part)
        return found
    if outer == "Annotated":
        inner = kind(module, parts[0])
        for part in parts[1:]:
            if isinstance(part, ast.Subscript):  # says more than the type at run time: how long a sequence is
                inner = kind(module, part)
            elif isinstance(part, ast.Call) and ast.unparse(part.func).rpartition(".")[2] == "Bounds":
                inner = inner.within(
                    Bounds(*map(_literal, part.args), **{k.arg or "": _literal(k.value) for k in part.keywords})
                )
        return inner
    if outer in LISTS:
        every = outer not in ("tuple", "Tuple") or (
            len(parts) == 2 and isinstance(parts[1], ast.Constant) and parts[1].value is ...
        )
        return Kind.list_of(*(kind(module, part) for part in (parts[:1] if every else parts)), fixed=not every)
    return ANY


def _named(module: str, name: str) -> Kind:
    """Return the kind that a name stands for: another name of an annotation, or a dataclass whose fields are given."""
    tree = _tree(module)
    for node in tree.body if tree else []:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == name for t in node.targets):
            return kind(module, node.value) if isinstance(node.value, ast.Subscript | ast.BinOp) else ANY
    origin = _imports(module).get(name)
    if origin is None:
        return ANY
    home, _, own = origin.rpartition(".")
    return _named(home, own) if _tree(home) is not None else ANY


def _full_name(module: str, name: str) -> str:
    head, _, rest = name.partition(".")
    origin = _imports(module).get(head, f"{module}.{head}")
    return f"{origin}.{rest}" if rest else origin


def _imports(module: str) -> dict[str, str]:
    tree = _tree(module)
    return _imported(tree) if tree else {}


@cache
def _imported(tree: ast.Module) -> dict[str, str]:
    found: dict[str, str] = {}
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.asname or alias.name: alias.name for alias in node.names}
    return found


def _tree(module: str) -> ast.Module | None:
    """Return the syntax tree of a module of tfcli or of one below the current folder."""
    part = Path(*module.split("."))
    for root in (ROOT,) if module.partition(".")[0] == "tfcli" else (Path.cwd(),):
        for path in (root / part.with_suffix(".py"), root / part / "__init__.py"):
            if module and path.is_file():
                return _parsed(path, path.stat().st_mtime_ns)
    return None


@cache
def _parsed(path: Path, changed: int) -> ast.Module | None:
    try:
        return ast.parse(path.read_text(encoding="utf-8"))
    except SyntaxError:
        return None  # it says so itself when it is imported


def _literal(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except ValueError:
        return None


def _docstring(node: ast.ClassDef | ast.FunctionDef) -> dict[str, str]:
    """Return the text of the section `Args:` for each argument."""
    lines = (ast.get_docstring(node) or "").partition("Args:\n")[2].split("\n\n")[0].splitlines()
    found: dict[str, str] = {}
    current: list[str] = []
    for line in lines:
        names, colon, text = line.strip().partition(": ")
        if colon and line.startswith("    ") and not line.startswith("     "):
            current = [name.strip(" *`") for name in names.split(",")]
            found |= dict.fromkeys(current, text)
        else:
            found |= {name: f"{found[name]} {line.strip()}" for name in current}
    return found
