"""Small synthetic English data sets for each kind of text task, which a model can learn within a minute.

None can be solved from single words: they need negation, roles, the text between quotes, or the context of a name.
"""

from __future__ import annotations

import numpy as np

from tfcli.data.common.counter_rng import fields, uniform
from tfcli.data.common.rows import Columns


def _words(text: str) -> list[str]:
    return text.split()


NAMES = _words("anna ben carl dora emil fay gus hanna ida jack kate leo mia nora otto paul")
THINGS = _words("ball key map book lamp cup hat ring coin drum kite bell shoe pen box fan")
GOOD, BAD = _words("good great lovely fine superb charming"), _words("bad awful dull poor dreadful boring")
ASPECTS = _words("food music staff room view price film story cast sound ending light")
BOTH = _words("paris florence austin sydney georgia jordan chelsea victoria lincoln madison jackson hudson")
SECOND = _words("stone brook hill west field ford")
FILLER = _words("the a cat dog bird saw took near old small red house tree under and then stood by river moon")
VERBS = _words("saw found passed met had lost moved left")
TOPICS = {
    "sea": _words("ship wave sail harbour captain island storm anchor fish tide"),
    "kitchen": _words("oven flour butter spoon recipe onion kettle plate salt bread"),
    "school": _words("teacher lesson pupil chalk exam desk grammar pencil class term"),
    "garden": _words("rose spade seed hedge worm lawn tulip soil bee fence"),
    "city": _words("tram street tower market crowd bridge shop square taxi noise"),
    "winter": _words("snow ice frost glove sledge scarf blizzard skate icicle fire"),
}
TAGS = ("O", "B-person", "I-person", "B-place", "I-place")


class Draws:
    """Random choices of one row, made one after the other from its random numbers in [0, 1)."""

    def __init__(self, numbers: list[float]):
        self.numbers = iter(numbers)

    def below(self, limit: int) -> int:
        """Return a random integer in [0, limit)."""
        return int(next(self.numbers) * limit)

    def one(self, of: list[str]) -> str:
        return of[self.below(len(of))]

    def several(self, of: list[str], count: int) -> list[str]:
        """Return `count` different items."""
        left = list(of)
        return [left.pop(self.below(len(left))) for _ in range(count)]


def _draws(seed: int, name: str, split: str, indices: np.ndarray, most: int) -> list[Draws]:
    return [Draws(row) for row in uniform(fields(seed, f"{name} {split}", indices, most)).tolist()]


def sentiment(seed: int, split: str, indices: np.ndarray) -> Columns:
    """Make reviews of three aspects, some of them with negation; the label is whether most of them are praised."""
    rows: Columns = {"text": [], "label": []}
    for draw in _draws(seed, "sentiment", split, indices, 16):
        praised = 0
        clauses = []
        for aspect in draw.several(ASPECTS, 3):
            good, negated = draw.below(2), draw.below(2)
            praised += good != negated
            clauses.append(f"the {aspect} was {'not ' * negated}{draw.one(GOOD if good else BAD)}")
        rows["text"].append(" , ".join(clauses))
        rows["label"].append(int(praised >= 2))
    return rows


def entailment(seed: int, split: str, indices: np.ndarray) -> Columns:
    """Make stories about who has what, with a claim that is entailed, neutral or contradicted."""
    rows: Columns = {"text": [], "pair": [], "label": []}
    for draw in _draws(seed, "entailment", split, indices, 16):
        names, things = draw.several(NAMES, 3), draw.several(THINGS, 3)
        held = [draw.below(2) for _ in names]
        facts = zip(names, held, things, strict=True)
        label, which = draw.below(3), draw.below(3)
        held[which] = int(label != 2) if label != 1 else held[which]
        thing = things[(which + 1 + draw.below(2)) % 3] if label == 1 else things[which]
        rows["text"].append(" . ".join(f"{n} {'has' if h else 'does not have'} the {t}" for n, h, t in facts))
        rows["pair"].append(f"{names[which]} has the {thing}")
        rows["label"].append(label)
    return rows


def similarity(seed: int, split: str, indices: np.ndarray) -> Columns:
    """Make pairs of sentences about giving and getting; the label is whether both describe the same event."""
    rows: Columns = {"text": [], "pair": [], "label": []}
    for draw in _draws(seed, "similarity", split, indices, 16):
        (giver, taker), thing, same = draw.several(NAMES, 2), draw.one(THINGS), draw.below(2)
        reports = [f"{giver} gave the {thing} to {taker}", f"{taker} got the {thing} from {giver}"]
        other = [f"{taker} gave the {thing} to {giver}", f"{giver} got the {thing} from {taker}"]
        first = draw.below(2)
        rows["text"].append(reports[first])
        rows["pair"].append((reports if same else other)[1 - first])
        rows["label"].append(same)
    return rows


def choice(seed: int, split: str, indices: np.ndarray) -> Columns:
    """Make stories about four people with a thing each; the right choice is the owner of one thing."""
    rows: Columns = {"context": [], "choices": [], "label": []}
    for draw in _draws(seed, "choice", split, indices, 24):
        names, things, label = draw.several(NAMES, 4), draw.several(THINGS, 4), draw.below(4)
        facts = draw.several([f"{n} has the {t}" for n, t in zip(names, things, strict=True)], 4)
        rows["context"].append(f"{' . '.join(facts)} . who has the {things[label]} ?")
        rows["choices"].append(names)
        rows["label"].append(label)
    return rows


def quotes(seed: int, split: str, indices: np.ndarray) -> Columns:
    """Make texts with one to three quoted words among words of the same kind; the quoted words are the answer."""
    rows: Columns = {"id": [], "question": [], "context": [], "answers": []}
    for index, draw in zip(indices, _draws(seed, "quotes", split, indices, 32), strict=True):
        before, inside, after = 2 + draw.below(8), 1 + draw.below(3), 2 + draw.below(8)
        words = [draw.one(FILLER) for _ in range(before + inside + after)]
        head, answer = " ".join(words[:before]), " ".join(words[before : before + inside])
        rows["id"].append(f"{split}-{index}")
        rows["question"].append("what is quoted ?")
        rows["context"].append(f'{head} " {answer} " {" ".join(words[before + inside :])}')
        rows["answers"].append([{"text": answer, "start": len(head) + 3}])
    return rows


def names(seed: int, split: str, indices: np.ndarray) -> Columns:
    """Make sentences with names of one or two words that are people or places, depending on the context."""
    forms = ["P said that P went to L", "in L P met P", "P of L wrote to P", "near L and L lives P", "P left L for L"]
    rows: Columns = {"words": [], "tags": []}
    for draw in _draws(seed, "names", split, indices, 16):
        words, tags = list[str](), list[int]()
        for word in draw.one(forms).split():
            if word not in ("P", "L"):
                words.append(word)
                tags.append(0)
                continue
            found = [draw.one(BOTH), *([draw.one(SECOND)] if draw.below(2) else [])]
            first = TAGS.index("B-person" if word == "P" else "B-place")
            words += found
            tags += [first, first + 1][: len(found)]
        rows["words"].append(words)
        rows["tags"].append(tags)
    return rows


def topics(seed: int, split: str, indices: np.ndarray) -> Columns:
    """Make documents of six sentences about one topic, one per line, for next-sentence prediction."""
    rows: Columns = {"text": []}
    for draw in _draws(seed, "topics", split, indices, 96):
        own = TOPICS[draw.one(list(TOPICS))]
        lines = []
        for _ in range(6):
            nouns = draw.several(own, 3)
            lines.append(f"the {nouns[0]} {draw.one(VERBS)} the {nouns[1]} and {draw.one(VERBS)} the {nouns[2]} .")
        rows["text"].append("\n".join(lines))
    return rows
