"""Names of public checkpoints -> files on this machine, fetched if need be.

Three kinds of name: `google/vit-base-patch16-224` (the Hugging Face hub), `IMAGENET1K_V1` or `resnet34.IMAGENET1K_V1`
(torchvision) and what `public.yaml` lists with an address of its own. Each is kept where its owner's library keeps it,
so what another program has fetched is found. With TFCLI_OFFLINE=1 nothing is fetched.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tfcli.errors import WeightsError, nearest
from tfcli.weights import torchvision_weights
from tfcli.weights.fetch import Unreachable, offline, within
from tfcli.weights.place import Place, file_of, kept
from tfcli.weights.preprocessing import IMAGENET_MEAN, IMAGENET_STD, PROCESSORS, Preprocessing

SUFFIXES = (".safetensors", ".pt", ".pth", ".th", ".bin", ".ckpt", ".tar", ".npz")
HUB_FILES = (
    *("config.json", *PROCESSORS, "model.safetensors.index.json", "pytorch_model.bin.index.json"),
    *(
        "open_clip_config.json",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "vocab.json",
        "merges.txt",
        "vocab.txt",
    ),
)
HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


@dataclass(frozen=True)
class Public:
    """A public checkpoint: a row of `public.yaml`.

    Attributes:
        name: what `model.weights=` takes.
        model: the model configuration it is for.
        bytes: size of the weights file.
        licence: as its owner states it.
        figure: published accuracy, with the data set.
        url: its address, for those not on the hub.
        sha256: of that file, where its name does not hold it.
        imagenet: its images are normalised with ImageNet's statistics; otherwise as its family does it.
    """

    name: str
    model: str
    bytes: int
    licence: str
    figure: str = ""
    url: str = ""
    sha256: str = ""
    imagenet: bool = True


def public() -> list[Public]:
    """Return the checkpoints we know by name; any other name of the hub or of torchvision works as well."""
    rows = yaml.safe_load(Path(__file__).with_name("public.yaml").read_text(encoding="utf-8"))
    return [Public(**row) for row in rows]


def find(weights: str, *, torchvision_name: str | None = None) -> Place:
    """Return the file or folder that `weights` means, fetched if it is a public name that is not here yet.

    Args:
        weights: a path, an address, or a public name.
        torchvision_name: what torchvision calls the model, for names such as `IMAGENET1K_V1`.

    Raises:
        WeightsError: there is no such name, or it is not here and cannot be fetched.
    """
    path = Path(weights).expanduser()
    if path.exists():
        return torchvision_weights.find_by_file(path) or Place(path)
    if weights.startswith(("https://", "http://")):
        return Place(file_of(weights, name=weights, about=""))
    parts = torchvision_weights.parts_of(weights)
    if parts:
        return torchvision_weights.find_by_name(parts[0] or torchvision_name, parts[1], asked=weights)
    known = next((row for row in public() if row.name == weights), None)
    if known and known.url:
        file = file_of(known.url, name=weights, about=f"licence {known.licence}", sha256=known.sha256)
        usual = Preprocessing({"mean": IMAGENET_MEAN, "std": IMAGENET_STD}, weights)
        return Place(file, usual if known.imagenet else None)
    if HUB_NAME.fullmatch(weights) and not _written_as_path(weights) and not path.parent.is_dir():
        return Place(_hub(weights))
    check_name(weights)
    return Place(path)  # opening it says what is there instead


def check_name(weights: str, runs: Sequence[str] = ()) -> None:
    """Refuse a bare word that is neither a public name nor a file here. Imports no torch.

    Args:
        weights: see `find`.
        runs: names that it may be a slip of, besides.

    Raises:
        WeightsError: with the nearest name.
    """
    if "/" in weights or _written_as_path(weights) or Path(weights).exists():
        return
    names = [row.name for row in public()]
    if weights in names or torchvision_weights.parts_of(weights):
        return
    own = [row.name for row in public() if row.model.partition("_")[0] == weights]
    if own:
        more = f" and {len(own) - 5} more (`tfcli weights status` lists them)" if len(own) > 5 else ""
        raise WeightsError(f"`{weights}` is a model, not its weights; public ones are {', '.join(own[:5])}{more}.")
    raise WeightsError(
        f"`{weights}` is neither a file here nor a public name nor a run."
        f"{nearest(weights, [*names, *runs, *(entry.name for entry in Path().iterdir())])} Names are owner/name on the "
        "Hugging Face hub, IMAGENET1K_V1 or DEFAULT of torchvision, or listed by `tfcli weights status`."
    )


def _written_as_path(weights: str) -> bool:
    return weights.startswith((".", "/", "~")) or weights.count("/") > 1 or Path(weights).suffix in SUFFIXES


def here(name: str) -> Path | None:
    """Find a public checkpoint on this machine without asking the network; None if it is not here."""
    known = next((row for row in public() if row.name == name), None)
    if known and known.url:
        return next((file for file in kept(known.url) if file.is_file()), None)
    return _cached(name) if HUB_NAME.fullmatch(name) else None


def _cached(name: str) -> Path | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        found = Path(snapshot_download(name, local_files_only=True))
    except LocalEntryNotFoundError:
        return None
    except HFValidationError as error:
        raise WeightsError(f"`{name}` is neither a file here nor a name that the hub could have: {error}") from error
    return found if any(entry.suffix in (".safetensors", ".bin") for entry in found.iterdir()) else None


def _hub(name: str) -> Path:
    from huggingface_hub import HfApi, constants, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HTTPError, RepositoryNotFoundError

    cached = _cached(name)
    if cached:
        return cached
    owner = name.partition("/")[0]
    page = f"{constants.ENDPOINT}/{name}"
    looked = Path(constants.HF_HUB_CACHE) / f"models--{name.replace('/', '--')}"
    try:
        if offline():
            raise Unreachable("TFCLI_OFFLINE=1 forbids the network")
        refusals = (RepositoryNotFoundError, HfHubHTTPError, HTTPError)
        info = within(lambda: HfApi().model_info(name, files_metadata=True, timeout=3), errors=refusals)
    except Unreachable as error:
        if isinstance(error.__cause__, RepositoryNotFoundError):
            raise WeightsError(
                f"the Hugging Face hub has no `{name}`, or it is private.{nearest(name, _names())}"
            ) from error
        raise WeightsError(
            f"`{name}` is not on this machine and could not be fetched ({error}). It belongs to {owner} on the "
            f"Hugging Face hub; looked in `{looked}`. By hand: on another machine, fetch {_by_hand(name)} "
            f"from {page}/tree/main into one folder, copy it here, and say `model.weights=FOLDER`."
        ) from error
    sizes = {file.rfilename: file.size or 0 for file in info.siblings or []}
    wanted = [*HUB_FILES, *_weights_files(sizes, name)]
    licence = (info.card_data or {}).get("license") or "not stated"
    total = sum(sizes.get(file, 0) for file in wanted)
    print(
        f"fetching {name} ({total / 2**20:.1f} MiB, licence {licence}) from the Hugging Face hub to {looked}",
        file=sys.stderr,
    )
    try:
        return Path(snapshot_download(name, allow_patterns=wanted))
    except (HTTPError, OSError) as error:
        raise WeightsError(
            f"`{name}` could not be fetched from {page}: {(str(error).splitlines() or ['no reason given'])[0]}"
        ) from error


def _weights_files(sizes: dict[str, Any], name: str) -> list[str]:
    theirs = [(".safetensors", "open_clip_model"), (".bin", "open_clip_pytorch_model")]
    stems = [
        *(theirs if "open_clip_config.json" in sizes else []),
        (".safetensors", "model"),
        (".bin", "pytorch_model"),
    ]
    for suffix, stem in stems:
        files = [file for file in sizes if re.fullmatch(rf"{stem}(-\d+-of-\d+)?\{suffix}", file)]
        if files:
            return files
    raise WeightsError(
        f"`{name}` has neither model.safetensors nor pytorch_model.bin on the hub: it is not a checkpoint of PyTorch."
    )


def _by_hand(name: str) -> str:
    """Return the files of a hub folder that someone has to copy."""
    known = next((row for row in public() if row.name == name), None)
    kind = known.model if known else ""
    files = ["config.json", "model.safetensors (or pytorch_model.bin)"]
    if kind.startswith("gpt"):
        files = ["vocab.json", "merges.txt", *files]
    elif kind.startswith("bert"):
        files = ["vocab.txt", "tokenizer_config.json", *files]
    elif kind.startswith("clip") and not name.startswith("openai/"):
        files = ["tokenizer.json", "open_clip_config.json"]
        files.append("open_clip_model.safetensors (or open_clip_pytorch_model.bin)")
    else:
        files = [*(["tokenizer.json"] if kind.startswith("clip") else []), "preprocessor_config.json", *files]
    return ", ".join(files[:-1]) + f" and {files[-1]}"


def _names() -> list[str]:
    return [row.name for row in public()]
