"""Compare the vectors of one word in several sentences, layer by layer, and those of its static embedding."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from tfcli.engine.use.language_model import LoadedLanguageModel
from tfcli.engine.use.sample import prompt_ids
from tfcli.errors import ConfigError, IncompatibleError, nearest
from tfcli.nn.capture import capture
from tfcli.shapes import Float
from tfcli.text.frames import Frame

BLOCK = re.compile(r"(?:^|\.)blocks\.\d+$")
POOLS = ("mean", "first")


@dataclass
class Word:
    """One occurrence of a word in a sentence.

    Attributes:
        sentence: its number, from 0.
        text: as it is written there.
        pieces: the tokens that spell it.
        places: of these among all tokens of the sentence, without marks.
    """

    sentence: int
    text: str
    pieces: list[str]
    places: list[int]


@dataclass
class WordVectors:
    """Cosines between all occurrences of a word.

    Attributes:
        words: the occurrences.
        static: between their embeddings, which do not see the sentence.
        layers: between their vectors after each block, the first first.
    """

    words: list[Word]
    static: Float[Tensor, "W W"]
    layers: Float[Tensor, "L W W"]


@torch.no_grad()
def word_vectors(
    loaded: LoadedLanguageModel, sentences: Sequence[str], word: str, *, pool: str = "mean"
) -> WordVectors:
    """Read sentences and compare a word's vectors among them (Devlin et al. 2019, section 5.3, as features).

    Args:
        loaded: a model that reads text, as BERT and GPT.
        sentences: each with the word in it, once or more; capitals do not matter.
        word: one word, or several.
        pool: what stands for a word of several pieces: their mean, or the first.

    Raises:
        ConfigError: a sentence lacks the word, or is longer than the model takes.
        IncompatibleError: the model does not read text as one stack of blocks over one embedding.
    """
    net: Any = loaded.net
    table = getattr(net, "embed", None)
    if not isinstance(table, nn.Embedding) or not hasattr(net, "features"):
        raise IncompatibleError(f"{loaded.choices['model']} has no vectors of words to compare. BERT and GPT have.")
    found, static, layers = list[Word](), list[Tensor](), list[Tensor]()
    for number, sentence in enumerate(sentences):
        ids, before = _read(loaded, sentence)
        if loaded.context and len(ids) > loaded.context:
            raise ConfigError(
                f"sentence {number + 1} has {len(ids)} tokens, more than the {loaded.context} that the model takes."
            )
        with capture(net) as trace:
            net.features(torch.tensor([ids], device=loaded.device))
        blocks = [output[0].float().cpu() for name, output in trace.outputs.items() if BLOCK.search(name)]  # (N, D)
        for occurrence in _occurrences(loaded, number, sentence, word):
            rows = [before + place for place in (occurrence.places if pool == "mean" else occurrence.places[:1])]
            found.append(occurrence)
            static.append(table.weight[[ids[row] for row in rows]].float().cpu().mean(0))
            layers.append(torch.stack([block[rows].mean(0) for block in blocks]))
    return WordVectors(found, _cosines(torch.stack(static)), _cosines(torch.stack(layers, 1)))


def _read(loaded: LoadedLanguageModel, sentence: str) -> tuple[list[int], int]:
    """Return a sentence with its marks as the model reads it, and the number of marks before it."""
    if loaded.config.model.get("layout") == "cls":
        framed = Frame(loaded.tokenizer, "cls").pair(loaded.tokenizer.encode([sentence])[0], None)
        return framed.ids, framed.first[0]
    ids = prompt_ids(loaded, sentence, start=True)
    return ids, len(ids) - len(loaded.tokenizer.encode([sentence])[0])


def _occurrences(loaded: LoadedLanguageModel, number: int, sentence: str, word: str) -> list[Word]:
    """Find a word in a sentence.

    Raises:
        ConfigError: nowhere.
    """
    ids, spans = loaded.tokenizer.encode_offsets([sentence])[0]
    found = []
    for match in re.finditer(rf"(?<!\w){re.escape(word)}(?!\w)", sentence, re.IGNORECASE):
        places = [place for place, (a, b) in enumerate(spans) if a < match.end() and b > match.start()]
        if places:
            pieces = [loaded.tokenizer.id_to_token(ids[place]) or "" for place in places]
            found.append(Word(number, match[0], pieces, places))
    if not found:
        close = nearest(word, re.findall(r"\w+", sentence))
        raise ConfigError(f"`--word {word}`: sentence {number + 1}, `{sentence}`, does not contain it.{close}")
    return found


def _cosines(vectors: Float[Tensor, "*L W D"]) -> Float[Tensor, "*L W W"]:
    unit = normalize(vectors, dim=-1)
    return (unit @ unit.mT).clamp(-1, 1)
