"""GPT-1's four formats learn what only the whole frame can tell (Radford et al. 2018, section 3.3)."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tfcli.data.views.framed import Choices, Labelled
from tfcli.engine.config.build import build
from tfcli.engine.config.compose import compose
from tfcli.models.gpt import GPT
from tfcli.nn.attention import Attention
from tfcli.nn.positions import Learned
from tfcli.tasks.text_classify import TextClassify, head_output
from tfcli.text.tokenizer import make

SYMBOLS = "abcd"


def texts(rng: np.random.Generator, count: int) -> list[str]:
    return ["".join(rng.choice(list(SYMBOLS), 1)) for _ in range(count)]


def late(text: str) -> int:
    """Whether a text begins with one of the later symbols."""
    return int(text[0] > "b")


def classification(rng: np.random.Generator, count: int) -> dict:
    """Which of the two halves of the alphabet does it begin with?"""
    text = texts(rng, count)
    return {"text": text, "label": [late(t) for t in text]}


def entailment(rng: np.random.Generator, count: int) -> dict:
    """Does the premise begin with a later symbol, and the hypothesis not?"""
    text, pair = texts(rng, count), texts(rng, count)
    return {"text": text, "pair": pair, "label": [int(late(t) > late(p)) for t, p in zip(text, pair, strict=True)]}


def similarity(rng: np.random.Generator, count: int) -> dict:
    """Do both begin with a later symbol, whichever comes first?"""
    text, pair = texts(rng, count), texts(rng, count)
    return {"text": text, "pair": pair, "label": [late(t) * late(p) for t, p in zip(text, pair, strict=True)]}


def choice(rng: np.random.Generator, count: int) -> dict:
    """Which ending alone begins with a later symbol?"""
    text, right = texts(rng, count), rng.integers(0, 3, count)
    ways = [["cd"[int(rng.integers(2))] if i == k else "ab"[int(rng.integers(2))] for i in range(3)] for k in right]
    return {"context": text, "choices": ways, "label": right.tolist()}


FORMATS = {  # rows, view, head, steps to learn it
    "classification": (classification, Labelled(framing="start"), "classes", 40),
    "entailment": (entailment, Labelled(framing="start"), "classes", 100),
    "similarity": (similarity, Labelled(framing="start", both_orders=True), "classes", 70),
    "choice": (choice, Choices(framing="start"), "choice", 40),
}


@pytest.mark.parametrize("name", FORMATS)
def test_gpt_learns_each_format(name):
    rows, view, head, steps = FORMATS[name]
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    letters = make("chars", texts=[SYMBOLS])
    sizes = {"vocab_size": letters.vocab_size, "depth": 2, "heads": 4, "context": 8, "attn": Attention, "pos": Learned}
    net = GPT(48, **sizes, head=head, num_classes=2)
    task = TextClassify(net, num_classes=2, optim=torch.optim.AdamW, schedule=lambda *_, **__: 1.0, lm_weight=0.1)
    optimizer = torch.optim.AdamW(net.parameters(), lr=6e-3)
    encoded = view.encode(rows(rng, 32 * steps), letters, length=8, train=True)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 6e-3 * (1 - step / steps)
        batch = encoded.batch(np.arange(32 * step, 32 * step + 32), seed=0, epoch=0)
        loss = torch.nn.functional.cross_entropy(head_output(net, batch), batch["label"]) + 0.1 * task.language_loss(
            batch
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    held = view.encode(rows(rng, 400), letters, length=8, train=False).batch(np.arange(400), seed=0, epoch=0)
    with torch.no_grad():
        accuracy = (head_output(net.eval(), held).argmax(1) == held["label"]).float().mean()
    assert accuracy > 0.95


@pytest.mark.parametrize(("model", "framing"), [("gpt", "start"), ("bert", "cls")])
def test_a_task_frames_texts_as_its_model_reads_them(model, framing):
    for task, data in (("text_classify", "sst2"), ("text_regress", "stsb"), ("choice", "swag")):
        config = compose("train", [f"model={model}", f"task={task}", f"data={data}"]).config
        assert build(config.task.view).framing == framing
        assert config.model.head == config.task.answer
