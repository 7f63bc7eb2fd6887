"""Masking and next texts: the shares asked for, drawn anew each epoch, nothing masked that is no word."""

from __future__ import annotations

import numpy as np
import pytest

from tfcli.data.views.masked import MaskedPairs
from tfcli.errors import ConfigError
from tfcli.text.tokenizer import make

WORDS = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa"]
DOCUMENTS = ["\n".join(" ".join(WORDS[(d + s + i) % 10] for i in range(6)) + "." for s in range(12)) for d in range(60)]


@pytest.fixture(scope="module")
def pieces():
    return make("wordpiece", texts=DOCUMENTS, vocab_size=120, lower=True)


def encoded(pieces, **options):
    return MaskedPairs(**options).encode({"text": DOCUMENTS}, pieces, length=48, train=True)


def test_shares_are_as_asked(pieces):
    data = encoded(pieces)
    rows = np.arange(len(data.lengths))
    batch = data.batch(rows, seed=0, epoch=0)
    asked, tokens = batch["target"] >= 0, batch["tokens"]
    words = int(batch["valid"].sum()) - 2 * len(rows) - int((batch["next"] >= 0).sum())
    assert int(asked.sum()) / words == pytest.approx(0.15, abs=0.01)
    hidden = (tokens == pieces.mask_id) & asked
    kept = (tokens == batch["target"]) & asked
    assert float(hidden.sum() / asked.sum()) == pytest.approx(0.8, abs=0.04)
    assert float(kept.sum() / asked.sum()) == pytest.approx(0.1, abs=0.04)
    assert not (asked & ~batch["valid"]).any()
    specials = [pieces.cls_id, pieces.sep_id, pieces.pad_id]
    assert not np.isin(batch["target"].numpy(), specials).any()
    assert tokens.shape[1] <= 48


def test_half_of_the_texts_follow(pieces):
    data = encoded(pieces)
    batch = data.batch(np.arange(len(data.lengths)), seed=0, epoch=3)
    assert float(batch["next"].float().mean()) == pytest.approx(0.5, abs=0.12)
    alone = encoded(pieces, next_sentence=False).batch(np.arange(4), seed=0, epoch=0)
    assert (alone["next"] == -100).all()
    assert (alone["segments"] == 0).all()


def test_what_is_drawn_is_addressed(pieces):
    data = encoded(pieces)
    one, same, other = (data.batch(np.array([5, 2]), seed=1, epoch=e)["tokens"] for e in (0, 0, 1))
    assert (one == same).all()
    assert one.shape != other.shape or (one != other).any()
    alone = data.batch(np.array([2]), seed=1, epoch=0)["tokens"]
    assert (alone[0] == one[1][: alone.shape[1]]).all()
    fixed = MaskedPairs().encode({"text": DOCUMENTS}, pieces, length=48, train=False)
    assert (
        fixed.batch(np.array([0]), seed=0, epoch=0)["tokens"] == fixed.batch(np.array([0]), seed=0, epoch=7)["tokens"]
    ).all()


def test_slips_are_named(pieces):
    with pytest.raises(ConfigError, match=r"their sum is 1\.2"):
        MaskedPairs(masked_fraction=0.8, random_fraction=0.4)
    with pytest.raises(ConfigError, match=r"does not have. Take model\.tokenizer\.kind=wordpiece"):
        MaskedPairs().encode({"text": ["a"]}, make("chars", texts=["abc"]), length=8, train=True)
