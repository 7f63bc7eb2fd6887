"""What CLIP's files say of themselves, where its byte pairs are found, and how a wrong file is named."""

from __future__ import annotations

import gzip
import hashlib
import json
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tfcli.engine.config.compose import compose
from tfcli.errors import WeightsError
from tfcli.models.clip import CLIP, ModifiedResNet, TextTransformer, VisionTransformer
from tfcli.nn.attention import Attention
from tfcli.nn.patterns import Causal
from tfcli.nn.positions import Learned, Sinusoidal
from tfcli.text.tokenizer import load
from tfcli.weights import clip, clip_tokenizer, hub
from tfcli.weights.blueprint import Blueprint, blueprint
from tfcli.weights.load import load_weights

TARGET = "tfcli.models.clip.CLIP"
CAUSAL = partial(Attention, pattern=Causal())


def net(width: int = 64, context: int = 8, image: str = "vit", **changes) -> CLIP:
    torch.manual_seed(0)
    options = {"depth": 2, "heads": 1, "image_size": 16, "patch_size": 8, "attn": Attention, "pos": Learned}
    tower = (
        VisionTransformer(width, embed_width=12, **(options | changes))
        if image == "vit"
        else ModifiedResNet((1, 1, 1, 1), width=8, embed_width=12, image_size=32, heads=4)
    )
    text = {"depth": 1, "heads": 1, "context": context, "vocab_size": 20, "embed_width": 12}
    return CLIP(12, image=tower, text=TextTransformer(64, **text, attn=CAUSAL, pos=Learned))


def openai_names(model: CLIP) -> dict[str, torch.Tensor]:
    """The state of `model` as OpenAI would have named it."""
    back = {"image.stack.blocks.": "visual.transformer.resblocks.", "text.stack.blocks.": "transformer.resblocks."}
    back |= {".norm1.": ".ln_1.", ".norm2.": ".ln_2.", ".attention.qkv.": ".attn.in_proj_"}
    back |= {".attention.out.": ".attn.out_proj.", ".mlp.fc1.": ".mlp.c_fc.", ".mlp.fc2.": ".mlp.c_proj."}
    back |= {
        "image.stack.positions.0.table": "visual.positional_embedding",
        "image.cls_token": "visual.class_embedding",
    }
    back |= {"text.stack.positions.0.table": "positional_embedding", "image.stack.stem_norm": "visual.ln_pre"}
    back |= {"text.stack.norm": "ln_final", "image.norm": "visual.ln_post", "text.embed": "token_embedding"}
    back |= {"image.patch_embed.proj": "visual.conv1", "text.proj.weight": "text_projection"}
    back |= {"image.proj.weight": "visual.proj"}
    state = {}
    for name, tensor in model.state_dict().items():
        new = name
        for ours, theirs in back.items():
            new = new.replace(ours, theirs)
        tensor = tensor.mT if name in ("image.proj.weight", "text.proj.weight") else tensor
        state[new] = (tensor.reshape(-1) if name == "image.cls_token" else tensor).contiguous()
    return state


@pytest.fixture
def openai_file(tmp_path: Path) -> Path:
    save_file(openai_names(net()), tmp_path / "clip.safetensors")
    return tmp_path / "clip.safetensors"


def test_a_blueprint_names_every_size(openai_file: Path) -> None:
    found = blueprint(TARGET, str(openai_file))
    assert found
    image, text = found.model["image"], found.model["text"]
    assert {key: image[key] for key in ("width", "depth", "heads", "mlp_width", "patch_size", "activation")} == {
        "width": 64,
        "depth": 2,
        "heads": 1,
        "mlp_width": 256,
        "patch_size": 8,
        "activation": "quick_gelu",
    }
    assert (text["width"], text["depth"], text["context"], text["vocab_size"]) == (64, 1, 8, 20)
    assert (found.model["embed_width"], found.data["image_size"]) == (12, 16)
    assert found.data["mean"] == pytest.approx([0.48145466, 0.4578275, 0.40821073])
    assert (found.tokenizer, found.path) == (None, openai_file)
    assert found.digest == hashlib.sha256(openai_file.read_bytes()).hexdigest()


def test_a_tokenizer_beside_the_weights_is_found(openai_file: Path) -> None:
    (openai_file.parent / "tokenizer.json").write_text("{}")
    found = blueprint(TARGET, str(openai_file))
    assert found
    assert found.tokenizer == openai_file.parent


def test_only_families_whose_files_tell_have_blueprints(openai_file: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="holds weights of CLIP"):
        blueprint("tfcli.models.vit.ViT", str(openai_file))
    save_file(net().state_dict(), tmp_path / "ours.safetensors")
    assert blueprint(TARGET, str(tmp_path / "ours.safetensors")) is None  # our own names do not tell the heads


def test_a_clip_of_another_kind_is_refused(tmp_path: Path) -> None:
    for missing in ("visual.transformer.resblocks.0.mlp.c_fc.weight", "visual.positional_embedding", "text_projection"):
        state = openai_names(net())
        del state[missing]
        save_file(state, tmp_path / "x.safetensors")
        with pytest.raises(WeightsError, match="of a kind that is not read here: no '"):
            blueprint(TARGET, str(tmp_path / "x.safetensors"))


def test_towers_keep_their_positions_or_are_replaced_whole() -> None:
    model = {
        "image": {"_target_": "A", "width": 1, "attn": "mine", "depth": 2},
        "text": {"_target_": "T", "pos": "rope"},
    }
    found = Blueprint(
        {"image": {"_target_": "B", "width": 5}, "text": {"_target_": "T", "pos": "learned", "width": 7}},
        data={},
        tokenizer=None,
        path=Path("x"),
    )
    merged = found.apply(model, ["model.text.width", "model.image.width", "data.image_size"])
    assert merged["image"] == {"_target_": "B", "width": 1}
    assert merged["text"] == {"_target_": "T", "pos": "rope", "width": 7}
    assert found.model["image"]["width"] == 5
    assert model["image"]["attn"] == "mine"


def test_our_own_weights_come_back(tmp_path: Path) -> None:
    for image in ("vit", "resnet"):
        source, target = net(image=image), net(image=image)
        torch.nn.init.normal_(target.logit_scale)
        save_file(source.state_dict(), tmp_path / f"{image}.safetensors")
        report = load_weights(target, str(tmp_path / f"{image}.safetensors"))
        assert report.notes == []
        assert all(torch.equal(tensor, target.state_dict()[name]) for name, tensor in source.state_dict().items())


def test_a_shorter_context_takes_the_first_positions(openai_file: Path) -> None:
    target = net(context=5)
    report = load_weights(target, str(openai_file))
    assert "text positions 8 -> 5: the first of them" in report.notes
    with pytest.raises(WeightsError, match=r"text\.stack\.positions"):
        load_weights(net(context=9), str(openai_file))


def test_other_positions_leave_the_learned_table_out(openai_file: Path) -> None:
    report = load_weights(net(pos=Sinusoidal), str(openai_file))
    assert "learned positions of the image tower: left out, since this model has others (`pos=`)" in report.notes


def test_a_wrong_size_is_named(openai_file: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"The file is a CLIP with a ViT of width 64, patch 8"):
        load_weights(net(width=32), str(openai_file))
    state = openai_names(net(768, patch_size=16, image_size=32, depth=1))
    save_file(state, tmp_path / "b16.safetensors")
    with pytest.raises(WeightsError, match="try `model=clip_vit_b16`"):
        load_weights(net(), str(tmp_path / "b16.safetensors"))
    with pytest.raises(WeightsError, match="a CLIP with a ViT"):
        load_weights(net(image="resnet"), str(openai_file))


def test_an_activation_that_is_not_known_is_refused(tmp_path: Path) -> None:
    names = {"vision_model.embeddings.patch_embedding.weight": torch.zeros(4, 3, 2, 2)}
    save_file(names, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"vision_config": {"hidden_act": "mish"}}))
    with pytest.raises(WeightsError, match="the activation 'mish'"):
        load_weights(net(), str(tmp_path))


def test_byte_pairs_are_found_where_data_lie(real_data: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TFCLI_DATA", str(real_data))
    file = clip_tokenizer.merges_file()
    assert file == real_data / "tokenizers" / "clip" / "bpe_simple_vocab_16e6.txt.gz"
    assert load(file).vocab_size == 49_408
    (tmp_path / file.name).write_bytes(file.read_bytes())
    assert clip_tokenizer.merges_file(tmp_path) == tmp_path / file.name


def test_byte_pairs_that_are_not_openais_or_not_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TFCLI_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(clip_tokenizer, "find_spec", lambda name: None)
    with pytest.raises(WeightsError, match=r"could not be fetched \(TFCLI_OFFLINE=1 .*1\.3 MiB, MIT"):
        clip_tokenizer.merges_file()
    (tmp_path / clip_tokenizer.MERGES).write_bytes(gzip.compress(b"#version\na b\n"))
    with pytest.raises(WeightsError, match="differs from OpenAI's file of that name"):
        clip_tokenizer.merges_file(tmp_path)


def test_public_names_and_models_agree() -> None:
    rows = {row.name: row for row in hub.public() if row.model.startswith("clip")}
    assert rows.keys() >= {
        "ViT-B/32",
        "RN50x64",
        "openai/clip-vit-base-patch32",
        "laion/CLIP-ViT-B-32-laion2B-s34B-b79K",
    }
    archives = [row for row in rows.values() if row.url]
    assert len(archives) == 9
    assert all(len(row.sha256) == 64 and row.sha256 in row.url and not row.imagenet for row in archives)
    for name in ("clip", *(f"clip_{size}" for size in (*clip.SIZES.values(), "vit_l14_336", *clip.RESNETS.values()))):
        public = compose("train", [f"model={name}"]).config.model.public
        assert rows[public.weights].model == public.model


def test_an_archive_in_openais_own_cache_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    assert hub.here("ViT-B/32") is None
    with pytest.raises(WeightsError, match=r"ViT-B-32\.pt of openaipublic"):
        hub.find("ViT-B/32")
    file = tmp_path / ".cache" / "clip" / "ViT-B-32.pt"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"x")
    assert hub.here("ViT-B/32") == file
    assert hub.find("ViT-B/32") == hub.Place(file)
