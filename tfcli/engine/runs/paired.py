"""Per-sample outcomes of runs, and paired tests of runs on the same samples. No torch.

Of classifiers `outcomes.safetensors` says which samples were right, of translators `translations.tsv` what was said.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from tfcli.errors import RunError
from tfcli.files import write_atomic

if TYPE_CHECKING:
    import numpy as np

NAME = "outcomes.safetensors"
TRANSLATIONS = "translations.tsv"


@dataclass(frozen=True, eq=False)
class Outcomes:
    """Outcomes of test samples: the place of each in the test set, its class, the predicted class, and whether it is
    right.

    Attributes:
        index, label, guess, correct: (N,), in the order of `index`.
        fingerprint: of the test split; equal fingerprints are the same samples in the same order.
    """

    index: np.ndarray
    label: np.ndarray
    guess: np.ndarray
    correct: np.ndarray
    fingerprint: str

    def same_images(self, other: Outcomes) -> bool:
        """Return whether both are of the same samples."""
        alike = self.fingerprint == other.fingerprint and len(self.index) == len(other.index)
        return alike and bool((self.index == other.index).all() and (self.label == other.label).all())


def write_outcomes(folder: Path, *, index: Any, label: Any, guess: Any, data: str, fingerprint: str) -> None:
    """Write `folder/outcomes.safetensors`: int32 columns and uint8 `correct`."""
    import numpy as np
    from safetensors.numpy import save

    columns = {"index": index, "label": label, "guess": guess}
    arrays = {name: np.ascontiguousarray(values, dtype=np.int32) for name, values in columns.items()}
    arrays["correct"] = (arrays["label"] == arrays["guess"]).astype(np.uint8)
    write_atomic(Path(folder) / NAME, save(arrays, metadata={"data": data, "fingerprint": fingerprint}))


def read_outcomes(folder: Path) -> Outcomes | None:
    """Read a run's outcomes; None where it tested no classifier.

    Raises:
        RunError: the file is not what `write_outcomes` writes.
    """
    path = Path(folder) / NAME
    if not path.exists():
        return None
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            facts = file.metadata() or {}
            columns = {name: file.get_tensor(name) for name in ("index", "label", "guess", "correct")}
    except (SafetensorError, OSError) as error:
        raise RunError(f"`{path}` cannot be read: {error}. Evaluate the run again.") from None
    return Outcomes(**columns, fingerprint=facts.get("fingerprint", ""))


def paired_runs(folders: Sequence[Path]) -> list[dict[str, Any] | None]:
    """Compare each run after the first with it on the same test images; None where they have none in common.

    Returns:
        `difference`, `low`, `high` (95 %), `p`, `images`, and `better` and `worse`: on how many images only the one or
        only the other is right.

    Raises:
        RunError: a file of outcomes is broken.
    """
    from tfcli.metrics.paired import compare

    first, *others = [read_outcomes(folder) for folder in folders]
    rows: list[dict[str, Any] | None] = []
    for other in others:
        if first is None or other is None or not first.same_images(other):
            rows.append(None)
            continue
        ours, theirs = (outcomes.correct[None].astype(float) for outcomes in (other, first))
        found, gained = compare(ours, theirs), ours - theirs
        rows.append(
            {
                "difference": found.difference,
                "low": found.low,
                "high": found.high,
                "p": found.p,
                "images": found.images,
                "better": int((gained > 0).sum()),
                "worse": int((gained < 0).sum()),
            }
        )
    return rows


def write_translations(folder: Path, *, sources: Sequence[str], references: Sequence[str], ours: Sequence[str]) -> None:
    """Write `folder/translations.tsv`, a line a sentence."""
    lines = [("source", "reference", "ours"), *zip(sources, references, ours, strict=True)]
    text = "\n".join("\t".join(" ".join(cell.split()) for cell in line) for line in lines)
    write_atomic(folder / TRANSLATIONS, text + "\n")


def paired_translations(folders: Sequence[Path], *, tokenize: str = "13a") -> list[dict[str, Any] | None]:
    """Compare each run after the first with it on the same sentences; None where they have none in common.

    Args:
        tokenize: sacrebleu's tokenizer.

    Returns:
        `difference` in BLEU, `p` of sacrebleu's paired bootstrap over sentences (Koehn 2004), and `sentences`.
    """
    first, *others = [_read_translations(folder) for folder in folders]
    found: list[dict[str, Any] | None] = []
    for other in others:
        if not first or not other or first[:2] != other[:2]:
            found.append(None)
            continue
        from sacrebleu.metrics import BLEU
        from sacrebleu.significance import PairedTest, Result

        systems: list[tuple[str, Sequence[str]]] = [("1", first[2]), ("2", other[2])]
        bleu = BLEU(references=[first[1]], tokenize=tokenize, force=True)
        _, scores = PairedTest(systems, {"BLEU": bleu}, None, test_type="bs")()
        one, two = cast(list[Result], scores["BLEU"])
        p = two.p_value if first[2] != other[2] else 1.0  # of equal texts the library would say that they differ
        found.append({"difference": two.score - one.score, "p": p, "sentences": len(first[0])})
    return found


def _read_translations(folder: Path) -> list[list[str]]:
    """Read sources, references and translations; empty for a run that has translated nothing."""
    path = Path(folder) / TRANSLATIONS
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))[1:]
    return [list(column) for column in zip(*rows, strict=True)]
