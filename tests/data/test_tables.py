"""Tables of plain columns: rows that share an item of another table stay together, and images are decoded once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from data.test_easyvqa import easy_vqa
from hypothesis import given, settings
from hypothesis import strategies as st

from tfcli.data.columns.checks import table_digest
from tfcli.data.columns.splits import items, limited, split_off
from tfcli.data.columns.tables import LoadedTables
from tfcli.data.common.request import Request
from tfcli.data.common.rows import Picked, height, taken
from tfcli.data.module import DataModule
from tfcli.data.sources.easyvqa import EasyVQA
from tfcli.data.synthetic.questions import ANSWERS
from tfcli.data.synthetic.source import Shapes
from tfcli.engine.config.build import build
from tfcli.engine.config.compose import compose
from tfcli.engine.tools.preview import samples
from tfcli.errors import ConfigError, DataError


class Squares:
    """Grey images of 4 px: the image of row i is all i."""

    size = (4, 4)

    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def take(self, rows):
        return np.broadcast_to(np.asarray(rows, np.uint8)[:, None, None, None], (len(rows), 4, 4, 3)).copy()


class Given:
    def __init__(self, owners, images=200):
        self.owners = np.array(owners)
        self.images = Squares(images)

    def load(self, request):
        answer = (self.owners % 2).tolist()
        asked = {"image": Picked(self.images, self.owners), "question": [f"q{i}" for i in range(len(answer))]}
        return LoadedTables({"train": {**asked, "answer": answer}}, {"answer": ["even", "odd"]})


def module(source, **settings_):
    kept = {"val_fraction": 0.2, "test_fraction": 0.2, "image_size": 4, "eval_crop": 1.0} | settings_
    return DataModule(source, name="given", columns=["image", "question", "answer"], workers=0, **kept)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 12), min_size=20, max_size=80), st.integers(0, 3))
def test_one_images_questions_never_part_between_splits(owners, seed):
    rows = {"image": Picked(Squares(13), np.array(owners)), "question": [str(i) for i in range(len(owners))]}
    kept, drawn, _ = split_off(rows, 0.3, seed=seed, to="val")
    assert not set(items(kept)) & set(items(drawn))
    assert sorted(map(int, kept["question"] + drawn["question"])) == list(range(len(owners)))
    for part in (kept, drawn):
        assert [owners[int(q)] for q in part["question"]] == items(part).tolist()
    few = limited(rows, 9, seed=seed)
    assert height(few) == 9
    whole = [item for item in set(items(few)) if (items(few) == item).sum() == owners.count(item)]
    assert len(whole) >= len(set(items(few))) - 1  # at most the last one is cut


def test_rows_keep_their_images_through_splits_and_limits():
    data = module(Given(np.arange(120) // 4), limit_train=30)
    data.prepare()
    assert data.counts == {"train": 30, "val": 20, "test": 24}
    seen = {}
    for split, table in data.rows.items():
        image = table["image"].plain(np.arange(height(table)), data.eval_transform)
        owners = [int(q[1:]) // 4 for q in table["question"]]
        assert image[:, 0, 0, 0].tolist() == owners
        assert table["answer"] == [owner % 2 for owner in owners]
        seen[split] = set(owners)
    assert not seen["train"] & seen["val"] | seen["train"] & seen["test"] | seen["val"] & seen["test"]
    assert data.texts("val") == data.rows["val"]["question"]


def test_digests_tell_tables_apart():
    def digest(owners):
        return table_digest(Given(owners).load(None).splits["train"])

    assert digest([0, 1, 1]) == digest([0, 1, 1])
    assert len({digest(owners) for owners in ([0, 1, 1], [0, 0, 1], [0, 1, 3], [0, 1])}) == 4


def test_an_unusable_image_takes_its_questions_along(tmp_path):
    root = easy_vqa(tmp_path)
    (root / "data/test/images/7.png").write_bytes(b"not an image")
    few = {"root": root, "val_fraction": 0.0}
    with pytest.raises(DataError, match=r"7\.png"):
        module(EasyVQA(), **few).prepare()
    data = module(EasyVQA(), on_error="skip", max_bad_fraction=0.5, **few)
    data.prepare()
    assert data.counts == {"train": 3, "val": 0, "test": 1}
    assert data.rows["test"]["question"] == ["is it red"]
    assert data.rows["test"]["image"].plain(np.array([0]), data.eval_transform).unique().tolist() == [3]
    assert [path.rpartition("/")[2] for path, _ in data.bad_files] == ["7.png"]


@pytest.mark.parametrize("augment", [{"mixup": 0.2}, {"repeats": 2}])
def test_mixtures_and_copies_are_refused(augment):
    with pytest.raises(ConfigError, match=r"data\.augment"):
        module(Given(np.arange(60)), augment=augment).prepare()


def test_questions_about_shapes_have_answers_of_their_scene():
    request = Request(name="shapes", root=Path(), columns=("image", "question", "answer"))
    loaded = Shapes(num_train=40, num_val=5, num_test=5).load(request)
    table = loaded.splits["train"]
    assert loaded.classes == {"answer": list(ANSWERS)}
    assert height(table) == 160
    assert np.array_equal(items(table), np.arange(160) // 4)
    images = np.stack(taken(table["image"]))
    assert all((images[i : i + 4] == images[i]).all() for i in range(0, 160, 4))
    assert len(set(map(str, zip(items(table), table["question"], strict=True)))) > 120  # mostly different ones
    assert max(table["answer"]) < len(ANSWERS) == 24


def test_real_easy_vqa_is_one_file(real_data):
    data = build(compose("data", ["data=easy_vqa", f"data.root={real_data}", "data.workers=0"]).config.data)
    data.prepare()
    assert data.counts["train"] + data.counts["val"] == 9732
    assert data.counts["test"] == 2384
    shared = set(data.rows["train"]["image"].rows) & set(data.rows["val"]["image"].rows)
    assert not shared
    shown = samples(data, "test", ["image", "question", "answer"], 3, augmented=False)
    assert [sample["image"].shape for sample in shown] == [(64, 64, 3)] * 3
    assert all(sample["question"].split()[0] in ("what", "is", "does", "are") for sample in shown)


def test_a_column_that_training_lacks_is_named():
    data = module(Given(np.arange(60)))
    data.serve(data.view, ["image", "score"])
    with pytest.raises(DataError, match="the task needs score, but rows to train on have only image, question, answer"):
        data.prepare()


def test_a_column_that_the_source_lacks_is_named():
    data = module(Given(np.arange(60)))
    data.columns, data.needs = ("image", "anwer"), ("image", "anwer")
    with pytest.raises(DataError, match=r"`columns` names anwer, but the source has only .* Did you mean `answer`"):
        data.prepare()


def test_symbol_maps_train_a_language_model():
    """Only their test rows have labels: they are for `tfcli fewshot`, not for a classifier."""
    assert compose("train", ["model=gpt", "data=symbol_maps"]).choices["task"] == "lm"
    with pytest.raises(ConfigError, match="label"):
        compose("train", ["model=gpt", "data=symbol_maps", "task=text_classify"])


class Twofold:
    """Texts with two columns of classes, each with names of its own."""

    def load(self, request):
        rows = {"text": [f"t{i}" for i in range(40)], "label": [0, 1] * 20, "answer": [0, 1, 2, 2] * 10}
        return LoadedTables({"train": rows}, {"label": ["no", "yes"], "answer": ["a", "b", "c"]})


@pytest.mark.parametrize(("needs", "names"), [(("text", "answer"), ["a", "b", "c"]), (("text",), ["no", "yes"])])
def test_classes_are_those_of_what_the_task_needs(needs, names):
    data, wrong = (DataModule(Twofold(), name="twofold", columns=["text"], num_classes=given) for given in (None, 7))
    for each in (data, wrong):
        each.serve(None, needs)
    data.prepare()
    assert (data.classes, data.num_classes) == (names, len(names))
    with pytest.raises(DataError, match=rf"is 7, but twofold has {len(names)} classes"):
        wrong.prepare()


def test_columns_of_unequal_length_are_refused():
    source = Given([0, 1, 2])
    source.load = lambda request: LoadedTables({"train": {"text": ["a", "b"], "label": [0]}})
    with pytest.raises(DataError, match=r"given, train: columns differ in length: 2 of text, 1 of label"):
        module(source).prepare()


def test_classes_in_one_list_are_refused():
    class Listed(Given):
        def load(self, request):
            return LoadedTables(super().load(request).splits, ["even", "odd"])

    with pytest.raises(DataError, match=r"for each of its columns, for instance \{'label': \['cat', 'dog'\]\}"):
        module(Listed([0, 1, 2])).prepare()
