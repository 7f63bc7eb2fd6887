"""Class names and templates for zero-shot classification, from one file in `conf/prompts/` for each set. No torch.

A file has `source` (where names and templates come from), `templates` with `{}` in place of the class name, and
`classes` in label order: the set's own name, `own: spoken` for another name in prompts, or `own: [several, spoken]`.
Optional are `sets`, other lists of templates by name; `articles: fit`, so that `a {}` becomes `an {}` before a vowel;
and `alternatives`, other `templates` and `classes` by name for a set with several kinds of labels.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tfcli.errors import ConfigError, nearest

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
GENERIC = "a photo of a {}."
SETS = {"simple": [GENERIC], "bare": ["{}"]}
"""Lists of templates that every set has, unless its file replaces them."""


@dataclass
class Prompts:
    """Templates and class names of a data set (Radford et al. 2021, section 3.1.4).

    Args:
        data: name of the set.
        names: name of each class in the prompts, in label order; the first one where a class has several names.
        templates: sentences with one `{}`.
        source: where names and templates come from.
        renamed: (own, spoken) of the classes whose name in the prompts differs from the set's own.
        spoken: all names of each class.
        sets: the other lists of templates of this set, by name.
        notes: notes for the reader of the figures.
        articles: whether `a` becomes `an` before a vowel. CLIP's templates always have `a`.
    """

    data: str
    names: list[str]
    templates: list[str]
    source: str
    renamed: list[tuple[str, str]] = field(default_factory=list)
    spoken: list[list[str]] = field(default_factory=list)
    sets: dict[str, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    articles: bool = False

    def __post_init__(self) -> None:
        self.spoken = self.spoken or [[name] for name in self.names]

    @property
    def variants(self) -> int:
        """The number of sentences of each class and template: 1, unless a class has several names."""
        return math.lcm(*(len(names) for names in self.spoken))


def texts(prompts: Prompts) -> list[list[str]]:
    """Return K lists of `len(templates) * variants` sentences, grouped by template.

    Where classes have different numbers of names, names are repeated until all classes have the same number of
    sentences: each name keeps its share of the class's average.
    """
    variants = prompts.variants
    return [
        [
            fill(template, name, articles=prompts.articles)
            for template in prompts.templates
            for name in names * (variants // len(names))
        ]
        for names in prompts.spoken
    ]


def fill(template: str, name: str, *, articles: bool = False) -> str:
    """Insert the name into the template; with `articles`, `a` becomes `an` before a vowel."""
    if articles and name[:1].lower() in tuple("aeiou"):
        template = re.sub(r"\b([Aa]) \{\}", r"\1n {}", template)
    return template.replace("{}", name)


def load_prompts(
    data: str,
    classes: Sequence[str] | None = None,
    *,
    names: str = "spoken",
    templates: str | Sequence[str] | None = None,
    roots: Sequence[Path],
) -> Prompts:
    """Return the prompts of a data set.

    Args:
        data: name of the set, and of its file `prompts/NAME.yaml`.
        classes: the set's own class names in label order, with which the file must agree; None: no check.
        names: `spoken`, the names of the file; `own`, those of the set, which need no check.
        templates: name of a list of templates, a template, or several; None: the file's `templates`.
        roots: folders of configs; the first file found is used.

    Raises:
        ConfigError: there is no file and the class names cannot be used; the file has another form than above, or its
            class names another order than the set's; the list of templates is unknown, or a template does not have
            exactly one `{}`.
    """
    if names not in ("spoken", "own"):
        raise ConfigError(f"`names` must be spoken or own, but is {names!r}.{nearest(str(names), ('spoken', 'own'))}")
    path = next((p for root in roots if (p := Path(root) / "prompts" / f"{data}.yaml").is_file()), None)
    if path is None:
        return _own_names(data, classes, templates)
    content = _read(path)
    pairs, found = _pairs(content, path), [content]
    if classes is not None and names == "spoken":
        found = [part for part in _parts(content, path) if _disagreement(_pairs(part, path), classes) is None]
        if not found:
            raise ConfigError(_refusal(data, path, pairs, classes))
        pairs = _pairs(found[0], path)
    own = list(classes) if classes is not None else [own for own, _ in pairs]  # the set's own spelling
    spoken = [[name] for name in own] if names == "own" else [names_of for _, names_of in pairs]
    sets = {**SETS, **{name: _templates(t, path) for name, t in (content.get("sets") or {}).items()}}
    return Prompts(
        data=data,
        names=[names_of[0] for names_of in spoken],
        templates=_chosen(templates, _templates(found[0].get("templates"), path), sets),
        source=str(content.get("source", path)),
        renamed=[(o, ", ".join(names_of)) for o, names_of in zip(own, spoken, strict=True) if names_of != [o]],
        spoken=spoken,
        sets=sets,
        articles=content.get("articles") == "fit",
    )


def check_template(template: Any) -> str:
    """Return the template after checking it.

    Raises:
        ConfigError: it does not have exactly one `{}`.
    """
    if not isinstance(template, str) or template.count("{}") != 1:
        named = re.search(r"\{\w+\}", str(template))
        instead = f" instead of {named[0]}" if named else ""
        raise ConfigError(
            f"a template holds exactly one {{}} in place of the class name, but {template!r} does not: "
            f"write {{}}{instead}, for instance {GENERIC!r}."
        )
    return template


def _own_names(data: str, classes: Sequence[str] | None, templates: str | Sequence[str] | None) -> Prompts:
    """Return prompts with the set's own class names, if these are words."""
    usable = classes is not None and all(map(_is_words, classes))
    if classes is None or not usable:
        odd = next((name for name in classes or () if not _is_words(name)), None)
        why = f", and its class names are not words (`{odd}`)" if odd is not None else ""
        raise ConfigError(
            f"there are no prompts for data `{data}`{why}. Write ./conf/prompts/{data}.yaml with `templates` and, in "
            "label order, `classes` (`tfcli prompts show flowers` shows one); a set whose class names are words needs "
            "no file."
        )
    source = f"the class names of {data} themselves"
    notes = [f"{data} has no file of prompts: its own class names are used, by default in {GENERIC!r}"]
    return Prompts(data, list(classes), _chosen(templates, [GENERIC], SETS), source, sets=dict(SETS), notes=notes)


def _is_words(name: str) -> bool:
    return bool(re.search(r"[^\W\d_]{2}", name)) and not re.fullmatch(r"n\d{8}", name)


def _chosen(templates: str | Sequence[str] | None, default: list[str], sets: dict[str, list[str]]) -> list[str]:
    if templates is None or templates == "default":
        return default
    if isinstance(templates, str):
        if templates in sets:
            return sets[templates]
        if "{" not in templates and " " not in templates:
            known = ["default", *sets]
            raise ConfigError(
                f"there is no list of templates `{templates}` for this set.{nearest(templates, known)}  "
                f"(there is {', '.join(known)}; or give a template with {{}})"
            )
        return [check_template(templates)]
    if not templates:
        raise ConfigError("`templates` is an empty list: give at least one template with {}.")
    return [check_template(template) for template in templates]


def _read(path: Path) -> dict[str, Any]:
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=LOADER)
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise ConfigError(f"{path} cannot be read: {str(error).splitlines()[0]}") from None
    if not isinstance(content, dict) or not isinstance(content.get("classes"), list):
        raise ConfigError(f"{path} must give `templates` and `classes`, a list in label order.")
    return content


def _parts(content: dict[str, Any], path: Path) -> Iterable[dict[str, Any]]:
    """Yield the file itself, then its alternatives."""
    yield content
    for name, part in (content.get("alternatives") or {}).items():
        if not isinstance(part, dict) or not isinstance(part.get("classes"), list):
            raise ConfigError(f"{path}: alternative `{name}` must give `templates` and `classes`.")
        yield part


def _templates(value: Any, path: Path) -> list[str]:
    if not isinstance(value, list) or not value:
        raise ConfigError(f"{path}: templates must be a list with at least one template, but are {value!r}.")
    try:
        return [check_template(template) for template in value]
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def _pairs(part: dict[str, Any], path: Path) -> list[tuple[str, list[str]]]:
    """Return (own, spoken names) of each class."""
    pairs = []
    for number, entry in enumerate(part["classes"]):
        own, spoken = next(iter(entry.items())) if isinstance(entry, dict) and len(entry) == 1 else (entry, entry)
        names_of = list(spoken) if isinstance(spoken, list) else [spoken]
        if not isinstance(own, str) or not names_of or not all(isinstance(name, str) and name for name in names_of):
            raise ConfigError(
                f"{path}: class {number} is {entry!r}, but must be a name or `own: spoken`; "
                "put quotes around numbers, yes and no."
            )
        pairs.append((own, names_of))
    return pairs


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", name).casefold() or name


def _disagreement(pairs: Sequence[tuple[str, list[str]]], classes: Sequence[str]) -> int | None:
    """Return the first label whose class differs between file and set, ignoring spelling; None: they agree."""
    for label, (own, names_of) in enumerate(pairs[: len(classes)]):
        if _plain(classes[label]) not in {_plain(own), *map(_plain, names_of)}:
            return label
    return None if len(pairs) == len(classes) else min(len(pairs), len(classes))


def _refusal(data: str, path: Path, pairs: Sequence[tuple[str, list[str]]], classes: Sequence[str]) -> str:
    first = _disagreement(pairs, classes)
    assert first is not None
    theirs = f"`{pairs[first][0]}`" if first < len(pairs) else "no class"
    ours = f"`{classes[first]}`" if first < len(classes) else "no class"
    same = sorted(_plain(own) for own, _ in pairs) == sorted(map(_plain, classes))
    return (
        f"the class names in {path} disagree with {data}: label {first} is {theirs} there and {ours} in the set "
        f"({len(pairs)} and {len(classes)} classes{', the same names in another order' if same else ''}). "
        f"Every later label would be scored as another class. Put your own {path.name} into ./conf/prompts, "
        "or use the set's own class names: zeroshot.names=own."
    )
