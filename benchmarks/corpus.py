"""Time the way of a text from its file to windows: first encoding, second start, memory and bytes on disk.

    python benchmarks/corpus.py [--megabytes 20] [--kind chars|byte_bpe|words] [--text FILE | --wikitext FOLDER]

The text is the given file, repeated with its lines moved, or the validation articles of WikiText, repeated with the
words of their paragraphs moved. Measured are the processor time of this process and its children, and the peak of this
process's memory; text and cache lie in a temporary folder, which is removed.

Left out: imports, the model, and waiting for the disk. There is no other program beside it.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import shutil
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.clock import processor_s
from tfcli.data.module import DataModule
from tfcli.data.sources.corpora import OwnText, WikiText
from tfcli.data.views.streams import Windows
from tfcli.text.tokenizer import make


def write(path: Path, given: Path | None, size: int) -> None:
    """Write `size` bytes: lines of a text, or of made words, in another order in each repetition."""
    draw = random.Random(0)
    words = ["".join(draw.choices("etaoinshrdlu", k=draw.randint(2, 9))) for _ in range(5000)]
    lines = [" ".join(draw.choices(words, k=draw.randint(1, 14))) for _ in range(20_000)]
    if given is not None:
        lines = given.read_text(encoding="utf-8").split("\n")
    with path.open("w", encoding="utf-8") as file:
        while file.tell() < size:
            draw.shuffle(lines)
            file.write("\n".join(lines) + "\n")


def write_wikitext(folder: Path, given: Path, size: int) -> None:
    """Write `size` bytes of articles to train on, whose paragraphs begin at another word in each repetition."""
    draw = random.Random(0)
    for split in ("valid", "test"):
        shutil.copy(given / f"wiki.{split}.tokens", folder)
    lines = (given / "wiki.valid.tokens").read_text(encoding="utf-8").split("\n")
    with (folder / "wiki.train.tokens").open("w", encoding="utf-8") as file:
        while file.tell() < size:
            for line in lines:
                words = line.split()
                if len(words) > 8 and words[0] != "=":
                    cut = draw.randrange(len(words))
                    line = f" {' '.join([*words[cut:], *words[:cut]])} "
                file.write(f"{line}\n")


def opened(root: Path, kind: str) -> DataModule:
    """Return the windows of a text, with a vocabulary made from it."""
    source = OwnText() if root.is_file() else WikiText(inside=[])
    data = DataModule(source, name="text", columns=["text"], root=root)
    data.serve(Windows(), ["text"])
    data.encode(make(kind, texts=data.texts("train"), vocab_size=None if kind == "chars" else 2000), longest=128)
    return data


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=20)
    parser.add_argument("--kind", default="chars")
    parser.add_argument("--text", type=Path)
    parser.add_argument("--wikitext", type=Path, help="folder of wiki.valid.tokens and wiki.test.tokens")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TFCLI_CACHE"] = f"{folder}/cache"
        text = Path(folder) / ("set" if given.wikitext else "text.txt")
        if given.wikitext:
            text.mkdir()
            write_wikitext(text, given.wikitext, given.megabytes * 10**6)
        else:
            write(text, given.text, given.megabytes * 10**6)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for what in ("first start", "second start"):
            began = processor_s()
            data = opened(text, given.kind)
            seconds = processor_s() - began
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            print(f"{what:13s} {seconds:7.2f} s   {(peak - before) / 1024:7.0f} MB above the imports'")
        tokens = data._sets["train"].samples.tokens
        stored = sum(array.nbytes for array in tokens.arrays.values())
        print(f"{len(tokens['ids']):,} tokens of train, {stored / len(tokens['ids']):.1f} bytes each on disk")
    print("processor time, children included; left out: imports, the model, waiting for the disk")


if __name__ == "__main__":
    main()
