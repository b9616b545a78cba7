"""How well scores tell the classes of an image that can have several."""

import numpy as np


def mean_average_precision(scores, labels):
    """Scores (N, C), labels (N, C), 1 for each class of the image -> the mean of the average
    precision over the classes that occur.

    The average precision of a class is the mean of the precision at each image of the class, with
    the images in the order of falling scores (VOC's since 2010, without its interpolation).
    """
    values = []
    for score, label in zip(np.transpose(scores), np.transpose(labels) > 0):
        if label.any():
            ranked = label[np.argsort(-score, kind="stable")]
            precision = np.cumsum(ranked) / np.arange(1, len(ranked) + 1)
            values.append(precision[ranked].mean())
    return float(np.mean(values))
