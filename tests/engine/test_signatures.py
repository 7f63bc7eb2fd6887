"""Signatures are read from the source: choices, bounds, groups of settings, and what is handed on."""

from __future__ import annotations

import inspect
from importlib import import_module

import pytest

from tfcli.engine.config.arguments import settings
from tfcli.engine.config.build import build
from tfcli.engine.config.configs import Configs, roots
from tfcli.engine.config.signatures import signature
from tfcli.engine.config.validate import check_values
from tfcli.errors import ConfigError


@pytest.mark.parametrize(
    ("target", "argument", "said"),
    [
        ("tfcli.models.vit.ViT", "stem", "one of patch, overlap, conv, hybrid"),
        ("tfcli.models.vit.ViT", "activation", "one of gelu, gelu_tanh, quick_gelu, relu, silu, swiglu"),  # a Stack's
        ("tfcli.models.transformer.Transformer", "norm", "one of layer, rms"),  # through partial(Stack, ...)
        ("tfcli.models.resnet.CifarResNet", "depth", "a whole number of 8, 14, 20, 26 …"),
        ("tfcli.tasks.distill.Distill", "batch_norm", "one of auto, train, frozen"),  # its base's
        ("tfcli.tasks.optim.adamw", "betas", "a list of 2 numbers between 0 and 1, but not 1 itself"),
        ("tfcli.data.module.DataModule", "workers", "auto or a whole number of at least 0"),
        ("tfcli.data.module.DataModule", "limit_train", "a whole number of at least 1 or null"),
        (
            "tfcli.data.module.DataModule",
            "max_expansion",
            "a number of at least 1",
        ),  # a fact, not an argument
        ("tfcli.data.module.DataModule", "on_empty", "one of raise, drop"),
        ("tfcli.engine.config.settings.Trainer", "compile", "auto or true or false"),
    ],
)
def test_kinds_of_arguments(target, argument, said):
    read = signature(target)
    assert read is not None
    assert read.arguments[argument].kind.words().replace("auto, true", "auto or true") == said


def test_every_packaged_part_is_read_as_python_reads_it():
    """Names and defaults of what `_target_` names, against `inspect`; what is handed on comes besides."""
    configs = Configs(roots())
    targets = set()
    for group in ("model", "task", "optim", "schedule", "attn", "pos", "data"):
        for option in configs.options(group):
            node = configs.mounted(group, option).get(group, {})
            targets |= {s.raw for s in settings({group: node}) if s.key.endswith("_target_")}
    assert len(targets) > 60
    for target in targets:
        module, _, name = target.rpartition(".")
        read, real = signature(target), inspect.signature(getattr(import_module(module), name)).parameters
        assert read is not None, target
        for argument, parameter in real.items():
            if parameter.kind is not parameter.VAR_KEYWORD:
                default = read.arguments[argument].default
                assert default is None or default == (
                    ... if parameter.default is parameter.empty else parameter.default
                ), f"{target}.{argument}"


def test_what_is_handed_on_twice_lacks_only_what_was_given():
    """A DeiT gives the width by place and its tokens by name; what a stack takes reaches it through its base."""
    read, stack = signature("tfcli.models.deit.DeiT"), signature("tfcli.nn.stack.Stack")
    assert read is not None
    assert stack is not None
    assert read.arguments.keys() >= stack.arguments.keys() - {"extent", "special"}
    assert "special" not in read.arguments


def test_a_group_of_settings_has_fields():
    read = signature("tfcli.data.module.DataModule")
    assert read is not None
    fields = read.arguments["augment"].fields
    assert fields is not None
    assert fields.arguments["crop"].kind.choices == ("resized", "padded", "none")


def test_an_option_states_the_bounds_of_a_librarys_class():
    """Its own source is not read: it lies in a library, and importing it would import torch."""
    bounds = {"lr": "Positive", "mode": "Literal['min', 'max']"}
    node = {
        "_target_": "torch.optim.RAdam",
        "_partial_": True,
        "_bounds_": bounds,
        "lr": 0.1,
        "mode": "min",
        "eps": 1e-8,
    }
    check_values({"optim": node})
    for key, value, said in (
        ("lr", 0, "`optim.lr` must be a number greater than 0"),
        ("mode", "mean", "one of min, max"),
    ):
        with pytest.raises(ConfigError, match=said):
            check_values({"optim": {**node, key: value}})
    with pytest.raises(ConfigError, match="`Positiv` of `lr` is no bound"):
        check_values({"optim": {**node, "_bounds_": {"lr": "Positiv"}}})
    kept = build({k: v for k, v in node.items() if k != "mode"})
    assert kept.keywords == {"lr": 0.1, "eps": 1e-8}
