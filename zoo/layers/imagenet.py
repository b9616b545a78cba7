"""The scale of images that networks trained on ImageNet elsewhere (torchvision, timm) expect."""

import keras

MEAN = (0.485, 0.456, 0.406)  # of ImageNet's channels, for images in [0, 1]
DEVIATION = (0.229, 0.224, 0.225)
SCALES = ("none", "imagenet")


def check(scale):
    """Raises ValueError unless the scale is one of SCALES."""
    if scale not in SCALES:
        raise ValueError(f"unknown normalise {scale!r}: there are {', '.join(SCALES)}")


def normalised(image, scale):
    """Image (B, S, S, 3) in [-1, 1] -> the image on the scale "none", itself, or "imagenet", where
    each channel in [0, 1] is reduced by MEAN and divided by DEVIATION.

    This is a layer of its own: folded into the first convolution, it would change the meaning of
    zero padding.
    """
    check(scale)
    if scale == "none":
        return image
    factor = [0.5 / d for d in DEVIATION]
    offset = [(0.5 - m) / d for m, d in zip(MEAN, DEVIATION)]
    return keras.layers.Rescaling(factor, offset, name="normalise")(image)
