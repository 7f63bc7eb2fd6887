"""Class names and templates of zero-shot classification, read from `conf/prompts/`, one file a data set. No torch.

A file gives `source` (whose names and templates these are), `templates` with `{}` where the class name goes, and
`classes` in label order: the set's own name, or `own: spoken` where another is said, or `own: [several, spoken]`.
Optional: `sets`, other lists of templates by name; `articles: fit`, where `a {}` becomes `an {}` before a vowel;
`alternatives`, other `templates` and `classes` by name for a set whose labels can mean different things.
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
"""Templates that every set has, unless its file gives others by that name."""


@dataclass
class Prompts:
    """Templates and class names of a data set (Radford et al. 2021, section 3.1.4).

    Args:
        data: the set's name.
        names: what each class is called, in label order; the first where a class has several names.
        templates: sentences with one `{}`.
        source: whose names and templates these are.
        renamed: (own, spoken) of the classes that are not called by the set's own name.
        spoken: all names of each class.
        sets: the other lists of templates of this set, by name.
        notes: what a reader of the figures should know.
        articles: whether `a` becomes `an` before a vowel. CLIP's sets say `a` everywhere.
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
        """Sentences that each template makes of a class: 1, unless a class has several names."""
        return math.lcm(*(len(names) for names in self.spoken))


def texts(prompts: Prompts) -> list[list[str]]:
    """K lists of `len(templates) * variants` sentences, those of one template beside each other.

    Where classes have different numbers of names, the names are repeated until every class has equally many sentences:
    each name keeps the same share of its class's average.
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
    """The template with the name in it, otherwise literal unless `articles` are to fit."""
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
    """The prompts of a data set.

    Args:
        data: the set's name, also that of its file `prompts/NAME.yaml`.
        classes: the set's own class names in label order, to check the file against; None: not checked.
        names: `spoken`, those of the file; `own`, those of the set, which then need no check.
        templates: name of a list of templates, a template, or several; None: the file's `templates`.
        roots: folders of configs, the first match first.

    Raises:
        ConfigError: no file and no usable class names, a file that is not of the form above, class names in another
            order than the set's, an unknown list of templates, or a template without exactly one `{}`.
    """
    if names not in ("spoken", "own"):
        raise ConfigError(f"`names` must be spoken or own, but is {names!r}.{nearest(str(names), ('spoken', 'own'))}")
    path = next((p for root in roots if (p := Path(root) / "prompts" / f"{data}.yaml").is_file()), None)
    if path is None:
        return _own_words(data, classes, templates)
    content = _read(path)
    pairs, found = _pairs(content, path), [content]
    if classes is not None and names == "spoken":
        found = [part for part in _parts(content, path) if _disagreement(_pairs(part, path), classes) is None]
        if not found:
            raise ConfigError(_refusal(data, path, pairs, classes))
        pairs = _pairs(found[0], path)
    own = list(classes) if classes is not None else [own for own, _ in pairs]  # the set's own spelling
    spoken = [[name] for name in own] if names == "own" else [said for _, said in pairs]
    sets = {**SETS, **{name: _templates(t, path) for name, t in (content.get("sets") or {}).items()}}
    return Prompts(
        data=data,
        names=[said[0] for said in spoken],
        templates=_chosen(templates, _templates(found[0].get("templates"), path), sets),
        source=str(content.get("source", path)),
        renamed=[(o, ", ".join(said)) for o, said in zip(own, spoken, strict=True) if said != [o]],
        spoken=spoken,
        sets=sets,
        articles=content.get("articles") == "fit",
    )


def check_template(template: Any) -> str:
    """The template itself.

    Raises:
        ConfigError: it does not hold exactly one `{}`.
    """
    if not isinstance(template, str) or template.count("{}") != 1:
        named = re.search(r"\{\w+\}", str(template))
        instead = f" instead of {named[0]}" if named else ""
        raise ConfigError(
            f"a template holds exactly one {{}}, where the class name goes, but {template!r} does not: "
            f"write {{}}{instead}, for instance {GENERIC!r}."
        )
    return template


def _own_words(data: str, classes: Sequence[str] | None, templates: str | Sequence[str] | None) -> Prompts:
    """A set without a file: its own class names, where they are words."""
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
    notes = [f"{data} has no prompts of its own: its class names as they are, in {GENERIC!r} unless told otherwise"]
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
    """The file itself, then its alternatives."""
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
    """(own, spoken names) of each class."""
    pairs = []
    for number, entry in enumerate(part["classes"]):
        own, spoken = next(iter(entry.items())) if isinstance(entry, dict) and len(entry) == 1 else (entry, entry)
        said = list(spoken) if isinstance(spoken, list) else [spoken]
        if not isinstance(own, str) or not said or not all(isinstance(name, str) and name for name in said):
            raise ConfigError(
                f"{path}: class {number} is {entry!r}, but must be a name or `own: spoken`; "
                "put quotes around numbers, yes and no."
            )
        pairs.append((own, said))
    return pairs


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", name).casefold() or name


def _disagreement(pairs: Sequence[tuple[str, list[str]]], classes: Sequence[str]) -> int | None:
    """The first label of which the file and the set do not mean the same class; spelling apart. None: they agree."""
    for label, (own, said) in enumerate(pairs[: len(classes)]):
        if _plain(classes[label]) not in {_plain(own), *map(_plain, said)}:
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
        f"Every later label would be scored as another class. Put a {path.name} of your own in ./conf/prompts, "
        "or say the set's own class names: zeroshot.names=own."
    )
