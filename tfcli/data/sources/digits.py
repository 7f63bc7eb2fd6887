"""scikit-learn's handwritten digits, which need no download: the data set of the first command."""

from __future__ import annotations

import gzip
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from tfcli.data.columns.pixels import ArrayPixels
from tfcli.data.columns.splits import stratified
from tfcli.data.columns.tables import LoadedTables
from tfcli.data.common.request import Request

SPLIT_SEED = 0  # fixed, because the test split belongs to the data set and not to an experiment
TEST_COUNT = 360


class Digits:
    """1,797 grey digits of 8 x 8 pixels (Alpaydin and Kaynak 1998; the test part of UCI's optical digits).

    scikit-learn has no splits; ours are stratified with a fixed seed, 1,437 for training and 360 for testing.
    Intensities 0..16 are scaled to 0..255.
    """

    def locate(self, request: Request) -> str:
        return "inside scikit-learn"

    def load(self, request: Request) -> LoadedTables:
        table = digits()
        images = np.round(table[:, :-1].reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
        labels = table[:, -1].astype(np.int64)
        kept, taken = stratified(labels, number=TEST_COUNT, seed=SPLIT_SEED, purpose="test")
        splits = {
            split: {"image": ArrayPixels(images[rows]), "label": labels[rows]}
            for split, rows in (("train", kept), ("test", taken))
        }
        return LoadedTables(splits, {"label": [str(i) for i in range(10)]})


def digits() -> np.ndarray:
    """Return scikit-learn's table (1797, 65) of 64 intensities and the digit, without the 1.7 s of its import."""
    package = find_spec("sklearn")
    assert package is not None
    assert package.submodule_search_locations
    with gzip.open(Path(package.submodule_search_locations[0], "datasets", "data", "digits.csv.gz")) as file:
        return np.loadtxt(file, delimiter=",")
