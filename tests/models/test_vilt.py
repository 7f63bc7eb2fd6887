"""ViLT: words and patches see each other, padding is seen by none, and the answer needs both."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from tfcli.errors import DataError
from tfcli.models.vilt import ViLT
from tfcli.nn.attention import Attention
from tfcli.nn.positions import Learned


def small(**changes) -> ViLT:
    torch.manual_seed(0)
    sizes = {"vocab_size": 12, "depth": 2, "heads": 2, "context": 6, "image_size": 8, "patch_size": 4, "num_classes": 3}
    return ViLT(16, attn=Attention, pos=partial(Learned, std=0.5), **(sizes | changes))


def test_padding_changes_no_answer():
    net, image = small().eval(), torch.randn(2, 3, 8, 8)
    tokens = torch.tensor([[2, 5, 3], [2, 7, 3]])
    padded = torch.cat([tokens, torch.full((2, 2), 9)], 1)
    valid = torch.tensor([[True] * 3 + [False] * 2] * 2)
    torch.testing.assert_close(net(image, padded, valid), net(image, tokens), atol=1e-6, rtol=1e-5)
    fused = net.fuse(image, padded, valid)
    assert fused.tokens.shape == (2, 5 + 4, 16)
    assert (net.fuse(image.flip(0), tokens).pooled != net.fuse(image, tokens).pooled).all()


def test_words_and_patches_have_places_of_their_own():
    net = small()
    assert net.stack.positions[0].table.shape == (6 + 4, 16)
    assert net._places(3).coords[:, 0].tolist() == [0, 1, 2, 6, 7, 8, 9]
    assert net._places(3) is net._places(3)


def test_what_it_was_not_built_for_is_refused():
    net = small()
    with pytest.raises(DataError, match="7 tokens is longer than the model's context of 6"):
        net(torch.zeros(1, 3, 8, 8), torch.ones(1, 7, dtype=torch.long))
    with pytest.raises(DataError, match=r"built for, 8 px, but `data.image_size` is 12: leave it out, or train"):
        net(torch.zeros(1, 3, 12, 12), torch.ones(1, 3, dtype=torch.long))


def test_an_answer_that_needs_both_is_learned():
    """Which of two corners is bright: the question names the corner, the image has either, the answer is yes or no."""
    net = small(num_classes=2)
    bright = torch.randint(0, 2, (64,))
    asked = torch.randint(0, 2, (64,))
    image = torch.zeros(64, 3, 8, 8)
    image[bright == 0, :, :4, :4] = 1
    image[bright == 1, :, 4:, 4:] = 1
    tokens = torch.stack([torch.full((64,), 2), 5 + asked, torch.full((64,), 3)], 1)
    answer = (bright == asked).long()
    optim = torch.optim.AdamW(net.parameters(), 3e-3)
    for _ in range(150):
        optim.zero_grad()
        torch.nn.functional.cross_entropy(net(image, tokens), answer).backward()
        optim.step()
    assert (net(image, tokens).argmax(1) == answer).float().mean() > 0.95  # one half without the image or the question
