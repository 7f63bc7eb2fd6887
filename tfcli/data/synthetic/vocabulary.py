"""The closed vocabulary of all texts about synthetic scenes."""

from __future__ import annotations

from tfcli.data.synthetic.clips import EVENTS
from tfcli.data.synthetic.language import TEMPLATES, plural
from tfcli.data.synthetic.objects import COLOURS, SHAPES, SIZES
from tfcli.data.synthetic.relations import RELATIONS

_QUESTIONS = "what colour shape size is the there how many are in front of behind most common object yes no 0 1 2 3 4"
_STATEMENTS = "both pictures show only one picture shows left more than right all"


def vocabulary() -> list[str]:
    """Return all words of captions, questions, answers, expressions, statements and stories, sorted."""
    names = [*COLOURS, *SHAPES, *map(plural, (*SHAPES, "object")), *SIZES, *RELATIONS, *EVENTS, "moves a an"]
    texts = [*names, *(template.replace("{}", "") for template in TEMPLATES), _QUESTIONS, _STATEMENTS]
    return sorted(set(" ".join(texts).split()))
