"""Texts to rows of ids, padded to a context: start, the text, end, zeros. Imports no torch.

Three kinds behind one interface: `clip`, OpenAI's byte-pair vocabulary of 49,408 (Radford et al. 2021, section 2.4);
`bpe`, byte-level pairs trained on one's own texts (Sennrich et al. 2016; Radford et al. 2019); `words`, a word an id.
In all of them the end of the text is the largest id, so a model finds it as the row's argmax.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tfcli.errors import ConfigError, DataError, nearest
from tfcli.text.clean import clean
from tfcli.text.files import short
from tfcli.text.vocabularies import (
    MARKS,
    byte_pairs,
    from_json,
    from_merges,
    from_pairs,
    kind_of,
    stated_beside,
    words,
)

if TYPE_CHECKING:
    import numpy as np
    from tokenizers import Tokenizer as Backend

KINDS = ("words", "bpe", "clip")
CLIP_CONTEXT = 77
BPE_VOCABULARY = 4096


class Tokenizer:
    """One vocabulary and the context its rows are padded to. Made by `make` or `load`.

    Attributes:
        kind: words, bpe or clip.
        context: N, the length of every row, with the start and the end.
        vocab_size: V.
        sos_id: the start of a text.
        eos_id: its end, V - 1.
        pad_id: 0. (In CLIP's vocabulary 0 is also `!`: padding is what follows the end.)

    Args:
        backend: of the `tokenizers` library; it cuts up clean text and adds nothing of its own.
        kind: what `backend` is.
        context: N.

    Raises:
        DataError: the vocabulary marks no start and end, or its end is not the largest id.
        ConfigError: the context has no room for a word.
    """

    pad_id = 0

    def __init__(self, backend: Backend, *, kind: str, context: int):
        if context < 3:
            raise ConfigError(f"a context must hold a start, a word and an end, but is {context}.")
        self.kind, self.context, self._backend = kind, context, backend
        self.vocab_size = backend.get_vocab_size()
        ids = next(((backend.token_to_id(a), backend.token_to_id(b)) for a, b in MARKS if backend.token_to_id(b)), None)
        if ids is None or None in ids:
            raise DataError(
                "this vocabulary does not mark where a text starts and ends. "
                f"Looked for {', '.join(' and '.join(pair) for pair in MARKS)}."
            )
        self.sos_id, self.eos_id = (int(number) for number in ids if number is not None)
        if self.eos_id != self.vocab_size - 1:
            raise DataError(
                f"the end of a text has the id {self.eos_id} of {self.vocab_size}; it must be the largest, "
                "for models to find it."
            )
        backend.no_padding()
        backend.no_truncation()

    def encode(self, texts: Sequence[str], *, truncate: bool = False) -> np.ndarray:
        """Texts as rows of ids.

        Args:
            texts: any number; a single text is a list of one.
            truncate: cut texts that are too long; the last id of their row is the end.

        Returns:
            Int64 of shape (B, N).

        Raises:
            ConfigError: a text is too long.
        """
        import numpy as np

        texts = [texts] if isinstance(texts, str) else texts
        room = self.context - 2
        rows = np.full((len(texts), self.context), self.pad_id, dtype=np.int64)
        pieces = self._backend.encode_batch([clean(text) for text in texts], add_special_tokens=False)
        for row, text, piece in zip(rows, texts, pieces, strict=True):
            ids = piece.ids
            if len(ids) > room and not truncate:
                raise ConfigError(
                    f"a text has {len(ids)} tokens, and the context of {self.context} holds {room} besides its start "
                    f"and end: {short(text)!r}. Shorten it, or give the model a longer context."
                )
            ids = ids[:room]
            row[0], row[1 : len(ids) + 1], row[len(ids) + 1] = self.sos_id, ids, self.eos_id
        return rows

    def decode(self, row: Sequence[int]) -> str:
        """The text of one row, as far as its ids tell: lower case, single spaces, unknown words as `<unk>`."""
        ids = [int(number) for number in row]
        start = 1 if ids[:1] == [self.sos_id] else 0
        end = ids.index(self.eos_id) if self.eos_id in ids else len(ids)
        return self._backend.decode(ids[start:end], skip_special_tokens=False).strip()

    def save(self, folder: Path) -> Path:
        """Write `tokenizer.json`, in the format of the `tokenizers` library; the context is its padding length.

        Returns:
            The file, which `load` reads back.
        """
        content = json.loads(self._backend.to_str())
        content["padding"] = {
            "strategy": {"Fixed": self.context},
            "direction": "Right",
            "pad_to_multiple_of": None,
            "pad_id": self.pad_id,
            "pad_type_id": 0,
            "pad_token": self._backend.id_to_token(self.pad_id),
        }
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        file, temporary = folder / "tokenizer.json", folder / f".tokenizer.json.{os.getpid()}"
        temporary.write_text(json.dumps(content, ensure_ascii=False, indent=1), encoding="utf-8")
        os.replace(temporary, file)
        return file


def make(
    kind: str,
    *,
    context: int,
    texts: Sequence[str] = (),
    vocab_size: int | None = None,
    path: str | None = None,
) -> Tokenizer:
    """A tokenizer of some kind, its vocabulary taken from `texts` or from a file.

    Args:
        kind: words (every word of `texts`, and one id for all others), bpe (byte-level pairs trained on `texts`, which
            can spell anything) or clip.
        context: N.
        texts: for words and bpe.
        vocab_size: V of bpe (4,096); for words the most there may be, the frequent ones kept; null: all of them.
        path: a tokenizer that exists already: whatever `load` takes, of any kind. Needed for clip.

    Raises:
        ConfigError: there is no such kind, or it lacks its texts or its file.
        DataError: the file is not a tokenizer.
    """
    if kind not in KINDS:
        raise ConfigError(
            f"`model.tokenizer.kind` must be one of {', '.join(KINDS)}, but is `{kind}`.{nearest(kind, KINDS)}"
        )
    if path is not None:
        found = load(Path(path), context=context)
        if found.kind != kind:
            raise ConfigError(f"`model.tokenizer.kind` is {kind}, but `{path}` holds a tokenizer of kind {found.kind}.")
        return found
    if kind == "clip":
        raise ConfigError("the clip tokenizer needs its file: `model.tokenizer.path=.../bpe_simple_vocab_16e6.txt.gz`.")
    if not texts:
        raise ConfigError(f"a tokenizer of kind {kind} takes its vocabulary from captions, and there are none.")
    backend = words(texts, vocab_size) if kind == "words" else byte_pairs(texts, vocab_size or BPE_VOCABULARY)
    return Tokenizer(backend, kind=kind, context=context)


def load(path: Path, *, context: int | None = None) -> Tokenizer:
    """Read a tokenizer that someone wrote.

    Args:
        path: a `tokenizer.json`; a folder with one or with `vocab.json` and `merges.txt`; or OpenAI's
            `bpe_simple_vocab_16e6.txt`, also as `.gz`.
        context: N; by default what the file says, else 77.

    Raises:
        DataError: it is missing or is none of these.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        inside = [path / "tokenizer.json", path / "vocab.json", *sorted(path.glob("bpe_simple_vocab_16e6.txt*"))]
        file = next((entry for entry in inside if entry.is_file()), None)
        if file is None:
            raise DataError(f"`{path}` holds no tokenizer: neither tokenizer.json nor vocab.json with merges.txt.")
        path = file
    if not path.is_file():
        raise DataError(f"`{path}` does not exist; a tokenizer was expected there.")
    stated = None
    if ".txt" in path.suffixes:
        backend = from_merges(path)
    elif path.name == "vocab.json":
        backend = from_pairs(path, path.with_name("merges.txt"))
    else:
        backend, stated = from_json(path)
    kind = kind_of(backend, path)
    return Tokenizer(backend, kind=kind, context=context or stated or stated_beside(path) or CLIP_CONTEXT)
