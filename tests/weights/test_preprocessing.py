"""What files beside weights state of their images, taken whole or refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tfcli.data.images.resize import SETTINGS, Fit
from tfcli.errors import WeightsError
from tfcli.weights.preprocessing import Preprocessing, of_open_clip, of_timm, of_torchvision, of_transformers, stated


def read(content: dict[str, Any], model: dict[str, Any] | None = None) -> Preprocessing:
    """What a processor's file states; `type` and `old_type` stand for transformers' long words."""
    words = {"type": "image_processor_type", "old_type": "feature_extractor_type"}
    content = {words.get(key, key): value for key, value in content.items()}
    return of_transformers(content, name="preprocessor_config.json", model=model or {})


def seen(content: dict[str, Any], model: dict[str, Any] | None = None) -> tuple[Any, ...]:
    """Size of the square, rule, side before the crop and interpolation of a processor of transformers."""
    found = read(content, model).settings
    assert found.keys() == set(SETTINGS)
    fit = Fit(found["image_size"], found["eval_crop"], found["resize"], found["interpolation"], found["resizer"])
    return fit.image_size, fit.resize, fit.step.side, fit.interpolation


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"type": "ViTImageProcessor"}, (224, "squash", 224, "bilinear")),
        ({"old_type": "ViTFeatureExtractor", "size": 384, "resample": 3}, (384, "squash", 384, "bicubic")),
        ({"type": "ViTImageProcessorFast", "size": [96, 96]}, (96, "squash", 96, "bilinear")),
        ({"old_type": "DeiTFeatureExtractor"}, (224, "squash", 256, "bicubic")),
        ({"old_type": "CLIPFeatureExtractor", "size": 224}, (224, "shorter", 224, "bicubic")),
        (
            {"type": "CLIPImageProcessor", "size": {"shortest_edge": 250}, "crop_size": {"height": 99, "width": 99}},
            (99, "shorter", 250, "bicubic"),
        ),
        (
            {"type": "BitImageProcessor", "size": {"shortest_edge": 256}, "resample": 1},
            (224, "shorter", 256, "lanczos"),
        ),
        ({"type": "CLIPImageProcessor", "do_resize": False}, (224, "none", 224, "bicubic")),
        (
            {"type": "ViTImageProcessor", "size": 200, "do_center_crop": True, "crop_size": 230},
            (230, "squash", 200, "bilinear"),
        ),
        ({"type": "ConvNextImageProcessor", "size": 224}, (224, "shorter", 256, "bicubic")),
        (
            {"type": "ConvNextImageProcessor", "size": {"shortest_edge": 384}, "crop_pct": 0.9},
            (384, "squash", 384, "bicubic"),
        ),
    ],
)
def test_processors_of_transformers(content: dict[str, Any], expected: tuple[Any, ...]) -> None:
    assert seen(content) == expected


def test_an_old_file_is_of_its_models_kind() -> None:
    assert seen({"size": 224}, {"model_type": "clip"}) == (224, "shorter", 224, "bicubic")
    assert seen({"size": 224}, {"model_type": "vit"}) == (224, "squash", 224, "bilinear")


@pytest.mark.parametrize(
    ("content", "mean", "std"),
    [
        ({"image_mean": [0.1, 0.2, 0.3], "image_std": 0.25}, [0.1, 0.2, 0.3], [0.25] * 3),
        ({"do_normalize": False}, [0.0] * 3, [1.0] * 3),
        ({"do_rescale": False, "image_mean": 127.5, "image_std": 127.5}, [0.5] * 3, [0.5] * 3),
        ({"rescale_factor": 2 / 255}, [0.25] * 3, [0.25] * 3),
        ({"do_normalize": False, "do_rescale": False}, [0.0] * 3, [1 / 255] * 3),
    ],
)
def test_rescaling_is_part_of_mean_and_deviation(content: dict[str, Any], mean: list[float], std: list[float]) -> None:
    found = read({"type": "ViTImageProcessor"} | content).settings
    assert found["mean"] == pytest.approx(mean)
    assert found["std"] == pytest.approx(std)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ({"type": "DetrImageProcessor", "size": 800}, "a `DetrImageProcessor`"),
        ({"size": 224}, "no `image_processor_type`"),
        ({"type": "CLIPImageProcessor", "do_center_crop": False}, "without `do_center_crop`"),
        ({"type": "ViTImageProcessor", "size": {"height": 224, "width": 160}}, "images here become squares"),
        ({"type": "CLIPImageProcessor", "crop_size": [224, 160]}, "`crop_size`"),
        ({"type": "CLIPImageProcessor", "size": {"shortest_edge": 9, "longest_edge": 12}}, "`size`"),
        ({"type": "ViTImageProcessor", "do_pad": True}, "`do_pad`"),
        ({"type": "ViTImageProcessor", "do_resize": False}, "neither `do_resize` nor"),
        ({"type": "ViTImageProcessor", "resample": 4}, r"`resample` 4 \(box\)"),
        ({"type": "ViTImageProcessor", "image_mean": [0.5, 0.5]}, "`image_mean`"),
    ],
)
def test_what_is_not_possible_is_refused_by_name(content: dict[str, Any], named: str) -> None:
    with pytest.raises(WeightsError, match=rf"`preprocessor_config.json` beside the weights states .*{named}"):
        read(content)


def test_the_newer_file_of_transformers_comes_first(tmp_path: Path) -> None:
    (tmp_path / "processor_config.json").write_text(
        json.dumps({"image_processor": {"image_processor_type": "ViTImageProcessor", "size": 96}})
    )
    (tmp_path / "preprocessor_config.json").write_text(
        json.dumps({"image_processor_type": "ViTImageProcessor", "size": 64})
    )
    found = stated(tmp_path, {})
    assert found
    assert (found.settings["image_size"], found.source) == (96, "processor_config.json")
    (tmp_path / "processor_config.json").write_text(json.dumps({"processor_class": "CLIPProcessor"}))
    found = stated(tmp_path, {})
    assert found
    assert found.settings["image_size"] == 64


def test_open_clip() -> None:
    cfg = {"interpolation": "bilinear", "resize_mode": "longest", "mean": [0.5] * 3, "std": [0.25] * 3, "fill_color": 7}
    model = {"vision_cfg": {"image_size": 240}}
    assert of_open_clip({"model_cfg": model, "preprocess_cfg": cfg | {"size": 224}}).settings == {
        "image_size": 240,
        "resize": "longer",
        "eval_crop": 1.0,
        "interpolation": "bilinear",
        "resizer": "pillow",
        "fill": [7, 7, 7],
        "mean": [0.5] * 3,
        "std": [0.25] * 3,
    }
    usual = of_open_clip({"model_cfg": model}).settings
    assert (usual["resize"], usual["interpolation"], usual["fill"]) == ("shorter", "bicubic", [0, 0, 0])
    with pytest.raises(WeightsError, match="`resize_mode` 'fit'; known are shortest, longest, squash"):
        of_open_clip({"preprocess_cfg": {"resize_mode": "fit"}})


def test_timm() -> None:
    cfg = {
        "input_size": [3, 224, 224],
        "crop_pct": 0.9,
        "interpolation": "bicubic",
        "mean": [0.5] * 3,
        "std": [0.5] * 3,
    }
    found = of_timm(cfg).settings
    assert round(found["image_size"] / found["eval_crop"]) == 248
    assert (found["resize"], found["fill"]) == ("shorter", [0, 0, 0])
    border = of_timm(cfg | {"crop_mode": "border"}).settings
    assert (border["resize"], border["fill"]) == ("longer", [128, 128, 128])
    with pytest.raises(WeightsError, match=r"`input_size` \[224, 160\]: images here become squares"):
        of_timm({"input_size": [3, 224, 160]})
    with pytest.raises(WeightsError, match="`interpolation` 'random'"):
        of_timm({"interpolation": "random"})


def test_torchvision() -> None:
    from torchvision.models import Swin_T_Weights

    found = of_torchvision(Swin_T_Weights.IMAGENET1K_V1.transforms(), "swin_t")
    assert round(found.settings["image_size"] / found.settings["eval_crop"]) == 232
    assert found.settings["interpolation"] == "bicubic"
