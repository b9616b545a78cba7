"""How well scores of several classes, of which an image can hold many, tell which are there."""

import numpy as np


def mean_average_precision(scores, labels):
    """Scores and labels (N, C), 1 where the class is there -> the mean over the classes that occur
    of the average precision: of images by falling score, the mean of the precision at each that
    holds the class (VOC's since 2010, without its interpolation)."""
    values = []
    for score, label in zip(np.transpose(scores), np.transpose(labels) > 0):
        if label.any():
            there = label[np.argsort(-score, kind="stable")]
            precision = np.cumsum(there) / np.arange(1, len(there) + 1)
            values.append(precision[there].mean())
    return float(np.mean(values))
