"""scikit-learn's handwritten digits, which need no download: the data set of the first command."""

from __future__ import annotations

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
        from sklearn.datasets import load_digits

        digits = load_digits()
        images = np.round(digits.images * (255 / 16)).astype(np.uint8)
        labels = digits.target.astype(np.int64)
        kept, taken = stratified(labels, number=TEST_COUNT, seed=SPLIT_SEED, purpose="test")
        splits = {
            split: {"image": ArrayPixels(images[rows]), "label": labels[rows]}
            for split, rows in (("train", kept), ("test", taken))
        }
        return LoadedTables(splits, {"label": [str(i) for i in range(10)]})
