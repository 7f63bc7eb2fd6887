"""Tokenizers of language models: texts to lists of ids and back. Imports no torch.

    chars       a character an id
    words       a word or a sign an id
    bpe         byte-pair encoding over characters (Sennrich et al. 2016), or GPT-1's files
    byte_bpe    over bytes: GPT-2's (Radford et al. 2019), which can spell anything
    wordpiece   BERT's (Devlin et al. 2019)

A vocabulary is made from a corpus by `make`, or read by `load` from what others published. Images with captions have
rows of CLIP's kind instead: `tfcli.text.tokenizer`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from tfcli.errors import ConfigError, DataError, nearest
from tfcli.files import write_atomic
from tfcli.text.files import read_backend, read_ids, read_json, read_merges, read_text
from tfcli.text.training import BERT_SPECIALS, bert_level, byte_level, train

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Backend

KINDS = ("chars", "words", "bpe", "byte_bpe", "wordpiece")
ROLES = {
    "pad": ("<pad>", "[PAD]"),
    "unk": ("<unk>", "[UNK]"),
    "bos": ("<bos>", "<s>", "<|startoftext|>", "<|endoftext|>"),
    "eos": ("<eos>", "</s>", "<|endoftext|>"),
    "cls": ("[CLS]",),
    "sep": ("[SEP]",),
    "mask": ("[MASK]", "<mask>"),
}
"""Names that the special tokens go by, ours first. GPT-2's one token is both start and end."""
FORMATS = "tokenizer.json, vocab.json with merges.txt (GPT-2, GPT-1) or vocab.txt (BERT)"

Span = tuple[int, int]


class Subwords:
    """One vocabulary of sub-words. Made by `make` or `load`.

    Special tokens that a text spells out (`[MASK]`, `<unk>`, `<|endoftext|>`) are read as such, as in the releases.

    Attributes:
        kind: chars, words, bpe, byte_bpe or wordpiece; of a file also unigram.
        vocab_size: V.
        pad_id, unk_id, bos_id, eos_id, cls_id, sep_id, mask_id: of the special tokens; None where there is none.
        digest: 16 hexadecimal digits; equal for tokenizers that do the same.

    Args:
        backend: of the `tokenizers` library. Padding, truncation and added specials are switched off.
    """

    def __init__(self, backend: Backend):
        backend.no_padding()
        backend.no_truncation()
        self._backend = backend
        content = json.loads(backend.to_str())
        self.kind = _kind(content)
        self.vocab_size: int = backend.get_vocab_size()
        settings = {key: content[key] for key in ("added_tokens", "normalizer", "pre_tokenizer", "model", "decoder")}
        self.digest = sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
        ids = backend.get_vocab()
        found = {role: next((ids[name] for name in names if name in ids), None) for role, names in ROLES.items()}
        self.pad_id, self.unk_id, self.bos_id, self.eos_id = (found[role] for role in ("pad", "unk", "bos", "eos"))
        self.cls_id, self.sep_id, self.mask_id = (found[role] for role in ("cls", "sep", "mask"))
        self._silent = {token["id"] for token in content["added_tokens"] if token["special"]} - {self.unk_id}

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text, without any special that it does not spell out."""
        return [piece.ids for piece in self._cut(texts)]

    def encode_offsets(self, texts: Sequence[str]) -> list[tuple[list[int], list[Span]]]:
        """The ids of each text, and of each id the characters [start, end) that it stands for.

        The space that a piece begins with is not among its characters, unless it is all there is. Several pieces may
        share a character: its bytes.
        """
        found = []
        for text, piece in zip(texts, self._cut(texts), strict=True):
            spans = [(a + (b - a > 1 and text[a] == " "), b) for a, b in piece.offsets]
            found.append((piece.ids, spans))
        return found

    def encode_words(self, words: Sequence[str]) -> tuple[list[int], list[int]]:
        """The ids of a sentence that is cut into words already, and the index of the word of each id.

        A word of nothing but what the vocabulary leaves out (control characters) has no id.
        """
        if self.kind == "byte_bpe":  # its words carry the space before them
            words = [f" {word}" for word in words]
        piece = self._backend.encode(list(words), is_pretokenized=True, add_special_tokens=False)
        return piece.ids, cast(list[int], piece.word_ids)

    def _cut(self, texts: Sequence[str]) -> list[Any]:
        return self._backend.encode_batch(list(texts), add_special_tokens=False)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of some ids; special tokens are left out, except for the unknown one."""
        said = [number for number in map(int, ids) if number not in self._silent]
        return self._backend.decode(said, skip_special_tokens=False)

    def id_to_token(self, number: int) -> str | None:
        """Return the token of an id; None beyond the vocabulary."""
        return self._backend.id_to_token(int(number))

    def save(self, folder: Path) -> Path:
        """Write `tokenizer.json`, which `load` and the `tokenizers` library read. Returns the file."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(folder / "tokenizer.json", self._backend.to_str(pretty=True))
        return folder / "tokenizer.json"


def make(
    kind: str | None,
    *,
    texts: Sequence[str] | Callable[[], Sequence[str]] = (),
    vocab_size: int | None = None,
    path: str | Path | None = None,
    lower: bool | None = None,
) -> Subwords:
    """A tokenizer, its vocabulary made from `texts` or read from a file.

    Args:
        kind: one of `KINDS`; None: whatever `path` holds.
        texts: the corpus, or what returns it when it is needed.
        vocab_size: V of a new vocabulary (4,096; of chars and words all there are).
        path: a tokenizer that exists already, as `load` takes it.
        lower: everything in lower case. None: no, and of a file what it says itself.

    Raises:
        ConfigError: there is no such kind, it lacks its texts or room for its alphabet, or the file is of another kind
            or case.
        DataError: the file is no tokenizer.
    """
    if kind not in KINDS and not (kind is None and path):
        raise ConfigError(
            f"`model.tokenizer.kind` must be one of {', '.join(KINDS)}, but is `{kind}`.{nearest(str(kind), KINDS)}"
        )
    if path is not None:
        found = load(Path(path), lower=lower)
        if kind not in (None, found.kind):
            raise ConfigError(f"`model.tokenizer.kind` is {kind}, but `{path}` holds a tokenizer of kind {found.kind}.")
        return found
    assert kind is not None
    corpus = texts() if callable(texts) else texts
    if not any(corpus):
        raise ConfigError(f"a tokenizer of kind {kind} takes its vocabulary from a corpus, and there is no text.")
    return Subwords(train(kind, corpus, vocab_size=vocab_size, lower=bool(lower)))


def load(path: Path, *, lower: bool | None = None) -> Subwords:
    """Read a tokenizer that someone wrote.

    Args:
        path: a folder with one of `FORMATS`, or the file itself.
        lower: of a `vocab.txt`, which does not say it: None takes the `do_lower_case` of the `tokenizer_config.json`
            beside it, and without that whether no piece has a capital.

    Raises:
        DataError: it is missing or is none of these.
        ConfigError: `lower` is not what the file says.
    """
    path = Path(path).expanduser()
    file = _file_in(path) if path.is_dir() else path
    if not file.is_file():
        raise DataError(f"`{path}` does not exist; a tokenizer was expected there ({FORMATS}).")
    if file.suffix == ".txt" and file.name != "merges.txt":
        return Subwords(_wordpiece(file, lower))
    backend = _pairs(file.with_name("vocab.json")) if file.name in ("vocab.json", "merges.txt") else read_backend(file)
    lowers = backend.normalizer is not None and backend.normalizer.normalize_str("A") == "a"
    if lower not in (None, lowers):
        case = "lower case" if lowers else "capitals and lower case"
        raise ConfigError(f"`model.tokenizer.lower` is {lower}, but `{path}` reads {case}. Leave it out.")
    return Subwords(backend)


def check_matches(tokenizer: Subwords, *, vocab_size: int | None = None, digest: str | None = None) -> None:
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


def _file_in(folder: Path) -> Path:
    if (folder / "tokenizer.json").is_file():
        return folder / "tokenizer.json"
    if (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        return folder / "vocab.json"
    if (folder / "vocab.txt").is_file():
        return folder / "vocab.txt"
    pieces = sorted(entry.name for pattern in ("*.spm", "*.model") for entry in folder.glob(pattern))
    if pieces:
        raise DataError(
            f"`{folder}` holds only SentencePiece files ({', '.join(pieces)}), which are not read. Put the "
            "`tokenizer.json` of the same model beside them; of Marian's models (opus-mt-...) converted copies on the "
            "hub have one (Xenova/opus-mt-...)."
        )
    raise DataError(f"`{folder}` holds no tokenizer. Looked for {FORMATS}.")


def _pairs(vocabulary: Path) -> Backend:
    """GPT-2's files, or GPT-1's, whose words end in `</w>`."""
    from tokenizers import Tokenizer as Backend
    from tokenizers import decoders, models, normalizers, pre_tokenizers

    ids, merges = read_ids(vocabulary), read_merges(vocabulary.with_name("merges.txt"))
    ends_words = any(name.endswith("</w>") for name in ids)
    options = {"end_of_word_suffix": "</w>", "unk_token": "<unk>"} if ends_words else {}
    try:
        model = models.BPE(vocab=ids, merges=merges, **options)
    except Exception as error:  # the library raises bare exceptions
        reason = str(error).splitlines()[0][:200]
        raise DataError(f"`{vocabulary}` and the merges.txt beside it do not agree: {reason}") from error
    if ends_words:
        backend = Backend(model)
        backend.normalizer = normalizers.BertNormalizer(lowercase=True)
        backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        backend.decoder = decoders.BPEDecoder(suffix="</w>")
    else:
        backend = byte_level(model)
    backend.add_special_tokens([name for name in {n: 0 for names in ROLES.values() for n in names} if name in ids])
    return backend


def _wordpiece(file: Path, lower: bool | None) -> Backend:
    pieces = read_text(file).replace("\r\n", "\n").rstrip("\n").split("\n")
    lacking = [name for name in BERT_SPECIALS if name not in pieces]
    if lacking:
        raise DataError(f"`{file}` is no vocabulary of BERT's: it lacks {', '.join(lacking)}.")
    if lower is None:
        beside = file.with_name("tokenizer_config.json")
        stated = read_json(beside) if beside.is_file() else {}
        given = stated.get("do_lower_case") if isinstance(stated, dict) else None
        lower = given if isinstance(given, bool) else not any(p != p.lower() for p in pieces if p[:1] != "[")
    return bert_level({piece: number for number, piece in enumerate(pieces)}, lower=lower)


def _kind(content: dict[str, Any]) -> str:
    """One of `KINDS` by the model inside, or unigram."""
    model = content["model"]
    if model["type"] != "BPE":
        return {"WordLevel": "words", "WordPiece": "wordpiece", "Unigram": "unigram"}[model["type"]]
    if not model["merges"]:
        return "chars"
    return "byte_bpe" if '"ByteLevel"' in json.dumps(content["pre_tokenizer"]) else "bpe"
