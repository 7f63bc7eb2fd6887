"""A hundred mistakes: each is answered in one line with exit code 2, nothing is written, torch stays away.

    python benchmarks/mistakes.py

prints the processor time of each beside that of a valid `tfcli train --cfg job`, all in processes of their own.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import yaml

MISTAKES = """
trian model=vit data=digits | Did you mean `train`
train --sed 3 | --sed
train --jobs none | --jobs
resume | run
resume nowhere | no run
runs sohw latest | Did you mean `show`
runs show nosuch | no run
ls modles | Did you mean `model`
keys trainr | Did you mean `trainer`
keys model/brt | Did you mean `bert`
describe modle=vit | Did you mean `model`
train modle=vit | Did you mean `model`
train model=vti | Did you mean `vit`
train vti digits | Did you mean `model=vit`
train data=pet | Did you mean `pets`
train pos=leanred | Did you mean `learned`
train attn=windw | Did you mean `windows`
train optim=adam | Did you mean `adamw`
train schedule=cosin | Did you mean `cosine`
train experiment=petz | no experiment `petz`
train task=clasify | Did you mean `classify`
train model=null | must be named
train model.witdh=64 | Did you mean `model.width`
train trainer.max_epoch=3 | Did you mean `trainer.max_epochs`
train optim.learning_rate=0.1 | optim.
train sed=3 | Did you mean `seed`
train +foo=3 | nothing would read
train +model.foo=3 | ViT takes no `foo`
train data.augment=3 | group of settings
train seed=0,1,2 | -m
train trainer.max_epochs=ten | whole number
train trainer.max_epochs=0 | at least 1
train trainer.val_every_epochs=0 | at least 1
train trainer.strategy=dpp | Did you mean `ddp`
train trainer.precision=fp16 | one of auto
train trainer.devices=0 | auto or a whole number
train trainer.accelerator=gpus | Did you mean `gpu`
train optim.lr=abc | a number
train optim.lr=0 | greater than 0
train optim.lr=1e-3x | a number
train optim.betas=0.9 | a list of 2 numbers
train optim.weight_decay=-1 | at least 0
train data.batch_size=0 | at least 1
train data.batch_size=64.5 | whole number
train data.workers=-1 | at least 0
train data.val_fraction=1.5 | between 0 and 1
train data.mean=[0.3,0.3] | a list of 3 numbers
train data.download=maybe | true or false
train data.on_error=ignore | raise, skip
train data.cache=ram | memory
train data.image_size=0 | at least 1
train data.root=nowhere | `data.root=nowhere`
train model.weights=gone.pt | `model.weights=gone.pt`
train model.stem=foo | `model.stem`
train model.pool=max | class, mean
train model.heads=7 | must divide `model.width`
train model.patch_size=3 | must divide `data.image_size`
train model.dropout=2 | between 0 and 1
train model=gpt model.context=0 | `model.context`
train model=gpt task=translate | does not offer task `translate`
train model=bert task=translate data=multi30k | does not offer task `translate`
train model=rnn task=text_classify data=sst2 | does not offer task
train model=vit data=sst2 | offers no task
describe model=gpt task=translate | does not offer task
train model=resnet34 pos=none | has no positions
train model=torchvision model.name=resnet35 | Did you mean
train model._target_=os.system | outside
train model.depth=${nowhere.to} | nowhere
train run.root=file/x | `run.root=file/x`
probe clipp digits | neither a model nor a run
probe pixels digits knn.vote=most | majority, weighted
train data.max_expansion=-1 | at least 1
train data.archives=images.zip | a list of texts
train model.weights=nosuch | `nosuch` is neither a file here nor a public name nor a run
train run.dir=/proc/foo | cannot write to `/proc/foo`
predict trained nosuch.jpg | no file `nosuch.jpg`
predict trained file nosuch.jpg | no file `nosuch.jpg`
predict trained data.image_sze=3 file | Did you mean `data.image_size`
predict trained --text hello | takes no text
predict probed file | no checkpoint
predict vit_b16 model.weights=gone.pt file | `model.weights=gone.pt`
predict nosuch file | neither a model nor a run
evaluate model=vit data=digits | needs `model.weights=NAME or PATH`
evaluate trained data=digts | Did you mean `digits`
evaluate trained data=pets | used with the data that it was trained with
evaluate trained trainer.max_epoch=1 | Did you mean `trainer.max_epochs`
evaluate trained --checkpoint middle | one of `best`, `last`
evaluate trained run.dir=/proc/foo | cannot write to `/proc/foo`
evaluate probed | no checkpoint
resume trained optim.lr=3 | a resumed run keeps its config
resume probed | was not trained
rerun trained foo=1 | `foo` is not a setting
rerun probed foo=1 | `foo` is not a setting
viz attention nosuch | neither a model nor a run
viz attention trained nosuch.jpg | no file `nosuch.jpg`
viz attention trained --text hello | takes no text
viz attention trained file --layer 0 | --layer
viz curves probed | has no `metrics.csv`, which `tfcli viz curves` needs
viz lengths nosuch | no run `nosuch`
probe nosuch digits | neither a model nor a run
probe vit digits | has no weights to probe
probe probed digits | no checkpoint
probe pixels sst2 | has no images
zeroshot pixels digits | needs a text tower
zeroshot trained digits | needs a text tower
linear pixels digits linear.C=-1 | greater than 0
sample trained | takes no text
sample trained --temperature -1 | --temperature
sample trained --temperature nan | a finite number
sample nosuch | neither a model nor a run
features extract nosuch digits | neither a model nor a run
features extract trained nosuch | no data set `nosuch`
fewshot trained toy_sentiment | takes no text
words trained cat dog --word cat | takes no text
train --cfg jobs | one of `job`, `hydra`, `all`
train --config-dir nowhere | not a folder
"""
"""A command and a part of its answer, a line each."""


class Answer(NamedTuple):
    """What a command came to: its exit code, what it wrote to stderr, and its seconds of processor time."""

    code: int
    text: str
    seconds: float


def mistakes() -> list[tuple[list[str], str]]:
    """The words of each command, and what its answer must say."""
    pairs = [line.partition(" | ") for line in MISTAKES.strip().splitlines()]
    return [(command.split(), said) for command, _, said in pairs]


def furnish(folder: Path) -> None:
    """Put into `folder` what the commands name: a file, a run `trained` of vit on digits, a run `probed` of pixels."""
    from omegaconf import OmegaConf

    from tfcli.engine.config.compose import compose

    (folder / "file").write_text("")
    for name, verb, model in (("trained", "train", "vit"), ("probed", "probe", "pixels")):
        job = compose(verb, words := [f"model={model}", "data=digits"])
        run = folder / "outputs" / verb / f"{model}-digits" / name
        run.mkdir(parents=True)
        saved: Any = {**OmegaConf.to_container(job.config, resolve=True), "choices": job.choices}  # type: ignore[dict-item]
        if verb == "train":
            saved["numerics"] = {"precision": "32-true", "compile": False, "kernel": "auto"}
            (run / "checkpoints").mkdir()
            (run / "checkpoints" / "best.ckpt").touch()
        (run / "config.yaml").write_text(yaml.safe_dump(saved))
        (run / "overrides.yaml").write_text(yaml.safe_dump(words))
        record = {"schema": 1, "verb": verb, "status": "finished", "model": model, "data": "digits"}
        (run / "results.json").write_text(json.dumps(record))


def answer(words: list[str], folder: Path, *, fork: bool = False) -> Answer:
    """Run a command in `folder`, in a process of its own; with `fork` in a copy of this one, which imports less."""
    told = folder.parent / "stderr"
    pid = os.fork()
    if not pid:
        os.chdir(folder)
        for stream, path in ((1, os.devnull), (2, told)):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
        if not fork:
            os.execv(sys.executable, [sys.executable, "-m", "tfcli", *words])
        _forked(words)
    _, status, used = os.wait4(pid, 0)
    text = told.read_text(encoding="utf-8")
    told.unlink()
    return Answer(os.waitstatus_to_exitcode(status), text, used.ru_utime + used.ru_stime)


def _forked(words: list[str]) -> None:
    """Run the program in this copy of the process and leave, with 99 where it imported torch."""
    from tfcli.cli.app import main

    sys.argv = ["tfcli", *words]
    sys.stdout, sys.stderr = (open(stream, "w", encoding="utf-8", closefd=False) for stream in (1, 2))  # noqa: SIM115
    try:
        main()
    except SystemExit as end:
        sys.stderr.flush()
        os._exit(99 if "torch" in sys.modules else end.code if isinstance(end.code, int) else 1)


def left(folder: Path) -> list[str]:
    """What lies below a folder."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "work"
        folder.mkdir()
        furnish(folder)
        before = left(folder)
        valid = min(answer(["train", "--cfg", "job"], folder).seconds for _ in range(3))
        print(f"{valid:6.2f} s  train --cfg job\n")
        good, worst = 0, 0.0
        for words, said in mistakes():
            code, text, seconds = answer(words, folder)
            fine = code == 2 and text.count("\n") == 1 and said in text and left(folder) == before
            good += fine and seconds <= valid + 0.3
            worst = max(worst, seconds)
            print(f"{seconds:6.2f} s  {'ok' if fine else f'exit {code}'}  {' '.join(words)}\n          {text.strip()}")
        print(
            f"\n{good} of {len(mistakes())} in one line with exit code 2, at most {worst:.2f} s (valid: {valid:.2f} s)"
        )


if __name__ == "__main__":
    main()
