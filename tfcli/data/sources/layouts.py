"""Published sets of files in the layouts that they come in."""

from __future__ import annotations

from tfcli.data.images.decode import decode
from tfcli.data.images.disparity import read_disparity, read_occluded
from tfcli.data.images.masks import MaskReader
from tfcli.data.sources.meshes import read_mesh
from tfcli.data.sources.pairedfiles import ListedFiles, MatchedFiles

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
    return ListedFiles(
        lists, {"image": "CamVid/{0}", "mask": "CamVid/{1}"}, {"image": decode, "mask": CAMVID}, strip="/SegNet/CamVid/"
    )


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


STEREO = {"image": decode, "right": decode, "disparity": read_disparity, "occluded": read_occluded}


def kitti2012() -> MatchedFiles:
    """KITTI 2012 (Geiger et al. 2012): pairs with measured disparities of what both images show."""
    folders = {"image": "colored_0", "right": "colored_1", "disparity": "disp_noc"}
    columns = {column: f"Kitti2012/{{split}}/{folder}/{{id}}_10.png" for column, folder in folders.items()}
    return MatchedFiles({"train": "training"}, columns, STEREO)


def kitti2015() -> MatchedFiles:
    """KITTI 2015 (Menze and Geiger 2015): pairs with measured disparities, of occluded pixels too."""
    folders = {"image": "image_2", "right": "image_3", "disparity": "disp_occ_0"}
    columns = {column: f"Kitti2015/{{split}}/{folder}/{{id}}_10.png" for column, folder in folders.items()}
    return MatchedFiles({"train": "training"}, columns, STEREO)


def middlebury2014() -> MatchedFiles:
    """Middlebury 2014 (Scharstein et al. 2014): scenes of rooms with disparities and, where given, what is occluded."""
    files = {"image": "im0.png", "right": "im1.png", "disparity": "disp0.pfm", "occluded": "mask0nocc.png"}
    columns = {column: f"Middlebury2014/{{split}}/{{scene}}/{file}" for column, file in files.items()}
    return MatchedFiles({"train": "train"}, columns, STEREO, optional=("occluded",))


def flying_things() -> MatchedFiles:
    """FlyingThings3D of Scene Flow (Mayer et al. 2016), clean pass: rendered pairs with exact disparities."""
    files = {
        "image": "frames_cleanpass/{split}/{scene}/left/{frame}.png",
        "right": "frames_cleanpass/{split}/{scene}/right/{frame}.png",
        "disparity": "disparity/{split}/{scene}/left/{frame}.pfm",
    }
    columns = {column: f"SceneFlow/FlyingThings3D/{file}" for column, file in files.items()}
    return MatchedFiles({"train": "TRAIN", "test": "TEST"}, columns, STEREO)


def meshes() -> MatchedFiles:
    """A folder `obj` of meshes in Wavefront's format."""
    return MatchedFiles({"train": "obj"}, {"mesh": "{split}/{name}.obj"}, {"mesh": read_mesh})
