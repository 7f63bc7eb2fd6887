"""Columns of the world of shapes are exact: each is checked against the pixels or the objects, by other means."""

from __future__ import annotations

import pickle
import re
from collections import Counter, defaultdict

import numpy as np
import pytest

from tfcli.data.synthetic import clips, rendering, statements
from tfcli.data.synthetic import pictures as module
from tfcli.data.synthetic.columns import SceneTable
from tfcli.data.synthetic.language import phrase
from tfcli.data.synthetic.objects import COLOURS, DEPTH, HELD_OUT, SHAPES, SIZES, VALID, X, Y, pair_numbers
from tfcli.data.synthetic.programs import execute
from tfcli.data.synthetic.questions import ANSWERS, KINDS
from tfcli.data.synthetic.relations import relation
from tfcli.data.synthetic.shapes import ShapesWorld
from tfcli.data.synthetic.vocabulary import vocabulary

MANY = np.arange(1000)


@pytest.fixture(scope="module")
def scenes():
    """Scenes of up to four objects, 64 pixels wide."""
    return ShapesWorld(64, k=4, vary=True, seed=2).scenes(MANY)


def visible(scenes, scene):
    """Return the objects of a scene of which a pixel is seen."""
    ids = set(np.unique(scenes.instance[scene]).tolist())
    return [row for slot, row in enumerate(scenes.objects[scene].tolist()) if slot + 1 in ids]


def named(rows, words):
    """Return the objects that all words of a name are true of; `object` is true of each."""
    singular = {**{f"{s}s": s for s in (*SHAPES, "object")}, "crosses": "cross"}
    found = rows
    for word in (singular.get(w, w) for w in words.split()):
        if word != "object":
            found = [r for r in found if word in (COLOURS[r[0]], SHAPES[r[1]], SIZES[r[2]])]
    return found


# Pictures


def test_regions_are_what_is_inside_the_boxes(scenes):
    for scene in range(100):
        image = scenes.image[scene]
        for slot, (left, top, right, bottom) in enumerate(scenes.boxes[scene].tolist()):
            region, share = scenes.regions[scene, slot], scenes.geometry[scene, slot]
            assert np.allclose(share * 64, [left, top, right, bottom, right - left, bottom - top])
            if right == 0:
                assert not region.any()
                assert scenes.tags[scene][slot] == ""
                continue
            rows = [top + int((i + 0.5) * (bottom - top) / 8) for i in range(8)]
            columns = [left + int((i + 0.5) * (right - left) / 8) for i in range(8)]
            assert np.array_equal(region, image[:, rows][:, :, columns])
            assert scenes.tags[scene][slot] == phrase(scenes.objects[scene, slot])


def test_tags_are_wrong_as_often_as_they_should_be():
    world = ShapesWorld(64, k=4, tag_noise=0.3).scenes(MANY)
    wrong = [
        tag != phrase(row)
        for tags, rows in zip(world.tags, world.objects.tolist(), strict=True)
        for tag, row in zip(tags, rows, strict=True)
        if tag
    ]
    assert np.mean(wrong) == pytest.approx(0.3, abs=0.02)
    held = {phrase(divmod(i, len(SHAPES))) for i in np.flatnonzero(HELD_OUT).tolist()}
    assert not held & {tag for tags in world.tags for tag in tags}


@pytest.mark.parametrize(("size", "k", "texture"), [(64, 4, True), (32, 2, True), (96, 4, False), (17, 4, True)])
def test_the_right_view_shows_what_is_not_occluded(size, k, texture):
    world = ShapesWorld(size, k=k, texture=texture, vary=True).scenes(np.arange(300))
    scene, row, column = np.nonzero(~world.occluded)
    there = column - world.disparity[scene, row, column]
    assert np.array_equal(world.right[scene, :, row, there], world.image[scene, :, row, column])
    assert not world.disparity[world.instance == 0].any()
    for slot in range(k):  # nearer objects move further
        found = world.disparity[world.instance == slot + 1]
        assert set(np.unique(found).tolist()) <= {2 + 2 * slot, 3 + 2 * slot}
    # What is occluded leaves the image, or stands behind something nearer.
    scene, row, column = np.nonzero(world.occluded)
    there = column - world.disparity[scene, row, column]
    own, inside = world.instance[scene, row, column], there >= 0
    assert (world._right_instance[scene, row, there][inside] > own[inside]).all()
    assert 0 < world.occluded.mean() < 0.15


def test_depth_is_that_of_the_disparity(scenes):
    far = scenes.depth == 0
    assert np.array_equal(far, scenes.instance == 0)
    assert np.allclose((scenes.depth * scenes.disparity)[~far], 2)
    assert scenes.depth.max() <= 1


def test_scenes_of_quadrants_have_no_second_view():
    tiles = ShapesWorld(32, k=2, quadrants=True).scenes(np.arange(2))
    for name in ("right", "disparity", "clip"):
        with pytest.raises(ValueError, match="tiles"):
            getattr(tiles, name)


# Questions

STANDS = r"is the (.+) (left of|right of|above|below|in front of|behind) the (.+)"


def answer(text, rows):
    """Answer a question by its words."""
    if found := re.fullmatch(r"what (colour|shape|size) is the (.+)", text):
        what, name = found.groups()
        if name == "most common":
            (colour, _), *_ = Counter(row[0] for row in rows).most_common()
            return COLOURS[colour]
        (row,) = named(rows, name)
        return {"colour": COLOURS[row[0]], "shape": SHAPES[row[1]], "size": SIZES[row[2]]}[what]
    if found := re.fullmatch(r"is there an? (.+)", text):
        return "yes" if named(rows, found[1]) else "no"
    if found := re.fullmatch(r"how many (.+) are there", text):
        return str(len(named(rows, found[1])))
    found = re.fullmatch(STANDS, text)
    (a,), (b,) = named(rows, found[1]), named(rows, found[3])
    nearer = {"in front of": a[DEPTH] > b[DEPTH], "behind": a[DEPTH] < b[DEPTH]}
    return "yes" if nearer.get(found[2], relation(a, b) == found[2]) else "no"


@pytest.mark.parametrize(("size", "k", "split"), [(64, 4, "train"), (64, 4, "comp"), (32, 4, "val"), (32, 1, "train")])
def test_answers_are_true_of_what_is_seen(size, k, split):
    world = ShapesWorld(size, k=k, vary=True).scenes(MANY, split=split)
    for scene, question in enumerate(world.question):
        rows = visible(world, scene)
        assert question.answer == answer(question.text, rows), question
        assert question.answer in ANSWERS


def test_a_question_rests_on_the_pixels_of_its_objects(scenes):
    for scene, question in enumerate(scenes.question):
        rows = scenes.objects[scene].tolist()
        if found := re.fullmatch(STANDS, question.text):
            meant = [*named(rows, found[1]), *named(rows, found[3])]
            if question.answer == "yes":
                expected = [rows.index(row) + 1 for row in meant]
                assert np.array_equal(scenes.support[scene], np.isin(scenes.instance[scene], expected))
        elif question.kind in ("exist", "count"):
            things = re.sub(r"^(is there an?|how many) | are there$", "", question.text)
            expected = [rows.index(row) + 1 for row in named(visible(scenes, scene), things)]
            assert np.array_equal(scenes.support[scene], np.isin(scenes.instance[scene], expected))


def test_the_question_alone_says_little_of_the_answer():
    world = ShapesWorld(64, k=4, vary=True)
    asked = [q for number in range(4) for q in world.scenes(MANY, number=number).question]
    assert set(q.kind for q in asked) == set(KINDS)
    by_kind = defaultdict[str, Counter[str]](Counter)
    for question in asked:
        by_kind[question.kind][question.answer] += 1
    share = {kind: counts.most_common(1)[0][1] / counts.total() for kind, counts in by_kind.items()}
    for kind in ("exist", "relation", "nearer"):
        assert share[kind] < 0.56, kind
    assert share["size"] < 0.4
    assert share["shape"] < 0.25
    assert max(share["colour"], share["commonest"]) < 0.2
    assert share["count"] < 0.55


def test_questions_of_one_scene_differ_and_are_addressed():
    world = ShapesWorld(64, k=4)
    first, second = (world.scenes(MANY[:200], number=number).question for number in (0, 1))
    assert sum(a.text == b.text for a, b in zip(first, second, strict=True)) < 20
    mixed = world.scenes(np.repeat(MANY[:100], 2), number=np.tile([0, 1], 100)).question
    assert mixed[::2] == first[:100]
    assert mixed[1::2] == second[:100]


def test_a_program_that_means_no_single_object_is_refused():
    rows = ShapesWorld(64, k=2).scenes(np.array([0])).objects[0].tolist()
    with pytest.raises(ValueError, match="2 objects of the scene are meant where one should be: unique"):
        execute(("unique",), rows)
    with pytest.raises(ValueError, match="no single commonest colour"):
        execute(("commonest",), [[0, 0, 0, 1, 1, 1, 1], [1, 0, 0, 9, 9, 2, 1]])
    with pytest.raises(ValueError, match="no step `paint`"):
        execute(("paint",), rows)


# Expressions


def test_an_expression_means_one_object(scenes):
    forms = Counter()
    for scene, expression in enumerate(scenes.expression):
        rows = visible(scenes, scene)
        name, *place = re.split(r" (left of|right of|above|below) the ", expression.text.removeprefix("the "))
        found = named(rows, name)
        if place:
            (anchor,) = named(rows, place[1])
            found = [row for row in found if row is not anchor and relation(row, anchor) == place[0]]
        assert found == [scenes.objects[scene, expression.slot].tolist()], expression
        pixels = np.argwhere(scenes.instance[scene] == expression.slot + 1)
        (top, left), (bottom, right) = pixels.min(0), pixels.max(0) + 1
        assert scenes.target_box[scene].tolist() == [left, top, right, bottom]
        forms[len(name.split()), bool(place)] += 1
    assert len(forms) >= 4  # a word, two, three, and with a place


# Pairs of scenes


def count_in(scenes, scene, things):
    return len(named(visible(scenes, scene), things))


def test_statements_are_true_or_false_as_they_say(scenes):
    kinds = Counter()
    for scene, statement in enumerate(scenes.statement):

        def shown(things, scene=scene):
            return [count_in(part, scene, things) for part in (scenes, scenes._second)]

        text = statement.text
        if found := re.fullmatch(r"both pictures show an? (.+)", text):
            truth = all(shown(found[1]))
        elif found := re.fullmatch(r"only one picture shows an? (.+)", text):
            truth = sum(map(bool, shown(found[1]))) == 1
        elif found := re.fullmatch(r"the left picture shows more (.+) than the right", text):
            left, right = shown(found[1])
            truth = left > right
        else:
            found = re.fullmatch(r"there (?:is|are) (\d) (.+) in all", text)
            truth = sum(shown(found[2])) == int(found[1])
        assert truth == statement.truth, statement
        kinds[statement.kind, truth] += 1
        program = statement.program
        a, b = (int(execute(program, visible(part, scene)).answer) for part in (scenes, scenes._second))
        assert statements.KINDS[statement.kind](a, b, statement.number) == truth
    assert len(kinds) == 8
    for kind in {kind for kind, _ in kinds}:
        assert kinds[kind, True] / (kinds[kind, True] + kinds[kind, False]) == pytest.approx(0.5, abs=0.15)
    assert not np.array_equal(scenes.second[:5], scenes.image[:5])


# Clips


@pytest.fixture(scope="module")
def told():
    """Scenes with clips of four segments of two frames."""
    return ShapesWorld(64, k=4, vary=True, frames=2).scenes(np.arange(400))


def test_events_obey_the_state_that_they_find(told):
    states, happened = told._script.states, Counter()
    pairs = np.where(states[..., VALID] > 0, states[..., 0] * len(SHAPES) + states[..., 1], -1)
    assert not set(np.flatnonzero(HELD_OUT).tolist()) & set(pairs.ravel().tolist())
    for moments in pairs.reshape(-1, 4).tolist():
        there = [pair for pair in moments if pair >= 0]
        assert len(set(there)) == len(there) > 0
    for events, moments in zip(told.events.tolist(), states.tolist(), strict=True):
        for (event, slot), before, after in zip(events, moments[:-1], moments[1:], strict=True):
            assert [row for i, row in enumerate(before) if i != slot] == [
                row for i, row in enumerate(after) if i != slot
            ]
            (*_, was), (*_, is_there) = old, new = before[slot], after[slot]
            changed = {name for name, a, b in zip("csSxydv", old, new, strict=True) if a != b}
            name = clips.EVENTS[event]
            assert (was, is_there) == {"appears": (0, 1), "disappears": (1, 0)}.get(name, (1, 1))
            axis = {"left": "x", "right": "x", "up": "y", "down": "y", "turns": "c", "grows": "S", "shrinks": "S"}
            assert changed == ({axis[name]} if name in axis else {"v"} if name.endswith("appears") else set())
            assert np.sign(new[X] - old[X]) == {"left": -1, "right": 1}.get(name, 0)
            assert np.sign(new[Y] - old[Y]) == {"up": -1, "down": 1}.get(name, 0)
            assert new[2] - old[2] == {"grows": 1, "shrinks": -1}.get(name, 0)
            happened[name] += 1
    assert set(happened) == set(clips.EVENTS)


def test_frames_show_the_script(told):
    assert told.clip.shape == (400, 8, 3, 64, 64)
    stays = clips.EVENTS.index("stays")
    for clip, events, story in zip(told.clip, told.events.tolist(), told.story, strict=True):
        for segment, (event, _) in enumerate(events):
            first, last = clip[2 * segment : 2 * segment + 2]
            if event == stays:
                assert np.array_equal(first, last)
            assert story[segment].split()[-2 if event == clips.EVENTS.index("turns") else -1] == clips.EVENTS[event]
    # A clip in which nothing happened yet shows the scene.
    opening = told._script.frames(2)[:, 0]
    same = (opening == told.objects).all(axis=(1, 2))
    assert same.any()
    assert np.array_equal(told.clip[same, 0], told.image[same])


def test_a_twin_is_the_clip_played_backwards(told):
    assert np.array_equal(told.twin, told.clip[:, ::-1])
    opposite = {"left": "right", "up": "down", "grows": "shrinks", "appears": "disappears"}
    opposite.update({b: a for a, b in opposite.items()})
    for story, twin in zip(told.story, told.twin_story, strict=True):
        for there, back in zip(story, reversed(twin), strict=True):
            if "turns" in there:
                (_, colour, shape, _, new), other = there.split(), back.split()
                assert other == ["the", new, shape, "turns", colour]
            else:
                last = there.split()[-1]
                assert back.split()[-1] == opposite.get(last, last)
    assert told._script.backwards().backwards().captions() == told.story


# Language


def test_the_vocabulary_is_closed_and_no_larger_than_needed():
    world, said = ShapesWorld(64, k=4, vary=True, frames=2), set[str]()
    for number in range(4):
        scenes = world.scenes(MANY, number=number)
        texts = [q.text for q in scenes.question] + [q.answer for q in scenes.question]
        texts += [e.text for e in scenes.expression] + [s.text for s in scenes.statement] + scenes.caption
        said.update(" ".join(texts).split())
    said.update(" ".join(text for story in world.scenes(MANY).story for text in story).split())
    assert said == set(vocabulary())
    assert len(said) < 90


def test_texts_never_name_a_pair_that_is_held_out():
    world, held = ShapesWorld(64, k=4, vary=True), [phrase(divmod(i, 6)) for i in np.flatnonzero(HELD_OUT).tolist()]
    new = re.compile("|".join(f"{name}(?:s|es)?" for name in held))
    scenes = world.scenes(np.arange(2000))
    texts = [q.text for q in scenes.question] + [e.text for e in scenes.expression]
    texts += [s.text for s in scenes.statement] + world.scenes(np.arange(10_000)).caption
    assert not [text for text in texts if new.search(text)]
    comp = world.scenes(MANY, split="comp")
    assert [q.text for q in comp.question if new.search(q.text)]
    assert set(pair_numbers(comp.objects)[:, 0].tolist()) == set(np.flatnonzero(HELD_OUT).tolist())


# Tables


def test_columns_of_a_table_are_those_of_its_scenes(monkeypatch):
    painted = []
    monkeypatch.setattr(module, "paint", lambda *a, **k: painted.append(1) or rendering.paint(*a, **k))
    table = SceneTable(ShapesWorld(32, k=1), split="val", count=50, per_scene=3)
    names = ("image", "mask", "label", "question", "answer", "program", "statement", "truth")
    columns, rows = {name: table.column(name) for name in names}, np.array([7, 148, 6, 7])
    found = {name: column.take(rows) for name, column in columns.items()}
    assert len(painted) == 2  # one of each scene, and one of its partner
    assert all(len(column) == 150 for column in columns.values())
    assert table.scene_of(rows).tolist() == [2, 49, 2, 2]
    scenes = ShapesWorld(32, k=1).scenes([2, 49, 2, 2], split="val", number=np.array([1, 1, 0, 1]))
    assert np.array_equal(found["image"], scenes.image.transpose(0, 2, 3, 1))
    assert np.array_equal(found["mask"], scenes.semantic)
    assert found["question"] == [question.text for question in scenes.question]
    assert found["program"] == [question.program for question in scenes.question]
    assert [ANSWERS[i] for i in found["answer"]] == [question.answer for question in scenes.question]
    assert found["truth"].tolist() == [int(statement.truth) for statement in scenes.statement]
    again = pickle.loads(pickle.dumps(columns["question"]))
    assert again.take(rows[1:]) == found["question"][1:]
    with pytest.raises(ValueError, match="not height"):
        table.column("height")
