"""Which classes a classifier finds among samples: a collapsed generator leaves most of them out."""

import numpy as np

LEAST = 0.1  # of the samples that each class would have, were all equally frequent


def class_coverage(logits):
    """Logits (N, K) -> (share of the K classes that are found, entropy of their frequencies).

    A class is found if it is the answer for at least LEAST * N / K samples. The entropy is over
    log K. Both lie in [0, 1]: 1 and 1 where all classes are equally frequent.
    """
    count, classes = np.shape(logits)
    if count < 1 or classes < 2:
        raise ValueError(f"class coverage takes logits (N, K), K > 1, not {(count, classes)}")
    p = np.bincount(np.argmax(logits, 1), minlength=classes) / count
    present = p[p > 0]
    entropy = -np.sum(present * np.log(present)) / np.log(classes)
    return float(np.mean(p >= LEAST / classes)), abs(float(entropy))
