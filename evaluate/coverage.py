"""How many classes a classifier finds among samples: a collapsed generator lacks most of them."""

import numpy as np

LEAST = 0.1  # as a share of the samples per class if all classes were equally frequent
IMAGENET, BREEDS = 1_000, slice(151, 269)  # ImageNet's classes; of these the 118 breeds of dogs


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


def breed_coverage(logits):
    """Logits (N, 1000) of ImageNet's classes -> (share of its 118 breeds of dogs that are present,
    share of the samples whose largest logit is a breed).

    A breed is present if at least LEAST * N / 118 samples have their largest logit there.
    """
    count, classes = np.shape(logits)
    if count < 1 or classes != IMAGENET:
        raise ValueError(f"breeds take logits (N, {IMAGENET}), not {(count, classes)}")
    p = np.bincount(np.argmax(logits, 1), minlength=classes)[BREEDS] / count
    return float(np.mean(p >= LEAST / len(p))), float(p.sum())
