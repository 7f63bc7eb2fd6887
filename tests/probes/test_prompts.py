"""Prompts: the files of every set, what they say of each class, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tfcli.errors import ConfigError
from tfcli.probes.prompts import check_template, fill, load_prompts, texts

CONF = Path(__file__).parents[2] / "conf"
SETS = sorted(path.stem for path in (CONF / "prompts").glob("[!_]*.yaml"))
TEMPLATES = {  # as the release counts them
    "aircraft": 2,
    "caltech101": 34,
    "cars": 8,
    "cifar10": 18,
    "cifar100": 18,
    "clevr_counts": 1,
    "country211": 5,
    "dtd": 8,
    "eurosat": 3,
    "fer2013": 6,
    "flowers": 1,
    "food101": 1,
    "gtsrb": 3,
    "imagenet": 80,
    "mnist": 1,
    "pcam": 1,
    "pets": 1,
    "rendered_sst2": 1,
    "stl10": 2,
    "sun397": 2,
}


def prompts(data: str, classes=None, **kwargs):
    return load_prompts(data, classes, roots=[CONF], **kwargs)


def data_config(data: str) -> dict:
    return yaml.safe_load((CONF / f"data/{data}.yaml").read_text(encoding="utf-8"))


def own_names(data: str) -> list[str] | None:
    """What the data module gives; None where that is read from the files of the set."""
    if data == "shapes":
        from tfcli.data.synthetic.objects import PAIR_NAMES

        return list(PAIR_NAMES)
    if data == "digits":
        return [str(i) for i in range(10)]
    source = data_config(data)["source"]
    given = source.get("classes", "classes")
    if isinstance(given, list):
        return given
    import torchvision.datasets as tv

    known = getattr(getattr(tv, source["dataset"].rpartition(".")[2], None), given, None)
    return [name.replace("_", " ") for name in known] if isinstance(known, list) else None


@pytest.mark.parametrize("data", SETS)
def test_every_file_has_a_set_and_as_many_classes(data):
    found = prompts(data)
    expected = 48 if data == "shapes" else data_config(data)["num_classes"]
    assert len(found.names) == expected
    shared = 2 if data == "imagenet" else 0  # CLIP calls two classes missile and two sunglasses
    assert len(set(found.names)) == expected - shared
    assert found.source
    assert all(name == name.strip() and "  " not in name for name in found.names)
    assert len(found.templates) == len(set(found.templates)) == TEMPLATES.get(data, len(found.templates))
    spoken = texts(found)
    assert len(spoken) == expected
    assert {len(sentences) for sentences in spoken} == {len(found.templates) * found.variants}
    assert not any("{" in sentence for sentences in spoken for sentence in sentences)


@pytest.mark.parametrize("data", [data for data in SETS if own_names(data)])
def test_the_order_is_that_of_the_labels(data):
    names = own_names(data)
    assert len(prompts(data, names).names) == len(names)
    with pytest.raises(ConfigError, match="label 0"):
        prompts(data, [names[1], names[0], *names[2:]])


def test_sets_whose_labels_are_sorted_folders():
    for data in ("caltech101", "cifar10", "cifar100", "country211", "dtd", "food101", "sun397"):
        classes = yaml.safe_load((CONF / f"prompts/{data}.yaml").read_text(encoding="utf-8"))["classes"]
        own = [next(iter(entry)) if isinstance(entry, dict) else entry for entry in classes]
        # torchvision sorts the folders, whose names have _ for a space
        assert own == sorted(own, key=lambda name: name.replace(" ", "_")), data


def test_real_sets_agree(real_data):
    from tfcli.data.common.request import Request
    from tfcli.data.sources.torchvision_sets import Torchvision

    for data in ("pets", "flowers", "cifar10", "mnist"):
        config = data_config(data)
        source = Torchvision(**{k: v for k, v in config["source"].items() if k != "_target_"})
        classes = source.load(Request(name=data, root=real_data, facts=config, verify=False)).classes["label"]
        assert len(prompts(data, classes).names) == config["num_classes"]


def test_names_and_templates_of_the_release():
    metadata = pytest.importorskip("open_clip.zero_shot_metadata", exc_type=ImportError)
    found = prompts("imagenet")
    assert found.names == list(metadata.IMAGENET_CLASSNAMES)
    assert found.templates == [f("{}") for f in metadata.OPENAI_IMAGENET_TEMPLATES]
    assert found.sets["seven"] == [f("{}") for f in metadata.SIMPLE_IMAGENET_TEMPLATES]


def test_what_is_renamed_is_listed():
    assert dict(prompts("flowers").renamed) == {
        "globe-flower": "globe flower",
        "pink-yellow dahlia?": "pink and yellow dahlia",
        "ball moss": "air plant",
    }
    assert prompts("pets").renamed == []
    assert prompts("country211").renamed[:2] == [("AD", "Andorra"), ("AE", "United Arab Emirates")]
    assert ("happy", "happy, smiling") in prompts("fer2013").renamed


def test_sets_of_templates_and_templates_from_the_user():
    assert texts(prompts("mnist"))[7] == ['a photo of the number: "7".']
    assert texts(prompts("flowers", templates="hw5"))[0] == ["An image of pink primrose, a type of flower"]
    assert texts(prompts("flowers", templates="simple"))[0] == ["a photo of a pink primrose."]
    assert texts(prompts("pets", templates="bare"))[0] == ["Abyssinian"]
    assert texts(prompts("pets", templates=["one {}", "two {}"]))[25] == ["one Pug", "two Pug"]
    assert texts(prompts("cifar10", templates="look, {}!"))[3] == ["look, cat!"]
    assert texts(prompts("flowers", names="own"))[92] == ["a photo of a ball moss, a type of flower."]
    for templates, said in {
        "simpel": "Did you mean `simple`",
        "a photo of a {c}.": "instead of {c}",
        "no place for a name": "exactly one",
        ("a photo.",): "exactly one",
        ("{} and {}",): "exactly one",
        (): "empty list",
    }.items():
        with pytest.raises(ConfigError, match=said):
            prompts("pets", templates=templates)
    with pytest.raises(ConfigError, match="spoken or own"):
        prompts("pets", names="spokn")


def test_articles_fit_only_where_the_captions_do():
    assert fill("a photo of a {}.", "orange circle", articles=True) == "a photo of an orange circle."
    assert fill("A {}, a ring", "red ring", articles=True) == "A red ring, a ring"
    assert "a photo of an orange circle" in texts(prompts("shapes"))[36]
    assert texts(prompts("cifar100"))[55][0] == "a photo of a otter."  # CLIP's literal text


def test_shapes_are_asked_for_in_the_words_of_their_captions():
    from tfcli.data.synthetic.objects import COLOURS, SHAPES
    from tfcli.data.synthetic.vocabulary import vocabulary

    known = set(vocabulary())
    for classes in (None, list(COLOURS), list(SHAPES)):
        for sentences in texts(prompts("shapes", classes)):
            assert all(set(sentence.split()) <= known for sentence in sentences)
    assert texts(prompts("shapes", list(COLOURS)))[6][0] == "an orange circle"
    assert texts(prompts("shapes", list(SHAPES)))[0][6] == "an orange circle"


def test_several_names_of_a_class_have_equal_shares():
    found = prompts("fer2013")
    assert found.variants == 6
    happy, surprise = texts(found)[3], texts(found)[5]
    assert len(happy) == len(surprise) == 36
    assert happy[:2] == ["a photo of a happy looking face.", "a photo of a smiling looking face."]
    assert [happy.count(sentence) for sentence in sorted(set(happy))] == [3] * 12
    assert [surprise.count(sentence) for sentence in sorted(set(surprise))] == [2] * 18


def test_a_set_without_a_file():
    found = prompts("folder", ["cat", "sea lion"])
    assert texts(found) == [["a photo of a cat."], ["a photo of a sea lion."]]
    assert "no file of prompts" in found.notes[0]
    assert texts(prompts("folder", ["cat", "dog"], templates="my {}")) == [["my cat"], ["my dog"]]
    for classes in (None, ["n01440764", "n01443537"], ["0001", "0002"]):
        with pytest.raises(ConfigError, match=r"\./conf/prompts/folder\.yaml"):
            prompts("folder", classes)


def test_other_classes_are_refused_with_both_names():
    with pytest.raises(ConfigError) as caught:
        prompts("cifar10", ["airplane", "automobile", "bird", "dog", "deer", "cat", "frog", "horse", "ship", "truck"])
    assert "label 3 is `cat` there and `dog` in the set" in str(caught.value)
    assert "the same names in another order" in str(caught.value)
    assert caught.value.exit_code == 2
    with pytest.raises(ConfigError, match="label 2 is `bird` there and no class in the set"):
        prompts("cifar10", ["airplane", "automobile"])


def test_spelling_alone_is_no_disagreement():
    names = prompts("flowers").names  # the spoken ones, as another version of the set may have them
    assert prompts("flowers", names).renamed == []
    assert prompts("sun397", [name.replace(" ", "_") for name in prompts("sun397").names]).names[9] == "apse indoor"
    assert prompts("cifar10", ["plane", "car"], names="own").names == ["plane", "car"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("classes: [cat, ox]", "templates must be a list"),
        ("templates: ['a {}']", "must give `templates` and `classes`"),
        ("templates: ['a']\nclasses: [cat, ox]", "exactly one"),
        ("templates: ['a {}']\nclasses: [yes, ox]", "put quotes around"),
        ("templates: ['a {}']\nclasses: [{cat: []}, ox]", "class 0"),
        ("templates: ['a {}'\nclasses: [cat]", "cannot be read"),
        ("- a", "must give"),
        ("templates: ['a {}']\nclasses: [dog, ox]\nalternatives: {x: 1}", "alternative `x`"),
        ("templates: ['a {}']\nsets: {x: a}\nclasses: [cat, ox]", "templates must be a list"),
    ],
)
def test_a_file_that_is_wrong_is_named(tmp_path, content, said):
    path = tmp_path / "prompts/mine.yaml"
    path.parent.mkdir()
    path.write_text(content)
    with pytest.raises(ConfigError) as caught:
        load_prompts("mine", ["cat", "ox"], roots=[tmp_path, CONF])
    assert str(path) in str(caught.value)
    assert said in str(caught.value)


def test_the_users_file_comes_first(tmp_path):
    (tmp_path / "prompts").mkdir()
    (tmp_path / "prompts/pets.yaml").write_text("source: mine\ntemplates: ['see {}']\nclasses: [cat, {dog: hound}]")
    found = load_prompts("pets", ["cat", "dog"], roots=[tmp_path, CONF])
    assert texts(found) == [["see cat"], ["see hound"]]
    assert (found.source, found.renamed) == ("mine", [("dog", "hound")])
    assert check_template("{}") == "{}"


def test_prompts_do_without_torch():
    code = "import sys, tfcli.probes.prompts; print([m for m in ('torch', 'numpy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=CONF.parent, timeout=150)
    assert done.stdout.strip() == "[]", done.stderr
