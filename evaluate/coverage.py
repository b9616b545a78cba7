"""How many classes a classifier finds among samples: a collapsed generator lacks most of them."""

import numpy as np

LEAST = 0.1  # as a share of the samples per class if all classes were equally frequent


def class_coverage(logits):
    """Logits (N, K) -> (share of the K classes that are present, entropy of their frequencies).

    A class is present if at least LEAST * N / K samples have their largest logit there. The entropy
    is divided by log K. Both lie in [0, 1], and are 1 if all classes are equally frequent.
    """
    count, classes = np.shape(logits)
    if count < 1 or classes < 2:
        raise ValueError(f"class coverage takes logits (N, K), K > 1, not {(count, classes)}")
    p = np.bincount(np.argmax(logits, 1), minlength=classes) / count
    present = p[p > 0]
    entropy = -np.sum(present * np.log(present)) / np.log(classes)
    return float(np.mean(p >= LEAST / classes)), abs(float(entropy))
