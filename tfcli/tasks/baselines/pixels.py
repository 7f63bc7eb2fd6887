"""Baselines for small images: logistic regression and the nearest neighbour on the pixels."""

from __future__ import annotations

import warnings

import numpy as np

from tfcli.shapes import UInt8


def logistic_regression(
    train: UInt8[np.ndarray, "N ..."], train_label: np.ndarray, test: UInt8[np.ndarray, "M ..."], test_label: np.ndarray
) -> float:
    """Return the test accuracy of L2-regularised multinomial logistic regression (scikit-learn, C = 1) on pixels.

    Pixels are standardised by the training set's overall mean and deviation. The solver stops after 300 iterations,
    which may be too early on large sets.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    x = train.reshape(len(train), -1).astype(np.float32)
    centre, spread = x.mean(), x.std() + 1e-6
    model = LogisticRegression(max_iter=300)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit((x - centre) / spread, train_label)
    return float(model.score((test.reshape(len(test), -1).astype(np.float32) - centre) / spread, test_label))


def nearest_neighbour(
    train: UInt8[np.ndarray, "N ..."], train_label: np.ndarray, test: UInt8[np.ndarray, "M ..."], test_label: np.ndarray
) -> float:
    """Return the test accuracy of the label of the nearest training image, by the Euclidean distance of the pixels."""
    from sklearn.neighbors import KNeighborsClassifier

    model = KNeighborsClassifier(n_neighbors=1, algorithm="brute")
    model.fit(train.reshape(len(train), -1).astype(np.float32), train_label)
    return float(model.score(test.reshape(len(test), -1).astype(np.float32), test_label))
