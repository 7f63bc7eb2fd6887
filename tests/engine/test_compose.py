"""Every mistake in a command is answered with what is wrong and the nearest right word, before torch is imported."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import yaml
from contract.families import columns_of_sets
from omegaconf import OmegaConf
from PIL import Image

from tfcli.engine.config import compose as c
from tfcli.engine.config import configs
from tfcli.engine.config.configs import Configs, roots
from tfcli.engine.config.shorthand import expand_names
from tfcli.engine.runs.saved_config import trusted_overrides
from tfcli.errors import ConfigError
from tfcli.sweeps.expand import expand

BAD = [  # besides those of benchmarks/mistakes.py, which tests/faults/test_mistakes.py tries
    ("model.patch=100", ["Did you mean `model.patch_size`"]),
    ("model.witdh=3", ["Did you mean `model.width`"]),
    ("trainer.max_epochs=foo", ["`trainer.max_epochs`", "whole number", "`foo`"]),
    ("trainer.max_epochs=2.5", ["whole number"]),
    ("trainer.max_epochs=null", ["null"]),
    ("pos.at=middle", ["stem, every, shared"]),
    ("attn.kernel=flash", ["auto, exact, explicit"]),
    ("trainer.precision=bf17", ["Did you mean `bf16`"]),
    ("vti", ["Did you mean `model=vit`", "key=value"]),
    ("digit", ["Did you mean `data=digits`"]),
    ("adamw", ["Did you mean `optim=adamw`"]),
    ("trainer", ["Did you mean `trainer=…`"]),
    ("xyzzy", ["`xyzzy` is not a setting", "key=value"]),
    ("seed=1,2", ["-m"]),
    ("+trainer.foo=3", ["nothing would read"]),
    ("task._target_=subprocess.run", ["subprocess.run"]),
    ("data.name=???", ["data.name"]),
    ("data.workers=two", ["`data.workers`", "two"]),
    ("optim.betas=[0.9,1.5]", ["`optim.betas`", "between 0 and 1, but not 1 itself"]),
    ("optim=sgd optim.momentum=1", ["`optim.momentum`", "but not 1 itself"]),
    ("data.std=[0.3,0.3,0]", ["`data.std`", "greater than 0"]),
    ("trainer.threads=0", ["`trainer.threads`", "at least 1"]),
    ("model=gpt model.tokenizer.kind=charz", ["`model.tokenizer.kind`", "Did you mean `chars`"]),
    ("model=gpt model.activation=glu", ["`model.activation`", "Did you mean `gelu`"]),
    ("model=resnet34 model.depth=35", ["`model.depth`", "18, 34, 50"]),
    ("model=clip model.image.stem=overlapping", ["`model.image.stem`", "patch, overlap, conv"]),
    ("data.epochs=0", ["`data.epochs`", "at least 1"]),
    ("data.augment.scale=[0.5]", ["`data.augment.scale`", "a list of 2 numbers"]),
    ("schedule.warmup_steps=-5", ["`schedule.warmup_steps`", "at least 0"]),
    ("optim.lr=inf", ["`optim.lr`", "greater than 0", "inf"]),
    ("optim.lr=nan", ["`optim.lr`", "greater than 0", "nan"]),
    ("trainer.max_steps=0", ["`trainer.max_steps`", "at least 1", "0"]),
    ("data.max_expansion=-1", ["`data.max_expansion`", "at least 1"]),
    ("data.max_expansion=nan", ["`data.max_expansion`", "at least 1"]),
    ("data.archives=images.zip", ["`data.archives`", "a list of texts"]),
    ("data=cola model=bert data.on_empty=skip", ["`data.on_empty`", "raise, drop"]),
    ("data=table model=bert data.quotes=maybe", ["`data.quotes`", "true or false"]),
    ("data=table model=bert data.header=3", ["`data.header`", "a list of texts"]),
    ("data=reversal model=transformer data.symbols=27", ["`data.symbols`", "between 1 and 26"]),
    ("data=shapes data.label=colr", ["`data.label`", "Did you mean `colour`"]),
    ("data=shapes data.caption_objects=5", ["`data.caption_objects`", "between 1 and 4"]),
    ("model.width=${model.width}", ["`model.width`"]),
    ("trainer.timeout_s=0", ["`trainer.timeout_s`", "greater than 0"]),
    ("~optim.lr", ["`~optim.lr`", "which is needed"]),
    ("+optim.lr=3", ["without the `+`"]),
    ("=3", ["no key before the `=`"]),
    ("seed=range(0,2", ["bracket"]),
    ("trainer.ema_decay=1", ["`trainer.ema_decay`", "but not 1 itself"]),
    ("trainer.clip=inf", ["`trainer.clip`", "inf"]),
    ("trainer.save_every_minutes=nan", ["`trainer.save_every_minutes`", "nan"]),
    ("schedule=step schedule.factor=0", ["`schedule.factor`", "greater than 0"]),
    ("schedule=step schedule.every_epochs=0", ["`schedule.every_epochs`", "at least 1"]),
    ("optim.layer_decay=0", ["`optim.layer_decay`", "greater than 0"]),
    ("model.dropout=1", ["`model.dropout`", "but not 1 itself"]),
    ("model.drop_path=1", ["`model.drop_path`", "but not 1 itself"]),
    ("task.label_smoothing=1", ["`task.label_smoothing`", "but not 1 itself"]),
    ("model.layer_scale=nan", ["`model.layer_scale`", "finite"]),
    ("model=clip model.logit_scale_start=inf", ["`model.logit_scale_start`", "finite"]),
    ("+model.pols=mean", ["`model.pols`", "ViT takes no `pols`", "Did you mean `pool`"]),
    ("model=deit task=distill task.kind=sotf", ["`task.kind`", "Did you mean `soft`"]),
    ("model=deit task=distill task.kl_reduction=sum", ["`task.kl_reduction`", "batch, elements"]),
    ("model=rnn model.attention=dot", ["`model.attention`", "none, additive"]),
    ("model=rnn model.cell=rnn", ["`model.cell`", "gru, lstm, gru_paper"]),
    ("pos=rope pos.layout=pairs", ["`pos.layout`", "half, interleaved"]),
    ("model.norm=batch", ["`model.norm`", "layer, rms"]),
    ("model=resnet20 model.depth=21", ["`model.depth`", "8, 14, 20, 26"]),
    ("logger.wandb.mode=of", ["`logger.wandb.mode`", "online"]),
    ("model=bert task=translate", ["`bert` does not offer task `translate`", "mlm"]),
    ("model=gpt task=span data=squad", ["no head `span`", "bert"]),
    ("model=pixels", ["`pixels` does not offer task `classify`", "tfcli probe"]),
]


@pytest.mark.parametrize(("line", "words"), BAD, ids=[line for line, _ in BAD])
def test_bad_commands_are_answered(line, words):
    with pytest.raises(ConfigError) as error:
        c.compose("train", line.split(" "))
    missing = [word for word in words if word not in str(error.value)]
    assert not missing, str(error.value)
    assert "\n" not in str(error.value)


FOR_TASK = {
    "classify": ["model=resnet18"],
    "distill": ["model=deit"],
    "contrastive": ["model=clip"],
    "lm": ["model=gpt"],
    "mlm": ["model=bert"],
    "translate": ["model=transformer"],
    "text_classify": ["model=bert", "data=sst2"],
    "text_regress": ["model=bert", "data=stsb"],
    "span": ["model=bert", "data=squad"],
    "tag": ["model=bert", "data=wnut17"],
    "choice": ["model=bert", "data=swag"],
    "answer": ["model=vilt", "data=easy_vqa"],
}
"""What a task composes with."""


def shown_to(model: str) -> list[str]:
    """Images large enough for every size; a family of texts or captions brings its own data."""

    def brings_its_own(name: str) -> bool:
        parts = yaml.safe_load((configs.PACKAGED / "model" / f"{name}.yaml").read_text(encoding="utf-8")).get(
            "defaults", []
        )
        return any("override /data" in p if isinstance(p, dict) else p != "_self_" and brings_its_own(p) for p in parts)

    return [] if brings_its_own(model) else ["data=imagenet"]


@pytest.mark.slow
def test_every_option_of_every_group_composes_and_describes_itself():
    """But for positions and attentions, each of which `tests/contract/test_models.py` composes and trains."""
    assert all(configs.options("pos").values())
    assert all(configs.options("attn").values())
    needs = {
        task: set(c.compose("train", [*words, f"task={task}"]).config.task.needs)
        for task, words in FOR_TASK.items()
        if task in configs.options("task")
    }
    assert needs.keys() == configs.options("task").keys()
    for group in ("model", "data", "optim", "schedule", "trainer", "logger", "task", "experiment"):
        for name, text in configs.options(group).items():
            assert text, f"conf/{group}/{name}.yaml has no description"
            if group == "model":
                c.compose("train" if name != "pixels" else "probe", [f"model={name}", *shown_to(name)])
            elif group == "data":
                kinds = columns_of_sets()[name]
                fitting = [task for task, columns in needs.items() if columns <= kinds]
                if fitting:
                    c.compose("train", [*FOR_TASK[fitting[0]], f"task={fitting[0]}", f"data={name}"])
                else:  # a set to be looked at: its task is still to come
                    c.compose("data", [f"data={name}"])
            elif group != "task":
                c.compose("train", [f"{group}={name}"])


def test_precedence_is_shell_experiment_family_defaults(tmp_path: Path):
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(
        "# @package _global_\n# mine\ndefaults:\n  - override /model: vit\n"
        "  - override /pos: sinusoidal\n  - _self_\nseed: 7\nmodel: {depth: 3}\n"
    )
    job = c.compose("train", ["experiment=mine"], str(tmp_path))
    assert (job.config.seed, job.config.model.depth, job.choices["pos"]) == (7, 3, "sinusoidal")
    job = c.compose("train", ["experiment=mine", "seed=1", "pos=none", "model.depth=4"], str(tmp_path))
    assert (job.config.seed, job.config.model.depth, job.choices["pos"]) == (1, 4, "none")


def test_torchvision_classifiers_by_name():
    job = c.compose("train", ["model=efficientnet_b3", "data=pets"])
    assert job.config.model.name == "efficientnet_b3"


def test_a_users_conf_folder_comes_first(tmp_path: Path, monkeypatch):
    (tmp_path / "conf" / "model").mkdir(parents=True)
    (tmp_path / "conf" / "model" / "mine.yaml").write_text(
        "# My own.\n_target_: my_net.Net\nnum_classes: ${data.num_classes}\n"
    )
    (tmp_path / "my_net.py").write_text("")
    monkeypatch.chdir(tmp_path)
    assert configs.options("model")["mine"] == "My own."
    assert c.compose("train", ["model=mine"]).config.model["_target_"] == "my_net.Net"


def test_the_signature_of_a_users_own_class_counts(tmp_path: Path, monkeypatch):
    (tmp_path / "conf" / "model").mkdir(parents=True)
    (tmp_path / "conf" / "model" / "mine.yaml").write_text(
        "# My own.\n_target_: my_net.Net\nnum_classes: ${data.num_classes}\npool: max\nwidth: 0\ndropout: 3\n"
    )
    (tmp_path / "my_net.py").write_text(
        "import torch\nfrom torch import nn\nfrom typing import Literal\nPool = Literal['max', 'sum']\n"
        "class Net(nn.Module):\n"
        "    def __init__(self, num_classes: int, *, pool: Pool = 'max', width: int = 0, dropout=0): ...\n"
    )
    monkeypatch.chdir(tmp_path)
    assert c.compose("train", ["model=mine"]).config.model.pool == "max"  # not one of ViT's; the names are the user's
    with pytest.raises(ConfigError, match=r"`model.pool` must be one of max, sum, but is `class`"):
        c.compose("train", ["model=mine", "model.pool=class"])
    with pytest.raises(ConfigError, match=r"Net takes no `depth`"):
        c.compose("train", ["model=mine", "+model.depth=3"])


@pytest.mark.parametrize(
    ("line", "task"),
    [
        ("model=bert data=sst2", "text_classify"),
        ("model=bert data=stsb", "text_regress"),
        ("model=bert data=squad", "span"),
        ("model=bert data=wnut17", "tag"),
        ("model=gpt data=swag", "choice"),
        ("model=bert data=table", "text_classify"),
        ("model=bert data=table data.columns={text:review}", "mlm"),
        ("model=bert data=table data.columns={text:review,score:stars}", "text_regress"),
        ("model=bert data=sst2 task=mlm", "mlm"),
        ("model=bert data=wikitext2", "mlm"),
        ("model=clip data=shapes", "contrastive"),
        ("model=deit data=digits task=distill", "distill"),
    ],
)
def test_the_columns_of_the_data_say_the_task_unless_the_command_does(line, task):
    job = c.compose("train", line.split(" "))
    assert job.choices["task"] == task
    family = c.compose("train", line.split(" ")[:1]).choices["task"] if "model=deit" not in line else "classify"
    chosen = task != family and "task=" not in line
    assert [task in note for note in job.notes] == ([True] if chosen else [])
    assert job.overrides == line.split(" ")  # as it was typed


def test_several_tasks_that_fit_are_asked_about(tmp_path: Path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "both.yaml").write_text(
        "# x\ndefaults: [sst2, _self_]\ncolumns: [text, label, score]\nname: both\n"
    )
    with pytest.raises(ConfigError, match=r"several tasks .* say task=text_classify or task=text_regress"):
        c.compose("train", ["model=bert", "data=both"], str(tmp_path))


def test_experiments_keep_the_task_that_they_name():
    for name in ("sst2_bert", "english_bert", "deit_distilled"):
        job = c.compose("train", [f"experiment={name}"])
        assert job.notes == []


def test_names_in_place_are_short_for_model_and_data():
    job = c.compose("train", ["vit", "digits", "seed=3"])
    assert (job.choices["model"], job.choices["data"]) == ("vit", "digits")
    assert job.overrides == ["model=vit", "data=digits", "seed=3"]
    assert expand_names(["mobilenet_v2", "pets,dtd", "shapes_vit", "~x", "+a=b"], Configs(roots())) == [
        "model=mobilenet_v2",
        "data=pets,dtd",
        "experiment=shapes_vit",
        "~x",
        "+a=b",
    ]


def test_broken_yaml_is_named_with_its_line(tmp_path: Path):
    (tmp_path / "optim").mkdir()
    (tmp_path / "optim" / "bad.yaml").write_text("# x\nlr: 1\n  wd: [\n")
    with pytest.raises(ConfigError, match=r"bad\.yaml, line 3"):
        c.compose("train", ["optim=bad"], str(tmp_path))


def test_a_task_is_refused_data_it_cannot_use(tmp_path: Path):
    (tmp_path / "task").mkdir()
    (tmp_path / "task" / "reading.yaml").write_text("# x\n_target_: tfcli.tasks.classify.Classify\nneeds: [tokens]\n")
    with pytest.raises(ConfigError, match="needs tokens, which data `digits`"):
        c.compose("train", ["task=reading"], str(tmp_path))


def test_cfg_shows_what_hydra_would():
    text = c.show("train", ["model=vit_s16", "data=pets"], kind="job", package="model", resolve=True, config_dir=None)
    assert yaml.safe_load(text)["num_classes"] == 37
    assert "overrides" in c.show("train", ["seed=3"], kind="hydra", package=None, resolve=False, config_dir=None)
    both = yaml.safe_load(c.show("train", ["seed=3"], kind="all", package=None, resolve=False, config_dir=None))
    assert {"hydra", "seed", "model"} <= set(both)


@pytest.mark.parametrize(
    "path", ["/home/学生/Fotos", "/d/été (1)", "/d/epoch=3.ckpt", "/d/a;b & c!", "~/photos", "/d/a b"]
)
def test_a_path_is_typed_as_it_is(path: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", "/home/élève")
    wanted = path.replace("~", "/home/élève")
    assert c.compose("data", ["data=folder", f"data.root={path}"]).config.data.root == wanted
    (job,) = expand([f"data.root={path}", "data=folder"]).jobs
    assert c.compose("data", job).config.data.root == wanted


def test_a_mapping_that_is_given_as_a_whole_replaces_the_old_one():
    def composed(*words: str) -> dict:
        return c.compose("data", ["data=table", *words]).config.data

    assert composed("data.columns={text: review}").columns == {"text": "review"}
    assert composed("data.columns.text=review").columns == {"text": "review", "label": "label"}
    assert c.compose("data", ["data=digits", "data.augment={crop: none}"]).config.data.augment.flip is not None


def test_values_of_a_saved_config_are_set_with_the_same_care():
    config = OmegaConf.create({"trainer": {"max_epochs": 3}, "model": {"width": 8}})
    assert c.set_value(config, "trainer.max_epochs=5") == ("trainer.max_epochs", 3, 5)
    with pytest.raises(ConfigError, match="max_epochs"):
        c.set_value(config, "trainer.max_epoch=5")


def test_nothing_heavy_is_imported(tmp_path: Path):
    """Neither before a config is refused, nor, by commands that use a model, what only training needs."""
    with tarfile.open(Path(__file__).parents[1] / "fixtures" / "old_runs" / "runs.tar.xz") as packed:
        members = [member for member in packed if member.name.removeprefix("./").startswith("classify/")]
        packed.extractall(tmp_path, members, filter="data")
    Image.new("L", (8, 8)).save(tmp_path / "image.png")
    code = (
        "import sys\nfrom tfcli.engine.config.compose import compose\n"
        "import tfcli.cli.app, tfcli.probes.store, tfcli.files\n"
        "compose('train', ['model=vit_b16', 'data=pets'])\n"
        "heavy = ('torch','torchvision','numpy','sklearn','matplotlib','pytorch_lightning','wandb','PIL')\n"
        "print([m for m in heavy if m in sys.modules])\n"
        "import tfcli.engine.use.language_model\n"
        "trains = ('pytorch_lightning','torchmetrics','torchvision','torch._dynamo','sklearn','matplotlib','wandb')\n"
        "print([m for m in trains if m in sys.modules])\n"
        "import tfcli.engine.probe.probe, tfcli.engine.probe.zeroshot, tfcli.data.sources.digits\n"
        "import tfcli.engine.use.texts, tfcli.engine.use.image_questions\n"
        "tfcli.data.sources.digits.digits()\n"
        "tfcli.cli.app.app(['predict', './classify', 'image.png', '--out', 'out.csv'], standalone_mode=False)\n"
        "print([m for m in trains if m in sys.modules])"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stdout.splitlines() if line.startswith("[")] == ["[]"] * 3
    assert len((tmp_path / "out.csv").read_text().splitlines()) == 4


def test_a_run_keeps_the_task_that_it_had(tmp_path: Path):
    """A run of before the data chose: the same words mean another task now."""
    (tmp_path / "overrides.yaml").write_text("- model=bert\n- data=sst2\n")
    (tmp_path / "config.yaml").write_text("choices: {model: bert, data: sst2, task: mlm}\n")
    assert trusted_overrides(tmp_path, name="train", config_dir=None) == ["task=mlm", "model=bert", "data=sst2"]
    (tmp_path / "config.yaml").write_text("choices: {model: bert, data: sst2, task: text_classify}\n")
    assert trusted_overrides(tmp_path, name="train", config_dir=None) == ["model=bert", "data=sst2"]


def test_a_key_that_is_given_twice_is_named():
    job = c.compose("train", ["seed=1", "seed=2"])
    assert (job.config.seed, job.notes) == (2, ["`seed` is given 2 times; the last counts: seed=2"])
