"""A shared run folder runs no code: twenty ways in, over every verb that reads one."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from tfcli.cli import app as cli
from tfcli.engine.config import targets
from tfcli.engine.config.build import build
from tfcli.engine.runs.saved_config import trusted_config
from tfcli.errors import ConfigError

WAYS: dict[str, dict[str, Any]] = {
    "a library reached through our module": {"_target_": "tfcli.engine.train.checkpoints.torch.load", "f": "MADE"},
    "the system reached through our module": {"_target_": "tfcli.files.os.mkdir", "_args_": ["MADE"]},
    "through a module of our parts": {"_target_": "tfcli.data.common.paths.os.mkdir", "_args_": ["MADE"]},
    "torchvision's os": {"_target_": "torchvision.datasets.utils.os.mkdir", "_args_": ["MADE"]},
    "torch's os": {"_target_": "torch.nn.modules.module.os.mkdir", "_args_": ["MADE"]},
    "a name that a trusted module imported": {"_target_": "torchvision.models.resnet.partial", "_args_": ["MADE"]},
    "a function that a trusted module imported": {"_target_": "torch.nn.modules.module.namedtuple", "_args_": ["MADE"]},
    "the system": {"_target_": "os.mkdir", "_args_": ["MADE"]},
    "a class of the library": {"_target_": "subprocess.Popen", "args": ["mkdir", "MADE"]},
    "a built-in": {"_target_": "builtins.exec", "_args_": ["import os; os.mkdir('MADE')"]},
    "an import": {"_target_": "builtins.__import__", "_args_": ["antigravity"]},
    "partial": {"_target_": "functools.partial", "_args_": [{"_target_": "os.mkdir", "path": "MADE"}]},
    "deferred": {"_target_": "os.mkdir", "_partial_": True, "path": "MADE"},
    "not recursive": {"_target_": "tfcli.models.vit.ViT", "_recursive_": False, "x": {"_target_": "os.mkdir"}},
    "nested": {"_target_": "torch.nn.Sequential", "_args_": [{"_target_": "os.mkdir", "path": "MADE"}]},
    "in a list of lists": {"_target_": "torch.nn.Sequential", "a": [[{"_target_": "os.mkdir", "path": "MADE"}]]},
    "Hydra's helpers": {"_target_": "hydra.utils.get_method", "path": "os.mkdir"},
    "Hydra's call": {"_target_": "hydra.utils.call", "config": {"_target_": "os.mkdir", "path": "MADE"}},
    "our own builder": {
        "_target_": "tfcli.engine.config.build.build",
        "node": {"_target_": "os.mkdir", "path": "MADE"},
    },
    "our own side effects": {"_target_": "tfcli.files.write_atomic", "path": "MADE", "content": "x"},
    "a helper beside our parts": {"_target_": "tfcli.data.images.preview.save", "sheet": "x", "path": "MADE"},
    "a class method": {"_target_": "torch.nn.Embedding.from_pretrained", "embeddings": "MADE"},
    "a loader of pickles": {"_target_": "pytorch_lightning.LightningModule.load_from_checkpoint", "_args_": ["MADE"]},
    "a method": {"_target_": "tfcli.models.vit.ViT.forward", "_args_": ["MADE"]},
    "an attribute of a class": {"_target_": "tfcli.models.vit.ViT.__subclasses__"},
    "a download": {"_target_": "torch.hub.load", "_args_": ["MADE"]},
    "a lambda's source": {"_target_": "builtins.eval", "_args_": ["(lambda: __import__('os').mkdir('MADE'))()"]},
    "a name that is no name": {"_target_": "tfcli.models..vit.ViT"},
    "no text": {"_target_": ["os.mkdir"]},
    "a module that lies in the run": {"_target_": "evil.run"},
}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, tiny_run: Path) -> Path:
    """A run folder from elsewhere, with a module in it."""
    folder = tmp_path_factory.mktemp("elsewhere") / "run"
    shutil.copytree(tiny_run, folder)
    (folder / "evil.py").write_text("import os\nos.mkdir('made')\ndef run(): os.mkdir('made')\n")
    return folder


def poison(folder: Path, node: dict[str, Any], place: str = "model") -> None:
    values = yaml.safe_load((folder / "config.yaml").read_text())
    inner = values
    *path, last = place.split(".")
    for name in path:
        inner = inner[name]
    inner[last] = {**node, "weights": None} if last == "model" else node
    values["model"]["tokenizer"] = {"kind": "chars"}  # the verbs that take texts look no further without one
    (folder / "config.yaml").write_text(yaml.safe_dump(values))


@pytest.mark.parametrize("way", WAYS)
def test_no_way_in(way, shared, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    node = yaml.safe_load(yaml.safe_dump(WAYS[way]).replace("MADE", str(tmp_path / "made")))
    poison(shared, node)
    # Two names are found out only when the object is looked at; the rest by the text alone.
    hidden = way in ("a name that a trusted module imported", "a function that a trusted module imported")
    if not hidden:
        with pytest.raises(ConfigError, match="names `"):
            trusted_config(shared)
    with pytest.raises(ConfigError, match="names `"):
        build(node)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "words",
    [
        ["resume", "RUN", "trainer.max_epochs=3"],
        ["evaluate", "RUN"],
        ["predict", "RUN", "a.png"],
        ["predict", "RUN", "--text", "a"],
        ["sample", "RUN"],
        ["probe", "RUN", "digits"],
        ["linear", "RUN", "digits"],
        ["knn", "RUN", "digits"],
        ["features", "extract", "RUN", "digits"],
        ["words", "RUN", "a bank", "the bank", "--word", "bank"],
        ["viz", "attention", "RUN", "a.png"],
        ["train", "model=vit", "data=digits", "task=distill", "task.teacher=RUN", "trainer.max_epochs=1"],
    ],
    ids=lambda words: " ".join(words[:2]),
)
@pytest.mark.parametrize("place", ["model", "model.attn.pattern"])
def test_no_verb_lets_it_in(words, place, shared, tiny_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    (tmp_path / "a.png").write_bytes((Path(__file__).parents[2] / "LICENSE").read_bytes()[:10])
    shutil.copy(tiny_run / "config.yaml", shared / "config.yaml")
    poison(shared, {"_target_": "tfcli.data.common.paths.os.mkdir", "_args_": [str(tmp_path / "made")]}, place)
    given = [word.replace("RUN", str(shared)) for word in words]
    with pytest.raises(ConfigError, match=r"tfcli\.data\.common\.paths\.os\.mkdir"):
        cli.app(given, standalone_mode=False)
    assert not (tmp_path / "made").exists()


def test_a_rerun_reads_no_code_from_the_overrides(shared, tiny_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(tiny_run / "config.yaml", shared / "config.yaml")
    (tmp_path / "mine.py").write_text("import os\nos.mkdir('made')\ndef net(**given): pass\n")
    (shared / "overrides.yaml").write_text("- model=vit\n- data=digits\n- model._target_=mine.net\n")
    with pytest.raises(ConfigError, match=r"would run `mine\.net` of the current folder"):
        cli.app(["rerun", str(shared)], standalone_mode=False)
    assert not (tmp_path / "made").exists()


def test_a_run_that_one_stands_in_brings_no_module(shared, tiny_run, monkeypatch):
    shutil.copy(tiny_run / "config.yaml", shared / "config.yaml")
    poison(shared, {"_target_": "evil.run"})
    monkeypatch.chdir(shared)
    with pytest.raises(ConfigError, match=r"would run `evil\.run` of the current folder"):
        cli.app(["evaluate", "."], standalone_mode=False)
    assert not (shared / "made").exists()


def test_ones_own_model_is_run_and_the_printed_remedy_works(shared, tiny_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_net.py").write_text("import os\nfrom tfcli.models.vit import ViT\n\nclass Net(ViT):\n    pass\n")
    shutil.copy(tiny_run / "config.yaml", shared / "config.yaml")
    node = {**trusted_config(shared)["model"], "_target_": "own_net.Net"}
    poison(shared, node)
    with pytest.raises(ConfigError) as error:
        trusted_config(shared)
    assert "conf/model/mine.yaml" in str(error.value)
    line = str(error.value).split("with the line `")[1].split("`")[0]
    (tmp_path / "conf" / "model").mkdir(parents=True)
    (tmp_path / "conf" / "model" / "mine.yaml").write_text(f"# Mine.\n{line}\n")
    assert type(build(trusted_config(shared)["model"])).__name__ == "Net"
    with pytest.raises(ConfigError, match=r"names `own_net\.os\.mkdir`"):  # not even through a module of one's own
        build({"_target_": "own_net.os.mkdir", "path": "made"})
    assert not (tmp_path / "made").exists()


def test_all_that_our_configs_name_is_allowed():
    for name in targets.named_in([Path(__file__).parents[2] / "conf"]):
        targets.check_objects({"_target_": name})
    for name in (
        "torchvision.models.resnet18",
        "torch.nn.GELU",
        "torch.optim.AdamW",
        "torchvision.transforms.v2.Resize",
    ):
        targets.check_objects({"_target_": name})
