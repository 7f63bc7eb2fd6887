"""Real photographs through saved folders of other libraries: their own processor and model give the same features.

Each draw makes a model of random sizes with a random preprocessing, saves both, and opens the folder with
`model.weights=FOLDER` alone. `-s` prints the worst difference of each family.
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from parity.folders import composed, difference, quietly, saved
from parity.test_clip import randomise as randomise_clip
from parity.test_vit import randomise
from PIL import Image
from torch import Tensor

from tfcli.engine.loading import load_model
from tfcli.engine.probe.encoder import fetch_features, prepare
from tfcli.engine.runs.named import frozen_job
from tfcli.engine.use.image_model import load_image_model
from tfcli.text import tokenizer

pytestmark = pytest.mark.parity

ATOL = 1e-4
TEXTS = ["a photo of a rose", "a tabby cat on a sofa, seen from above", "dogs"]
Answers = tuple[Tensor, Tensor | None]
"""Features (B, D) of photographs, and the similarity (B, T) to texts where the model reads texts."""
Draw = tuple[str, Callable[[list[Image.Image], Tensor], Answers]]
"""Our model, and what the library answers to photographs and the tokens of texts."""


READ = cache(tokenizer.load)


@pytest.fixture(autouse=True)
def read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """All draws of a family have one config and one vocabulary: they are saved in one folder, one after the other."""
    monkeypatch.setattr(tokenizer, "load", READ)
    monkeypatch.setattr(load_model, "compose", composed)


@pytest.fixture
def photographs(real_data: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Of several shapes, among them an upright one."""
    monkeypatch.setenv("TFCLI_DATA", str(real_data))  # has CLIP's byte pairs
    pets = sorted((real_data / "pets/oxford-iiit-pet/images").glob("*.jpg"))[::300]
    flowers = sorted((real_data / "flowers_160/flowers-102/jpg").glob("*.jpg"))[::900]
    return [*pets[:4], *flowers[:2]]


def colours(rng: random.Random) -> tuple[list[float], list[float]]:
    return [round(rng.uniform(0.3, 0.6), 3) for _ in "rgb"], [round(rng.uniform(0.2, 0.4), 3) for _ in "rgb"]


def processor(rng: random.Random, side: int) -> dict[str, Any]:
    """Settings of an image processor of transformers whose result is `side` pixels wide."""
    mean, std = colours(rng)
    to, crop = rng.randint(side - 6, side + 40), {"height": side, "width": side}
    way = rng.choice(["squash", "squash and crop", "shorter and crop", "shorter and crop", "crop"])
    size: Any = {"height": side, "width": side} if way == "squash" else {"height": to, "width": to}
    return {
        "size": {"shortest_edge": to} if way.startswith("shorter") else size,
        "do_resize": way != "crop",
        "do_center_crop": way != "squash",
        "crop_size": crop,
        "resample": rng.choice([0, 1, 2, 3]),
        "do_rescale": rng.random() < 0.9,
        "rescale_factor": rng.choice([1 / 255, 1 / 255, 1 / 127.5]),
        "do_normalize": rng.random() < 0.9,
        "image_mean": mean,
        "image_std": std,
    }


def save_processor(rng: random.Random, kind: str, folder: Path, settings: dict[str, Any]) -> Any:
    """As `preprocessor_config.json`, or nested in `processor_config.json` as newer versions write it."""
    if not settings["do_rescale"]:  # the means are of 0..255
        settings["do_normalize"] = True
        for key in ("image_mean", "image_std"):
            settings[key] = [255 * value for value in settings[key]]
    own = getattr(quietly("transformers"), f"{kind}ImageProcessor")(**settings)
    own.save_pretrained(folder)
    if rng.random() < 0.5:
        old = folder / "preprocessor_config.json"
        nested = {"image_processor": json.loads(old.read_text()), "processor_class": f"{kind}Processor"}
        (folder / "processor_config.json").write_text(json.dumps(nested))
        old.unlink()
    return own


def vit_of_transformers(rng: random.Random, folder: Path) -> Draw:
    transformers = quietly("transformers")
    heads, patch = rng.choice([1, 2, 3]), rng.choice([4, 7, 8])
    config = transformers.ViTConfig(
        hidden_size=16 * heads,
        num_hidden_layers=2,
        num_attention_heads=heads,
        intermediate_size=40,
        image_size=5 * patch,
        patch_size=patch,
        hidden_act=rng.choice(["gelu", "relu"]),
        layer_norm_eps=rng.choice([1e-12, 1e-6]),
    )
    net = randomise(transformers.ViTModel(config, add_pooling_layer=False))
    saved(net, folder)
    see = save_processor(rng, "ViT", folder, processor(rng, 5 * patch))
    return "vit", lambda photos, _: (net(**see(photos, return_tensors="pt")).last_hidden_state[:, 0], None)


def vit_of_timm(rng: random.Random, folder: Path) -> Draw:
    timm = quietly("timm")
    from timm.models._hub import save_for_hf

    patch, (mean, std) = rng.choice([4, 7, 8]), colours(rng)
    seen = {"input_size": (3, 5 * patch, 5 * patch), "crop_pct": rng.choice([0.7, 0.875, 0.9, 0.95, 1.0]), "mean": mean}
    seen |= {"std": std, "interpolation": rng.choice(["bilinear", "bicubic", "lanczos", "nearest", "box"])}
    seen |= {"crop_mode": rng.choice(["center", "center", "squash", "border"])}
    sizes = {"embed_dim": 32, "depth": 2, "num_heads": 2, "img_size": 5 * patch, "patch_size": patch}
    net = randomise(timm.create_model("vit_small_patch16_224", num_classes=3, pretrained_cfg_overlay=seen, **sizes))
    save_for_hf(net, folder, safe_serialization=True)
    see = timm.data.create_transform(**timm.data.resolve_model_data_config(net), is_training=False)

    def answer(photos: list[Image.Image], tokens: Tensor) -> Answers:
        return net.forward_head(net.forward_features(torch.stack([see(p) for p in photos])), pre_logits=True), None

    return "vit", answer


def clip_of_transformers(rng: random.Random, folder: Path) -> Draw:
    transformers = quietly("transformers")
    patch, heads, act = rng.choice([6, 8]), rng.choice([1, 2, 4]), rng.choice(["gelu", "quick_gelu"])
    side = rng.choice([4, 5]) * patch
    both = {"num_hidden_layers": 2, "num_attention_heads": heads, "intermediate_size": 72, "hidden_act": act}
    config = transformers.CLIPConfig(
        vision_config=both | {"hidden_size": 48, "image_size": side, "patch_size": patch, "layer_norm_eps": 1e-3},
        text_config=both | {"hidden_size": 32, "max_position_embeddings": 20},
        projection_dim=24,
    )
    net = randomise_clip(transformers.CLIPModel(config))
    saved(net, folder)
    see = save_processor(rng, "CLIP", folder, processor(rng, side))

    def answer(photos: list[Image.Image], tokens: Tensor) -> Answers:
        pixels = see(photos, return_tensors="pt")["pixel_values"]
        return net.get_image_features(pixels).pooler_output, net(tokens, pixel_values=pixels).logits_per_image

    return "clip", answer


def clip_of_open_clip(rng: random.Random, folder: Path) -> Draw:
    open_clip = quietly("open_clip")
    patch, (mean, std), heads = rng.choice([6, 8]), colours(rng), rng.choice([1, 2])
    side = rng.choice([4, 5]) * patch
    preset = {"mean": mean, "std": std, "interpolation": rng.choice(["bilinear", "bicubic"]), "fill_color": 9}
    preset |= {"resize_mode": rng.choice(["shortest", "longest", "squash"])}
    vision = {"image_size": side, "layers": 2, "width": 64, "head_width": 64 // heads, "patch_size": patch}
    text = {"context_length": 20, "vocab_size": 49408, "width": 32, "heads": heads, "layers": 2}
    model = {"embed_dim": 24, "vision_cfg": vision, "text_cfg": text, "quick_gelu": rng.random() < 0.5}
    folder.mkdir()
    made = randomise_clip(open_clip.model.CLIP(24, dict(vision), dict(text), quick_gelu=model["quick_gelu"]))
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": model, "preprocess_cfg": preset}))
    torch.save(made.state_dict(), folder / "open_clip_pytorch_model.bin")
    net, see = open_clip.create_model_from_pretrained(f"local-dir:{folder}")
    net.eval()

    def answer(photos: list[Image.Image], tokens: Tensor) -> Answers:
        pixels = torch.stack([see(photo) for photo in photos])
        image, text, scale = net(pixels, tokens)
        return net.encode_image(pixels), scale * image @ text.mT

    return "clip", answer


FAMILIES: dict[str, Callable[[random.Random, Path], Draw]] = {
    "ViT of transformers": vit_of_transformers,
    "ViT of timm": vit_of_timm,
    "CLIP of transformers": clip_of_transformers,
    "CLIP of open_clip": clip_of_open_clip,
}


@torch.no_grad()
def compare(family: str, seed: int, folder: Path, files: list[Path]) -> float:
    """Return the worst difference of a draw."""
    place = folder / "theirs"
    shutil.rmtree(place, ignore_errors=True)
    model, theirs = FAMILIES[family](random.Random(f"{family} {seed}"), place)
    loaded = load_image_model(None, [f"model={model}", f"model.weights={place}", "data.workers=0"])
    pixels = torch.cat([batch["image"] for batch in loaded.data.files_dataloader(files)])
    photos = [Image.open(file).convert("RGB") for file in files]
    net: Any = loaded.net.cpu()
    if model == "vit":
        return difference(net.features(pixels).pooled, theirs(photos, torch.empty(0))[0])
    assert loaded.tokenizer
    tokens = torch.from_numpy(loaded.tokenizer.encode_padded(TEXTS))
    features, similarity = theirs(photos, tokens)
    assert similarity is not None
    return max(difference(net.encode_image(pixels), features), difference(net(pixels, tokens), similarity))


@torch.no_grad()
@pytest.mark.parametrize(
    ("family", "kept"),
    [
        ("ViT of transformers", "none"),
        ("ViT of timm", "memory"),
        pytest.param("ViT of transformers", "memory", marks=pytest.mark.slow),
        pytest.param("ViT of timm", "none", marks=pytest.mark.slow),
    ],
)
def test_extracted_features(family: str, kept: str, tmp_path: Path, photographs: list[Path]) -> None:
    """Through `features extract`, whether images are decoded at once or each time."""
    files = []
    for number, file in enumerate(photographs):
        for split in ("train", "val", "test"):
            place = tmp_path / "own" / split / f"class{number % 2}" / f"{number}.jpg"
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, place)
        files.append(place)
    _, theirs = FAMILIES[family](random.Random(f"{family} {kept}"), tmp_path / "theirs")
    words = ["vit", "folder", f"data.root={tmp_path / 'own'}", f"model.weights={tmp_path / 'theirs'}"]
    words += [f"data.cache={kept}", "data.workers=0", "features.precision=32", f"features.cache={tmp_path / 'kept'}"]
    found, _ = fetch_features(prepare(*frozen_job(words)), "test")
    photos = [Image.open(file).convert("RGB") for file in sorted(files)]
    assert difference(found, theirs(photos, torch.empty(0))[0]) <= ATOL


def draws(family: str, seeds: range, folder: Path, files: list[Path]) -> None:
    worst = max(compare(family, seed, folder, files) for seed in seeds)
    print(f"{family}: {len(seeds)} draws, {len(files)} photographs, at worst {worst:.1e}")
    assert worst <= ATOL


@pytest.mark.parametrize("family", ["ViT of transformers", "CLIP of transformers"])
def test_a_draw_of_a_family(family: str, tmp_path: Path, photographs: list[Path]) -> None:
    draws(family, range(1), tmp_path, photographs)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_thirty_draws_of_a_family(family: str, tmp_path: Path, photographs: list[Path]) -> None:
    draws(family, range(2, 32), tmp_path, photographs)
