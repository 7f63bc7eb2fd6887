"""Text files with separated columns: the separator, and whether quotes are letters, is told from the file."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfcli.data.sources.separated import SEPARATORS, How, separated
from tfcli.errors import ConfigError, DataError

ROWS = [
    ["text", "label"],
    ['a "fine" film', "good"],
    ['"quoted"', "bad"],
    ["so; so, | well\tthen", "bad"],
    ["5'", "good"],
]


def cells(text: str, name: str = "set.tsv", **how) -> list[list[str]]:
    return [row for _, row in separated(Path(name), text, How(**how)).rows]


def written(rows, separator: str, quoting: int = csv.QUOTE_MINIMAL) -> str:
    file = io.StringIO(newline="")
    csv.writer(file, delimiter=separator, quoting=quoting, lineterminator="\r\n").writerows(rows)
    return file.getvalue()


@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC])
@pytest.mark.parametrize("separator", SEPARATORS.values(), ids=SEPARATORS)
@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".txt"])
def test_what_a_program_writes_is_read_back(suffix, separator, quoting):
    assert cells(written(ROWS, separator, quoting), f"set{suffix}") == ROWS


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text('ab"\t ;|,\n', max_size=6), min_size=1, max_size=6), st.sampled_from("\t|"))
def test_any_text_that_a_program_quotes_is_read_back(texts, separator):
    rows = [["text", "label"], *([text, "x"] for text in texts)]
    text = written(rows, separator)
    if '""' in text:  # only what no plain file would have is taken for quoted
        assert cells(text, "set.tsv") == [[cell.replace("\r\n", "\n") for cell in row] for row in rows]


def test_quotes_of_a_plain_file_are_letters():
    plain = 'text\tlabel\n"Well , he said\t1\nit \'s " fine "\t0\n"both"\t1\n'
    assert cells(plain) == [["text", "label"], ['"Well , he said', "1"], ['it \'s " fine "', "0"], ['"both"', "1"]]
    around = separated(Path("set.tsv"), 'text\tlabel\n"both"\t1\nnone\t0\n', How())
    assert around.rows[1][1] == ['"both"', "1"]
    assert "data.quotes=true" in around.notes[0]
    assert cells('text\tlabel\n"both"\t1\nnone\t0\n', quotes=True)[1] == ["both", "1"]
    assert cells(written(ROWS[:2], "\t"), quotes=False)[1] == ['"a ""fine"" film"', "good"]


def test_the_separator_is_named_where_it_is_not_the_suffixs():
    assert separated(Path("set.csv"), "text;label\na, b;1\n", How()).notes == [
        "set.csv: its columns are parted by semicolon (data.separator)"
    ]
    assert cells("text;label\na, b;1\nc;0\n", "set.csv")[1] == ["a, b", "1"]
    assert cells("text, in words;label\na;1\nb;0\n", "set.csv") == [["text, in words", "label"], ["a", "1"], ["b", "0"]]
    assert cells("a, b|1\nc|0\n", "set.csv", header=["text", "label"]) == [["a, b", "1"], ["c", "0"]]
    assert cells("text\na\nb\n", "set.csv") == [["text"], ["a"], ["b"]]
    assert cells("text:label\na:1\n", "set.csv", separator=":")[1] == ["a", "1"]
    with pytest.raises(DataError, match=r"parted by tab or pipe\. Say which: data.separator=tab"):
        cells("a|b\tc\nd|e\tf\n", "set.csv")
    assert cells("a|b\tc\nd|e\tf\n", "set.csv", separator="tab")[1] == ["d|e", "f"]
    for wrong, said in (({"separator": "semicolons"}, "Did you mean `semicolon`"), ({"quotes": "csv"}, "true, false")):
        with pytest.raises(ConfigError, match=said):
            How(**wrong)


def test_a_long_text_is_no_error():
    assert len(cells(f"text,label\n{'word ' * 60_000},1\n", "set.csv")[1][0]) == 300_000
