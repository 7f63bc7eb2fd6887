"""The tokenizer: texts to ids and back. Imports no torch.

    chars       a character an id
    words       a word or a punctuation mark an id
    bpe         byte-pair encoding over characters (Sennrich et al. 2016), or GPT-1's files
    byte_bpe    over bytes: GPT-2's (Radford et al. 2019), which can spell anything
    wordpiece   BERT's (Devlin et al. 2019)
    clip        OpenAI's 49,408 byte pairs (Radford et al. 2021, section 2.4)

A text tower reads rows of a fixed length (`context`): the start of the text, its tokens, its end, padding. Its texts
are cleaned as CLIP's are, and the end is the largest id, so that a model finds it as the row's argmax. Its kinds are
words, bpe (over bytes) and clip.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from tfcli.errors import ConfigError, DataError, nearest
from tfcli.files import write_atomic
from tfcli.text.backends import MARKS, ROLES
from tfcli.text.clean import clean
from tfcli.text.files import short
from tfcli.text.training import CAPTION_RECIPES, RECIPES, train
from tfcli.text.vocabularies import FORMATS, file_in, read_vocabulary

if TYPE_CHECKING:
    import numpy as np
    from tokenizers import Tokenizer as Backend

    from tfcli.text.arrays import ArrayEncoder, Encoded

KINDS, CAPTION_KINDS = tuple(RECIPES), (*CAPTION_RECIPES, "clip")
"""Kinds of a language model, and of a text tower."""

Span = tuple[int, int]


class Tokenizer:
    """One vocabulary, and the length of its rows where a text tower reads them. Made by `make` or `load`.

    Special tokens that a text spells out (`[MASK]`, `<unk>`, `<|endoftext|>`) are read as such, as in the releases.

    Attributes:
        kind: see above; of a file also unigram.
        vocab_size: V.
        context: N, the length of the rows of `encode_padded`, start and end included; None for a language model.
        pad_id, unk_id, bos_id, eos_id, cls_id, sep_id, mask_id: of the special tokens; None where there is none. The
            padding of a text tower is 0. (In CLIP's vocabulary 0 is also `!`: padding is what follows the end.)

    Args:
        backend: of the `tokenizers` library. Padding, truncation and added specials are switched off.
        context: N; texts are then cleaned before they are cut into tokens.

    Raises:
        ConfigError: the context has no room for a word.
        DataError: rows are asked for, and the vocabulary marks no start and end, or its end is not the largest id.
    """

    def __init__(self, backend: Backend, *, context: int | None = None):
        backend.no_padding()
        backend.no_truncation()
        self._backend, self.context = backend, context
        content = json.loads(backend.to_str())
        self.kind = _kind(content, padded=context is not None)
        self.vocab_size: int = backend.get_vocab_size()
        ids = backend.get_vocab()
        found = {role: next((ids[name] for name in names if name in ids), None) for role, names in ROLES.items()}
        self.pad_id, self.unk_id, self.bos_id, self.eos_id = (found[role] for role in ("pad", "unk", "bos", "eos"))
        self.cls_id, self.sep_id, self.mask_id = (found[role] for role in ("cls", "sep", "mask"))
        self._silent = {token["id"] for token in content["added_tokens"] if token["special"]} - {self.unk_id}
        if context is not None:
            self._mark_rows(context, ids)

    def _mark_rows(self, context: int, ids: dict[str, int]) -> None:
        """Check that rows can be marked, and choose their marks."""
        if context < 3:
            raise ConfigError(f"a context must hold a start, a word and an end, but is {context}.")
        marks = next(((ids[a], ids[b]) for a, b in MARKS if a in ids and b in ids), None)
        if marks is None:
            raise DataError(
                "this vocabulary does not mark where a text starts and ends. "
                f"Looked for {', '.join(' and '.join(pair) for pair in MARKS)}."
            )
        self.pad_id, (self.bos_id, self.eos_id) = 0, marks
        if self.eos_id != self.vocab_size - 1:
            raise DataError(
                f"the end of a text has the id {self.eos_id} of {self.vocab_size}; it must be the largest, "
                "for models to find it."
            )
        self._silent |= set(marks)

    @cached_property
    def digest(self) -> str:
        """Hash of 16 hexadecimal digits; equal for vocabularies that do the same."""
        content = json.loads(self._backend.to_str())
        settings = {key: content[key] for key in ("added_tokens", "normalizer", "pre_tokenizer", "model", "decoder")}
        return sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of each text, without any special token that it does not spell out."""
        return [piece.ids for piece in self._backend.encode_batch_fast(self._cleaned(texts), add_special_tokens=False)]

    def encode_offsets(self, texts: Sequence[str]) -> list[tuple[list[int], list[Span]]]:
        """Return the ids of each text, and of each id the characters [start, end) that it stands for.

        The space that a piece begins with is not among its characters, unless it is all there is. Several pieces may
        share a character: its bytes.
        """
        found = []
        pieces = self._backend.encode_batch(self._cleaned(texts), add_special_tokens=False)
        for text, piece in zip(texts, pieces, strict=True):
            spans = [(a + (b - a > 1 and text[a] == " "), b) for a, b in piece.offsets]
            found.append((piece.ids, spans))
        return found

    def encode_arrays(self, texts: Sequence[str]) -> list[Encoded]:
        """Return the ids (N,) of each text, and of each id the first character and the one after the last."""
        return list(self._arrays(self._cleaned(texts)))

    @cached_property
    def _arrays(self) -> ArrayEncoder:
        from tfcli.text.arrays import ArrayEncoder

        return ArrayEncoder(self._backend, chars=self.kind == "chars", unk_id=self.unk_id)

    def encode_words(self, words: Sequence[str]) -> tuple[list[int], list[int]]:
        """Return the ids of a sentence that is cut into words already, and the index of the word of each id.

        A word of nothing but what the vocabulary leaves out (control characters) has no id.
        """
        if self.kind == "byte_bpe":  # its words carry the space before them
            words = [f" {word}" for word in words]
        piece = self._backend.encode(list(words), is_pretokenized=True, add_special_tokens=False)
        return piece.ids, cast(list[int], piece.word_ids)

    def encode_padded(self, texts: Sequence[str], *, truncate: bool = False) -> np.ndarray:
        """Return texts as rows of ids: start, tokens, end, padding.

        Args:
            texts: any number; a single text is a list of one.
            truncate: cut texts that are too long; the last id of their row is the end.

        Returns:
            Int64 of shape (B, N).

        Raises:
            ConfigError: a text is too long.
        """
        import numpy as np

        assert self.context is not None, "rows have the length of a context, and this tokenizer has none"
        assert self.bos_id is not None
        assert self.eos_id is not None
        texts = [texts] if isinstance(texts, str) else texts
        rows = np.full((len(texts), self.context), self.pad_id, dtype=np.int64)
        for row, text, ids in zip(rows, texts, self.encode(texts), strict=True):
            if len(ids) > self.room and not truncate:
                raise ConfigError(
                    f"a text has {len(ids)} tokens, and the context of {self.context} holds {self.room} besides its "
                    f"start and end: {short(text)!r}. Shorten it, or give the model a longer context."
                )
            ids = [self.bos_id, *ids[: self.room], self.eos_id]
            row[: len(ids)] = ids
        return rows

    @property
    def room(self) -> int:
        """The most tokens of a text in a row of `encode_padded`."""
        return (self.context or 0) - 2

    def _cleaned(self, texts: Sequence[str]) -> list[str]:
        return list(texts) if self.context is None else [clean(text) for text in texts]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of some ids; special tokens are left out, except for the unknown one.

        A row of `encode_padded` is read as far as its end. Its text is clean: lower case, single spaces.
        """
        numbers = [int(number) for number in ids]
        if self.context is not None and self.eos_id in numbers:
            numbers = numbers[: numbers.index(self.eos_id)]
        spelled = [number for number in numbers if number not in self._silent]
        text = self._backend.decode(spelled, skip_special_tokens=False)
        return text if self.context is None else text.strip()

    def id_to_token(self, number: int) -> str | None:
        """Return the token of an id; None beyond the vocabulary."""
        return self._backend.id_to_token(int(number))

    def save(self, folder: Path) -> Path:
        """Write `tokenizer.json`, which `load` and the `tokenizers` library read; the context is its padding length.

        Returns:
            The file.
        """
        if self.context is not None:
            pad = self._backend.id_to_token(0)
            self._backend.enable_padding(length=self.context, pad_id=0, pad_token=pad)
        content = self._backend.to_str(pretty=True)
        self._backend.no_padding()
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(folder / "tokenizer.json", content)
        return folder / "tokenizer.json"


def make(
    kind: str | None,
    *,
    texts: Sequence[str] | Callable[[], Sequence[str]] = (),
    vocab_size: int | None = None,
    path: str | Path | None = None,
    lower: bool | None = None,
    context: int | None = None,
) -> Tokenizer:
    """Return a tokenizer, its vocabulary made from `texts` or read from a file.

    Args:
        kind: one of `KINDS`, or of `CAPTION_KINDS` for a text tower; None: whatever `path` holds.
        texts: the corpus, or what returns it when it is needed.
        vocab_size: V of a new vocabulary (4,096; of chars and words all there are).
        path: a tokenizer that exists already, as `load` takes it. Needed for clip.
        lower: everything in lower case. None: no, and of a file what it says itself. A text tower's always is.
        context: N of the rows that a text tower reads.

    Raises:
        ConfigError: there is no such kind, it lacks its texts, its file or room for its alphabet, or the file is of
            another kind or case.
        DataError: the file is no tokenizer.
    """
    kinds = KINDS if context is None else CAPTION_KINDS
    if kind not in kinds and not (kind is None and path):
        raise ConfigError(
            f"`model.tokenizer.kind` must be one of {', '.join(kinds)}, but is `{kind}`.{nearest(str(kind), kinds)}"
        )
    if path is not None:
        found = load(Path(path), lower=lower, context=context)
        if kind not in (None, found.kind):
            raise ConfigError(f"`model.tokenizer.kind` is {kind}, but `{path}` holds a tokenizer of kind {found.kind}.")
        return found
    assert kind is not None
    if kind == "clip":
        raise ConfigError("the clip tokenizer needs its file: `model.tokenizer.path=.../bpe_simple_vocab_16e6.txt.gz`.")
    corpus = texts() if callable(texts) else texts
    if not any(corpus):
        raise ConfigError(f"a tokenizer of kind {kind} takes its vocabulary from a corpus, and there is no text.")
    backend = train(kind, corpus, vocab_size=vocab_size, lower=bool(lower), captions=context is not None)
    return Tokenizer(backend, context=context)


def load(path: Path, *, lower: bool | None = None, context: int | None = None) -> Tokenizer:
    """Read a tokenizer that someone wrote.

    Args:
        path: a folder with one of `FORMATS`, or the file itself.
        lower: of a `vocab.txt`, which does not say it: None takes the `do_lower_case` of the `tokenizer_config.json`
            beside it, and without that whether no piece has a capital.
        context: N of the rows that a text tower reads.

    Raises:
        DataError: it is missing or is none of these, or a text tower cannot read it.
        ConfigError: `lower` is not what the file says.
    """
    path = Path(path).expanduser()
    file = file_in(path) if path.is_dir() else path
    if not file.is_file():
        raise DataError(f"`{path}` does not exist; a tokenizer was expected there ({FORMATS}).")
    backend = read_vocabulary(file, lower=lower)
    lowers = backend.normalizer is not None and backend.normalizer.normalize_str("A") == "a"
    if context is None and lower not in (None, lowers):
        case = "lower case" if lowers else "capitals and lower case"
        raise ConfigError(f"`model.tokenizer.lower` is {lower}, but `{path}` reads {case}. Leave it out.")
    return Tokenizer(backend, context=context)


def check_matches(tokenizer: Tokenizer, *, vocab_size: int | None = None, digest: str | None = None) -> None:
    """Refuse a tokenizer that a model was not made for.

    A table of embeddings may be longer than the vocabulary by what rounds it up to a multiple of 8 to 128.

    Args:
        tokenizer: what there is.
        vocab_size: rows of the model's table of embeddings.
        digest: of the tokenizer that the model was trained with.

    Raises:
        ConfigError: it is another vocabulary.
    """
    size = tokenizer.vocab_size
    if vocab_size is not None and vocab_size not in {-(-size // m) * m for m in (1, 8, 16, 32, 64, 128)}:
        raise ConfigError(
            f"the tokenizer does not match the model: it has {size:,} tokens ({tokenizer.kind}), the model embeddings "
            f"for {vocab_size:,}. Name the model's own with model.tokenizer.path=FOLDER."
        )
    if digest is not None and digest != tokenizer.digest:
        raise ConfigError(
            f"the tokenizer does not match the model: it has {size:,} tokens as the model's, but other ones (digest "
            f"{tokenizer.digest}, not {digest}). Name the model's own with model.tokenizer.path=FOLDER."
        )


def _kind(content: dict[str, Any], *, padded: bool) -> str:
    """Return the kind of a vocabulary by the model inside.

    Raises:
        DataError: a text tower reads no such vocabulary.
    """
    model = content["model"]
    if padded:
        if model["type"] not in ("WordLevel", "BPE"):
            raise DataError(
                f"this is a vocabulary of type {model['type']}; a text tower reads words (WordLevel) and byte pairs "
                "(BPE)."
            )
        ends_words = model.get("end_of_word_suffix") == "</w>"
        return "words" if model["type"] == "WordLevel" else "clip" if ends_words else "bpe"
    if model["type"] != "BPE":
        return {"WordLevel": "words", "WordPiece": "wordpiece", "Unigram": "unigram"}[model["type"]]
    if not model["merges"]:
        return "chars"
    return "byte_bpe" if '"ByteLevel"' in json.dumps(content["pre_tokenizer"]) else "bpe"
