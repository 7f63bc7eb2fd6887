"""Published sets of files in the layouts that they come in."""

from __future__ import annotations

from tfcli.data.images.decode import decode
from tfcli.data.images.disparity import read_disparity, read_occluded
from tfcli.data.images.masks import MaskReader
from tfcli.data.sources.meshes import read_mesh
from tfcli.data.sources.pairedfiles import ListedFiles, MatchedFiles
from tfcli.data.sources.textrecords import TextRecords

CAMVID = MaskReader(
    {
        0: "sky",
        1: "building",
        2: "pole",
        3: "road",
        4: "pavement",
        5: "tree",
        6: "sign symbol",
        7: "fence",
        8: "car",
        9: "pedestrian",
        10: "bicyclist",
        11: None,
    }
)
TRIMAPS = MaskReader({2: "background", 1: "pet", 3: None})
"""Of Oxford-IIIT Pets: 3 is the border between the two, which is not judged."""


def camvid() -> ListedFiles:
    """CamVid (Brostow et al. 2009), with the 11 classes of SegNet (Badrinarayanan et al. 2017); 11 is not labelled."""
    lists = {split: f"CamVid/{split}.txt" for split in ("train", "val", "test")}
    return ListedFiles(lists, {"image": "CamVid/{0}", "mask": "CamVid/{1}"}, {"image": decode, "mask": CAMVID})


def pets_trimaps() -> ListedFiles:
    """Oxford-IIIT Pets (Parkhi et al. 2012) with a mask of the animal for each image."""
    lists = {"train": "annotations/trainval.txt", "test": "annotations/test.txt"}
    columns = {"image": "images/{0}.jpg", "mask": "annotations/trimaps/{0}.png"}
    inside = "oxford-iiit-pet/"
    return ListedFiles(
        {split: inside + name for split, name in lists.items()},
        {column: inside + name for column, name in columns.items()},
        {"image": decode, "mask": TRIMAPS},
    )


def kitti2012() -> MatchedFiles:
    """KITTI 2012 (Geiger et al. 2012): pairs with measured disparities of what both images show."""
    inside = "Kitti2012/training"
    columns = {"right": f"{inside}/colored_1/{{id}}_10.png", "disparity": f"{inside}/disp_noc/{{id}}_10.png"}
    return _stereo(f"{inside}/colored_0/{{id}}_10.png", columns)


def kitti2015() -> MatchedFiles:
    """KITTI 2015 (Menze and Geiger 2015): pairs with measured disparities, of occluded pixels too."""
    inside = "Kitti2015/training"
    columns = {"right": f"{inside}/image_3/{{id}}_10.png", "disparity": f"{inside}/disp_occ_0/{{id}}_10.png"}
    return _stereo(f"{inside}/image_2/{{id}}_10.png", columns)


def middlebury2014() -> MatchedFiles:
    """Middlebury 2014 (Scharstein et al. 2014): scenes of rooms with disparities and, where given, what is occluded."""
    inside = "Middlebury2014/train/{scene}"
    columns = {"right": "im1.png", "disparity": "disp0.pfm", "occluded": "mask0nocc.png"}
    return _stereo(f"{inside}/im0.png", {column: f"{inside}/{name}" for column, name in columns.items()})


def flying_things() -> MatchedFiles:
    """FlyingThings3D of Scene Flow (Mayer et al. 2016), clean pass: rendered pairs with exact disparities."""
    frames, inside = "frames_cleanpass", "SceneFlow/FlyingThings3D"
    pairs = {"right": f"{inside}/{frames}/TRAIN/{{scene}}/right/{{frame}}.png"}
    pairs["disparity"] = f"{inside}/disparity/TRAIN/{{scene}}/left/{{frame}}.pfm"
    return _stereo(f"{inside}/{frames}/TRAIN/{{scene}}/left/{{frame}}.png", pairs)


def _stereo(left: str, columns: dict[str, str]) -> MatchedFiles:
    read = {"image": decode, "right": decode, "disparity": read_disparity, "occluded": read_occluded}
    return MatchedFiles({"train": left}, columns, read, optional=("occluded",))


def meshes() -> MatchedFiles:
    """A folder `obj` of meshes in Wavefront's format."""
    return MatchedFiles({"train": "obj/{name}.obj"}, {}, {"mesh": read_mesh}, first="mesh")


def instructions() -> TextRecords:
    """Instructions with an input, which may be empty, and an output: the keys of Alpaca (Taori et al. 2023)."""
    return TextRecords(
        {"train": "train.json", "val": "dev.json"},
        {"instruction": "instruction", "input": "input", "output": "output"},
        may_be_empty=("input",),
    )


def gsm8k() -> TextRecords:
    """GSM8K (Cobbe et al. 2021): word problems and solutions, whose last line is `#### ` and the number."""
    return TextRecords({"train": "train.jsonl", "test": "test.jsonl"}, {"question": "question", "answer": "answer"})


def preferences() -> TextRecords:
    """Pairs of answers to a prompt, of which one was chosen and one rejected."""
    return TextRecords(
        {"train": "train.jsonl", "test": "test.jsonl"},
        {"prompt": "prompt", "chosen": "chosen", "rejected": "rejected"},
    )
