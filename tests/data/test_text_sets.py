"""Sets of texts in their ordinary layouts: what is read, what is said of what cannot be."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tfcli.data.columns.filetext import FileText
from tfcli.data.columns.tables import LoadedTables
from tfcli.data.common.request import Request
from tfcli.data.sources.corpora import Mixture, OwnText, WikiText, articles, whole
from tfcli.data.sources.parallel import OwnParallel, Parallel
from tfcli.data.sources.questions import Squad
from tfcli.data.sources.tagged import Conll, with_beginnings
from tfcli.data.sources.texttables import OwnTable, Tables
from tfcli.engine.config.build import build
from tfcli.engine.config.compose import compose
from tfcli.errors import ConfigError, DataError

REAL = {
    "shakespeare": {"train": 1},
    "cola": {"train": 8551, "test": 1043},
    "sst2": {"train": 67349, "test": 872},
    "mrpc": {"train": 4076, "test": 1725},
    "stsb": {"train": 5749, "val": 1500, "test": 1379},
    "wikitext2": {"train": 60, "test": 60},
    "english": {"train": 6945, "test": 60},
    "multi30k": {"train": 29000, "val": 1014, "test": 1000, "test_2017_flickr": 1000, "test_2018_flickr": 1071}
    | {"test_2017_mscoco": 461},
    "squad": {"train": 944, "test": 246},
    "wnut17": {"train": 3394, "val": 1009, "test": 1287},
}


def source(name: str, *settings: str) -> Any:
    return build(compose("data", [f"data={name}", *settings]).config.data.source)


def ask(root: Path, name: str = "set", **facts: Any) -> Request:
    return Request(name=name, root=root, facts=facts)


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.parametrize("name", REAL)
def test_real_sets(real_data: Path, name: str) -> None:
    folder = "glue" if name in ("cola", "sst2", "mrpc", "stsb") else name
    loaded = source(name).load(ask(real_data, name, folder=folder))
    assert loaded.counts == REAL[name]
    rows = loaded.splits["train"]
    assert all(len(cells) == REAL[name]["train"] for cells in rows.values())
    if name == "multi30k":
        assert rows["source"][0].startswith("Zwei junge weiße Männer")
        other = source(name, "data.direction=en-de").load(ask(real_data, name)).splits["train"]
        assert (other["source"], other["target"]) == (rows["target"], rows["source"])
    if name == "sst2":
        assert loaded.classes["label"][loaded.splits["test"]["label"][0]] == "positive"
        assert "its test labels are not published; `test` is the dev split" in loaded.notes[0]
    if name == "stsb":
        assert (min(rows["score"]), max(rows["score"])) == (0.0, 5.0)
    if name == "mrpc":
        assert rows["text"][0].startswith("Amrozi accused his brother")
        assert loaded.classes["label"][rows["label"][0]] == "equivalent"
    if name == "wikitext2":
        assert all(text.startswith(" = ") for text in rows["text"][1:])
        assert "training takes wiki.valid.tokens" in loaded.notes[0]
    if name == "squad":
        for context, answers in zip(rows["context"], rows["answers"], strict=True):
            assert all(context[a["start"] :].startswith(a["text"]) for a in answers)
    if name == "wnut17":
        assert rows["words"][0][14:17] == ["Empire", "State", "Building"]
        assert [loaded.classes["tags"][tag] for tag in rows["tags"][0][13:18]] == [
            *("O", "B-location", "I-location", "I-location", "O"),
        ]


# ---- tables


TABLE = {"text": "sentence", "label": "class"}
ROWS = [("a fine day", "good"), ('a, "poor" day', "bad"), ("so so\ttab", "good")]


def layouts(folder: Path) -> dict[str, Path]:
    quoted = ['"a fine day",good', '"a, ""poor"" day",bad', '"so so\ttab",good']
    plain = [f"{text}\t{label}" for text, label in ROWS[:2]] + ["so so tab\tgood"]
    objects = [{"sentence": text, "class": label, "more": 1} for text, label in ROWS]
    return {
        "csv": write(folder / "t.csv", "\n".join(["sentence,class", *quoted])),
        "tsv": write(folder / "t.tsv", "\r\n".join(["\ufeffsentence\tclass", *plain, ""])),
        "jsonl": write(folder / "t.jsonl", "\n".join(map(json.dumps, objects))),
        "json": write(folder / "t.json", json.dumps(objects)),
    }


def test_every_layout_says_the_same(tmp_path: Path) -> None:
    for file in layouts(tmp_path).values():
        loaded = OwnTable(TABLE).load(ask(file))
        assert loaded.classes["label"] == ["bad", "good"]
        assert [text.replace("\t", " ") for text in loaded.splits["train"]["text"]] == [
            *("a fine day", 'a, "poor" day', "so so tab"),
        ]
        assert loaded.splits["train"]["label"] == [1, 0, 1]


def test_splits_by_file_and_by_column_and_labels_by_number(tmp_path: Path) -> None:
    for split, labels in (("Training", (10, 2)), ("DEV", (2, 10)), ("test_set", (10, 2))):
        write(tmp_path / "files" / f"{split}.csv", "sentence,class\n" + "".join(f"x,{label}\n" for label in labels))
    rows = "x,10,train\nx,2,Train\nx,2,validation\nx,10,Dev\nx,10,test\nx,2,testing\n"
    write(tmp_path / "column.csv", f"sentence,class,split\n{rows}")
    for root in (tmp_path / "files", tmp_path / "column.csv"):
        loaded = OwnTable(TABLE).load(ask(root))
        assert loaded.classes["label"] == ["2", "10"]
        assert {split: rows["label"] for split, rows in loaded.splits.items()} == {
            "train": [1, 0],
            "val": [0, 1],
            "test": [1, 0],
        }
    named = OwnTable(TABLE, classes=["bad", "good"], header=["class", "sentence"])
    assert named.load(ask(write(tmp_path / "h.tsv", "1\tx\n0\ty\n"))).splits["train"]["label"] == [1, 0]


SPLITS = {
    "1 and 1.0": (["0", "1"], ["0", "1.0"], "only in train: 1; only in test: 1.0"),
    "more in test": (["0", "1"], ["0", "1", "2"], r"""only in test: 2\. .*"data.classes=\['0','1','2'\]\""""),
    "fewer in test": (["0", "1"], ["1"], "only in train: 0"),
}


@pytest.mark.parametrize(("train", "test", "message"), SPLITS.values(), ids=SPLITS)
def test_splits_of_a_table_have_the_same_labels(tmp_path: Path, train: list, test: list, message: str) -> None:
    for split, labels in (("train", train), ("test", test)):
        write(tmp_path / f"{split}.csv", "sentence,class\n" + "".join(f"x,{label}\n" for label in labels))
    with pytest.raises(DataError, match=message):
        OwnTable(TABLE).load(ask(tmp_path))
    every = sorted({*train, *test})
    assert OwnTable(TABLE, classes=every).load(ask(tmp_path)).splits["test"]["label"] == [every.index(t) for t in test]


def test_a_test_split_may_lack_tags_but_has_no_others(tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", '{"w": ["A", "B"], "t": ["O", "B-x"]}\n')
    write(tmp_path / "test.jsonl", '{"w": ["A"], "t": ["O"]}\n')
    table = OwnTable({"words": "w", "tags": "t"})
    assert table.load(ask(tmp_path)).classes == {"tags": ["O", "B-x"]}
    write(tmp_path / "test.jsonl", '{"w": ["A"], "t": ["o"]}\n')
    with pytest.raises(DataError, match="only in test: o"):
        table.load(ask(tmp_path))


def test_words_with_tags_and_choices_come_out_of_tables(tmp_path: Path) -> None:
    file = write(tmp_path / "t.jsonl", '{"w": ["A", "B"], "t": ["O", "B-x"]}\n')
    loaded = OwnTable({"words": "w", "tags": "t"}).load(ask(file))
    assert (loaded.classes["tags"], loaded.splits["train"]) == (["O", "B-x"], {"words": [["A", "B"]], "tags": [[0, 1]]})
    write(tmp_path / "swag" / "train.csv", "sent1,sent2,ending0,ending1,ending2,ending3,label\nA man.,He,a,b,c,d,2\n")
    write(tmp_path / "swag" / "val.csv", "sent1,sent2,ending0,ending1,ending2,ending3,label\nA dog.,It,a,b,c,d,0\n")
    loaded = source("swag").load(ask(tmp_path, "swag"))
    assert loaded.splits["train"] == {
        "context": ["A man."],
        "choices": [["He a", "He b", "He c", "He d"]],
        "label": [2],
    }
    assert (loaded.classes, loaded.counts) == ({}, {"train": 1, "test": 1})


BAD = {
    r"no column `sentense`; it has sentence, class\. Did you mean `sentence`\? Name another with data.source": (
        *({"text": "sentense", "label": "class"}, "sentence,class\nx,1\n"),
    ),
    r"1 rows with an empty `sentence` \(data.on_empty=drop leaves them out\): line 3": (
        *(TABLE, "sentence,class\nx,1\n ,0\n"),
    ),
    "line 3: 3 columns, but the header has 2": (TABLE, "sentence,class\nx,1\nx, y,0\n"),
    "line 2: `high` is no number": ({"text": "sentence", "score": "class"}, "sentence,class\nx,high\n"),
    "line 2: `nan` is no number": ({"text": "sentence", "score": "class"}, "sentence,class\nx,nan\n"),
    "t.csv has no rows": (TABLE, "sentence,class\n"),
    "t.csv is empty": (TABLE, ""),
    "several columns `class`": (TABLE, "sentence,class,class\nx,1,2\ny,2,1\n"),
    "the split is `trian`": (TABLE, "sentence,class,split\nx,1,trian\n"),
    "there is no split `train`, only test": (TABLE, "sentence,class,split\nx,1,test\n"),
}


@pytest.mark.parametrize("message", BAD)
def test_what_is_wrong_with_a_table(tmp_path: Path, message: str) -> None:
    columns, text = BAD[message]
    file = write(tmp_path / "t.csv", text)
    with pytest.raises(DataError, match=message):
        OwnTable(columns).load(ask(file))


def test_the_encoding_that_a_file_is_marked_with_is_named(tmp_path: Path) -> None:
    file = write(tmp_path / "t.csv", "sentence,class\nx,1\ny,2\n", "utf-16")
    with pytest.raises(DataError, match=r"not UTF-8 .*data.encoding=utf-16"):
        OwnTable(TABLE).load(ask(file, encoding="utf-8"))
    assert OwnTable(TABLE).load(ask(file, encoding="utf-16")).splits["train"]["text"] == ["x", "y"]


def test_a_missing_column_is_named_as_the_message_says(tmp_path: Path) -> None:
    file = write(tmp_path / "t.csv", "review,stars\nx,1\ny,2\n")
    settings = ["data=table", f"data.root={file}", "data.columns={text: text, label: stars}"]
    with pytest.raises(DataError, match=r"no column `text`") as caught:
        build(compose("data", settings).config.data).prepare()
    typed = re.search(r"with '(.*)'", str(caught.value)).group(1)
    assert typed == "data.columns={text: NAME, label: stars}"
    data = build(compose("data", [*settings[:2], typed.replace("NAME", "review")]).config.data)
    data.prepare()
    assert data.classes == ["1", "2"]
    alone = build(compose("data", [*settings[:2], "data.columns={text: review}"]).config.data)  # in place of both
    alone.prepare()
    assert tuple(alone.columns) == ("text",)
    assert set(alone.rows["train"]) == {"text"}


def test_what_is_wrong_is_left_out_where_that_is_asked_for(tmp_path: Path) -> None:
    file = write(tmp_path / "t.csv", "sentence,class\nx,1\n ,0\nx, y,0\nz,0\n")
    loaded = OwnTable(TABLE).load(ask(file, on_empty="drop"))
    assert loaded.splits["train"] == {"text": ["x", "z"], "label": [1, 0]}
    assert [note.split(": ")[1] for note in loaded.notes] == [
        "1 lines have not as many columns as the header and are left out",
        "1 rows with an empty cell are left out (data.on_empty=drop)",
    ]
    for change, error, match in (
        ({"on_empty": "skip"}, ConfigError, "must be raise or drop"),
        ({"encoding": "utf8x"}, ConfigError, "is no encoding"),
        ({"encoding": "latin1", "separator": "tabs"}, ConfigError, "Did you mean `tab`"),
    ):
        with pytest.raises(error, match=match):
            OwnTable(TABLE).load(ask(file, **change))
    with pytest.raises(ConfigError, match="`txt`, which is none of text, pair"):
        OwnTable({"txt": "sentence"})
    (empty := tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"(?s)there is no table.*Found: an empty folder"):
        OwnTable(TABLE).load(ask(empty))
    with pytest.raises(DataError, match=r"line 2: `7` is none of the classes bad, good"):
        OwnTable(TABLE, classes=["bad", "good"]).load(ask(write(tmp_path / "l.csv", "sentence,class\nx,7\n")))


def test_glue_layouts(tmp_path: Path) -> None:
    """MNLI has two dev splits, QQP broken lines; GLUE's own MRPC has a dev split and its test is unlabelled."""
    for file, label in (("train", "neutral"), ("dev_matched", "entailment"), ("dev_mismatched", "contradiction")):
        text = f'index\tsentence1\tsentence2\tgold_label\n0\tA "quote.\tB\t{label}\n'
        write(tmp_path / "MNLI" / f"{file}.tsv", text)
    loaded = source("mnli").load(ask(tmp_path, "mnli"))
    assert {split: rows["label"] for split, rows in loaded.splits.items()} == {
        "train": [1],
        "test": [0, 2],
    }
    assert (loaded.groups, loaded.splits["test"]["group"]) == (["matched", "mismatched"], [0, 1])
    assert loaded.splits["train"]["text"] == ['A "quote.']
    for file in ("train", "dev"):
        write(tmp_path / "QQP" / f"{file}.tsv", "id\tquestion1\tquestion2\tis_duplicate\n1\ta?\tb?\t1\n2\ta?\n")
    assert source("qqp").load(ask(tmp_path, "qqp", on_empty="drop")).counts == {"train": 1, "test": 1}
    for file in ("train", "dev", "test"):
        rows = ("#1 String\t#2 String", "a\tb") if file == "test" else ("Quality\t#1 String\t#2 String", "1\ta\tb")
        write(tmp_path / "MRPC" / f"{file}.tsv", "\n".join(rows))
    assert source("mrpc").load(ask(tmp_path, "mrpc")).counts == {"train": 1, "test": 1}


# ---- running text


def test_your_own_text(tmp_path: Path) -> None:
    file = write(tmp_path / "one.txt", "a\n\nb\n")
    assert OwnText().load(ask(file)).splits == {"train": {"text": ["a\n\nb\n"]}}
    write(tmp_path / "two.txt", "c")
    assert OwnText().load(ask(tmp_path)).splits == {"train": {"text": ["a\n\nb\n", "c"]}}
    for name, text in (("train", "t"), ("valid", "v"), ("test", "é")):
        write(tmp_path / f"{name}.txt", text, encoding="latin-1")
    with pytest.raises(DataError, match=r"test.txt, line 1: not UTF-8 \(byte 1 .* 0xe9.*data.encoding=latin-1"):
        OwnText().load(ask(tmp_path, encoding="utf-8"))
    loaded = OwnText().load(ask(tmp_path, encoding="latin-1"))
    assert loaded.splits == {"train": {"text": ["t"]}, "val": {"text": ["v"]}, "test": {"text": ["é"]}}
    write(tmp_path / "train.txt", " \n")
    with pytest.raises(DataError, match=r"train\.txt is empty"):
        OwnText().load(ask(tmp_path, encoding="latin-1"))
    with pytest.raises(DataError, match="there is no text"):
        OwnText().load(ask(tmp_path / "absent"))


def test_articles_begin_at_titles() -> None:
    lines = [
        "",
        " = One = ",
        "",
        " text , ",
        "",
        " = = Part = = ",
        "",
        " = 3 = 4 ",
        " = 5 = ",
        "",
        " = Two = ",
        "",
        "x",
        "",
    ]
    assert articles(lines) == ["\n".join(lines[:10]), "\n".join(lines[10:])]


def test_wikitext_with_its_training_split(tmp_path: Path) -> None:
    for file in ("train", "valid", "test"):
        write(tmp_path / "wikitext-2-raw" / f"wiki.{file}.raw", f" \n = {file} = \n \n text \n")
    loaded = WikiText(inside=["wikitext-2", "wikitext-2-raw"]).load(ask(tmp_path))
    assert (loaded.counts, loaded.notes) == ({"train": 1, "val": 1, "test": 1}, [])


def test_a_mixture_takes_texts_alone(tmp_path: Path) -> None:
    write(tmp_path / "a" / "t.csv", "sentence,class\na fine day,1\nfine day,1\nday,0\na day,1\n")
    write(tmp_path / "b" / "train.txt", "running text")
    parts = {
        "a": {"source": Tables({"train": "t.csv"}, columns={"text": "sentence"}), "whole": True},
        "more": {"source": Tables({"train": "train.txt"}, columns={"text": "running text"}), "folder": "b"},
    }
    loaded = Mixture({"a": parts["a"]}).load(ask(tmp_path))
    assert loaded.splits == {"train": {"text": ["a fine day", "a day"]}}
    assert Mixture(parts).locate(ask(tmp_path)) == tmp_path
    (tmp_path / "b" / "train.txt").unlink()
    assert Mixture(parts).locate(ask(tmp_path)) is None
    with pytest.raises(DataError, match=r"(?s)The data set more is not in.*/b:"):
        Mixture(parts).load(ask(tmp_path))
    assert whole(["b c", "a b c d", "b c", "c b"]) == ["a b c d", "c b"]


# ---- parallel text


def test_pairs_of_files_and_tables(tmp_path: Path) -> None:
    for lang, text in (("de", "Hund\r\nKatze\n"), ("en", "dog\ncat")):
        write(tmp_path / "files" / f"train.{lang}", text)
        write(tmp_path / "files" / f"dev.{lang}", text)
        write(tmp_path / "named" / f"corpus.{lang}", text)
    write(tmp_path / "table.tsv", "en\tde\ndog\tHund\ncat\tKatze\n")
    write(tmp_path / "bare.tsv", "dog\tHund\ncat\tKatze\n")
    expected = {"source": ["Hund", "Katze"], "target": ["dog", "cat"]}
    roots = {"files": {}, "named": {}, "table.tsv": {}, "bare.tsv": {"header": ["en", "de"]}}
    for root, options in roots.items():
        loaded = OwnParallel("de-en", **options).load(ask(tmp_path / root))
        assert loaded.splits == {"train": expected} | ({"val": expected} if root == "files" else {})
    turned = OwnParallel("en-de").load(ask(tmp_path / "table.tsv")).splits["train"]
    assert turned == {"source": expected["target"], "target": expected["source"]}
    with pytest.raises(DataError, match="no column `fr`; it has en, de"):
        OwnParallel("fr-en").load(ask(tmp_path / "table.tsv"))
    with pytest.raises(DataError, match=r"(?s)no parallel text.*train.fr, train.en.*Found: dev.de"):
        OwnParallel("fr-en").load(ask(tmp_path / "files"))
    for wrong in ("de", "de-", "en-en", "a-b-c"):
        with pytest.raises(ConfigError, match="must be two languages"):
            OwnParallel(wrong)


def test_sides_that_do_not_fit(tmp_path: Path) -> None:
    write(tmp_path / "train.de", "eins\nzwei\ndrei\n")
    write(tmp_path / "train.en", "one\ntwo\n")
    with pytest.raises(
        DataError, match=r"train.de has 3 lines, but .*train.en 2: each must be the other's translation"
    ):
        OwnParallel("de-en").load(ask(tmp_path))
    write(tmp_path / "train.en", "one\n\nthree\n")
    with pytest.raises(DataError, match=r"1 rows with an empty `en` .*on_empty=drop leaves them out\): line 2"):
        OwnParallel("de-en").load(ask(tmp_path))
    loaded = OwnParallel("de-en").load(ask(tmp_path, on_empty="drop"))
    assert loaded.splits["train"] == {"source": ["eins", "drei"], "target": ["one", "three"]}
    assert "1 rows with an empty cell are left out" in loaded.notes[0]


def test_releases_of_wmt_and_iwslt(tmp_path: Path) -> None:
    for lang in ("de", "en"):
        write(tmp_path / "wmt14" / "training" / f"europarl-v7.de-en.{lang}", f"{lang} 1\n{lang} 2\n")
        write(tmp_path / "wmt14" / f"commoncrawl.de-en.{lang}", f"{lang} 3\n")
        write(tmp_path / "wmt14" / "dev" / f"newstest2013.{lang}", f"{lang} 4\n")
        role = "src" if lang == "de" else "ref"
        text = f'<doc>\n<seg id="1">{lang} 5 &amp; 6</seg>\n<seg id="2"> {lang} 7 </seg>\n</doc>'
        write(tmp_path / "wmt14" / "test" / f"newstest2014-deen-{role}.{lang}.sgm", text)
        write(tmp_path / "iwslt17" / "en-de" / f"train.tags.en-de.{lang}", f"<url>x</url>\n{lang} 1\n")
        write(tmp_path / "iwslt17" / "en-de" / f"IWSLT17.TED.tst2015.en-de.{lang}.xml", text)
        write(tmp_path / "other" / f"train.{lang}", "another set\n")
    loaded = source("wmt14", "data.direction=en-de").load(ask(tmp_path, "wmt14"))
    assert loaded.splits == {
        "train": {"source": ["en 1", "en 2", "en 3"], "target": ["de 1", "de 2", "de 3"]},
        "val": {"source": ["en 4"], "target": ["de 4"]},
        "test": {"source": ["en 5 & 6", "en 7"], "target": ["de 5 & 6", "de 7"]},
    }
    assert loaded.notes == [f"{tmp_path / 'wmt14'}: no news-commentary-v9.en-de.{{en,de}}, left out"]
    loaded = source("iwslt17").load(ask(tmp_path, "iwslt17"))
    assert loaded.splits["train"] == {"source": ["de 1"], "target": ["en 1"]}
    assert loaded.splits["test"]["source"] == ["de 5 & 6", "de 7"]
    assert source("iwslt14").locate(ask(tmp_path, "iwslt14")) is None
    with pytest.raises(DataError, match=r"(?s)wmt14 is not in.*TFCLI_OFFLINE.*train.{fr,en} or europarl-v7.fr-en"):
        source("wmt14", "data.direction=fr-en").load(ask(tmp_path, "wmt14"))


# ---- questions and tags


def test_squad_with_questions_that_have_no_answer(tmp_path: Path) -> None:
    def asked(name: str, **more: Any) -> dict[str, Any]:
        return {"id": name, "question": f"{name}?", **more}

    questions = [
        asked("a", answers=[{"text": "dog", "answer_start": 2}, {"text": "dog", "answer_start": 0}]),
        asked("b", answers=[], is_impossible=True, plausible_answers=[{"text": "A", "answer_start": 0}]),
        asked("c", answers=[{"text": "cat", "answer_start": 2}]),
    ]
    content = {"data": [{"title": "x", "paragraphs": [{"context": "A dog.", "qas": questions}]}]}
    for split in ("train", "dev"):
        write(tmp_path / f"{split}-v2.0.json", json.dumps(content))
    loaded = Squad("2.0").load(ask(tmp_path, "squad2"))
    assert loaded.splits["train"] == {
        "id": ["a", "b"],
        "question": ["a?", "b?"],
        "context": ["A dog."] * 2,
        "answers": [[{"text": "dog", "start": 2}], []],
    }
    assert loaded.counts == {"train": 2, "test": 3}
    assert "squad2: 2 answers of train are not at the place that the file states" in loaded.notes[1]
    write(tmp_path / "dev-v2.0.json", '{"data": [{"paragraphs": [{"qas": [{"id": "a"}]}]}]}')
    with pytest.raises(DataError, match="not in SQuAD's layout: an entry lacks 'answers'"):
        Squad("2.0").load(ask(tmp_path))


def test_tagged_words(tmp_path: Path) -> None:
    lines = ["-DOCSTART- -X- O O", "", "EU NNP I-NP I-ORG", "rejects VBZ I-VP O", "UN NNP I-NP I-ORG"]
    file = write(tmp_path / "eng.train", "\n".join([*lines, "WHO NNP I-NP B-ORG", "", "", "Bye UH O O"]))
    loaded = Conll({"train": "eng.train"}, classes=["O", "B-ORG", "I-ORG"]).load(ask(tmp_path))
    assert loaded.splits["train"] == {
        "words": [["EU", "rejects", "UN", "WHO"], ["Bye"]],
        "tags": [[1, 0, 1, 1], [0]],
    }
    assert with_beginnings(["I-A", "I-A", "I-B", "B-B", "I-B", "O", "I-B"]) == [
        *("B-A", "I-A", "B-B", "B-B", "I-B", "O", "B-B"),
    ]
    for line, match in (("EU I-OGR", "line 1: `I-OGR` is none of.*Did you mean `I-ORG`"), ("EU", "a word and its tag")):
        file.write_text(line)
        with pytest.raises(DataError, match=match):
            Conll({"train": "eng.train"}, classes=["O", "B-ORG", "I-ORG"]).load(ask(tmp_path))


# ---- the hub


HUB: dict[str, dict[str, dict[str, list]]] = {
    "sst2": {
        "train": {"sentence": ["x", "y"], "label": [1, 0], "idx": [0, 1]},
        "validation": {"sentence": ["z"], "label": [1], "idx": [0]},
        "test": {"sentence": ["?"], "label": [-1], "idx": [0]},
    },
    "mrpc": {
        split: {"sentence1": ["x"], "sentence2": ["y"], "label": [1]} for split in ("train", "validation", "test")
    },
    "wmt14": {split: {"translation": [{"de": "Hund", "en": "dog"}]} for split in ("train", "validation", "test")},
    "squad": {
        split: {
            "id": ["a"],
            "question": ["?"],
            "context": ["A dog"],
            "answers": [{"text": ["dog"], "answer_start": [2]}],
        }
        for split in ("train", "validation")
    },
    "wnut17": {split: {"tokens": [["A"], []], "ner_tags": [[7], []]} for split in ("train", "validation", "test")},
    "gsm8k": {split: {"question": ["How many?"], "answer": ["Two.\n#### 2"]} for split in ("train", "test")},
    "wikitext2": {split: {"text": ["", " = T = \n", "", " text \n"]} for split in ("train", "validation", "test")},
}


@pytest.mark.parametrize("name", HUB)
def test_sets_come_from_the_hub(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    called = {}

    def load_dataset(path: str, config: str | None, revision: str | None) -> Any:
        called.update(path=path, config=config)
        return datasets.DatasetDict({k: datasets.Dataset.from_dict(columns) for k, columns in HUB[name].items()})

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.setattr("tfcli.data.sources.hub._unreachable", lambda path: "")
    monkeypatch.delenv("TFCLI_OFFLINE")
    settings = ["data.direction=en-de"] if name == "wmt14" else []
    loaded: LoadedTables = source(name, *settings).load(Request(name=name, root=tmp_path, download=True))
    rows, splits = loaded.splits["train"], set(loaded.splits)
    assert loaded.where is None
    assert (rows, splits) == {
        "sst2": ({"text": ["x", "y"], "label": [1, 0]}, {"train", "test"}),
        "mrpc": ({"text": ["x"], "pair": ["y"], "label": [1]}, {"train", "val", "test"}),
        "wmt14": ({"source": ["dog"], "target": ["Hund"]}, {"train", "val", "test"}),
        "squad": (
            {"id": ["a"], "question": ["?"], "context": ["A dog"], "answers": [[{"text": "dog", "start": 2}]]},
            {"train", "test"},
        ),
        "wnut17": ({"words": [["A"]], "tags": [[7]]}, {"train", "val", "test"}),
        "gsm8k": ({"question": ["How many?"], "answer": ["Two.\n#### 2"]}, {"train", "test"}),
        "wikitext2": ({"text": ["\n = T = \n\n text "]}, {"train", "val", "test"}),
    }[name]
    configs = {"sst2": "sst2", "mrpc": "mrpc", "wmt14": "de-en", "gsm8k": "main", "wikitext2": "wikitext-2-v1"}
    assert called["config"] == configs.get(name)


def test_a_large_text_of_the_hub_goes_into_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    lines = ["", " = K\u00e4se = \n", "", *[f" line {number} \n" for number in range(500)]] * 3
    monkeypatch.setenv("TFCLI_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("TFCLI_OFFLINE")
    monkeypatch.setattr("tfcli.data.sources.hub._unreachable", lambda path: "")
    datasets.Dataset.from_dict({"text": lines, "other": lines}).save_to_disk(tmp_path / "hub")
    rows = datasets.load_from_disk(str(tmp_path / "hub"))
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: {"train": rows})
    found = []
    for large in (10**9, 100, 100):
        monkeypatch.setattr("tfcli.data.sources.hub.LARGE", large)
        found.append(source("wikitext2").load(Request(name="wikitext2", root=tmp_path, download=True)).splits)
    small, *others = (splits["train"]["text"] for splits in found)
    assert len(small) == 3
    for texts in others:
        assert all(isinstance(text, FileText) for text in texts)
        assert list(map(str, texts)) == small
    assert len(list((tmp_path / "cache" / "texts").glob("*.txt"))) == 1


def test_without_a_network_it_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"(?s)rte is not in.*TFCLI_OFFLINE.*RTE/train.tsv.*gluebenchmark.com"):
        source("rte").load(ask(tmp_path, "rte", folder="glue", url="https://gluebenchmark.com/tasks"))
    assert Parallel("de-en", files={"train": ["train.{lang}"]}).locate(ask(tmp_path)) is None
