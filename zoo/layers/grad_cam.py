"""Grad-CAM as trainable attention, and the masks that GAIN makes of it (Li, Wu, Peng, Ernst, Fu,
CVPR 2018, section 2 of the notes).

| notes                              | here                                                        |
|------------------------------------|-------------------------------------------------------------|
| f_l, of K channels                 | features (N, h, w, K)                                       |
| ds^c / df                          | gradient, of the same shape, which the caller computes      |
| w^c = GAP(ds^c / df)               | the mean over positions in `grad_cam`                       |
| A^c = ReLU(conv(f, w^c))           | `grad_cam` for one class; `of_average` for all at once      |
| T(A), without a formula            | `soft_mask`                                                 |
| I* = I - T(A) * I                  | `masked`                                                    |

A is resized to the image and scaled to [0, 1] (`to_image_size`) before it is compared with
anything. All functions have gradients of every order, so that the attention itself can be trained.

If the logits are a dense layer of the averaged features, s^c = b_c + sum_k W_kc mean_hw f_k, the
gradient is W_kc / (h w) at every position, and A^c is the ReLU of the class activation map
sum_k W_kc f_k, divided by h w. No gradient has to be computed: this is the layer `OfAverage`.
"""

import keras
from keras import ops

from . import cam, precision


def grad_cam(features, gradient):
    """Features (N, h, w, K) and the gradient of a class's score in them -> A (N, h, w), from 0."""
    return ops.relu(ops.einsum("nhwk,nk->nhw", features, ops.mean(gradient, axis=(1, 2))))


def of_average(maps):
    """Class activation maps (B, h, w, C) of a network with global average pooling (zoo.layers.cam)
    -> A for every class (B, C, h, w)."""
    return ops.transpose(ops.relu(maps) / (maps.shape[1] * maps.shape[2]), (0, 3, 1, 2))


def to_image_size(maps, size):
    """A (B, C, h, w) -> (B, C, size, size), bilinear, then each map scaled to [0, 1]."""
    count = maps.shape[1]
    flat = cam.resized(ops.reshape(maps, (-1, *maps.shape[2:])), size)
    return ops.reshape(cam.min_max(precision.float32(flat)), (-1, count, size, size))


def soft_mask(attention, steepness, sigma):
    """T(A) = 1 / (1 + exp(-steepness (A - sigma))), of any shape. The paper calls the steepness
    omega; in the notes omega is the weight of another loss."""
    return ops.sigmoid(steepness * (attention - sigma))


def masked(images, mask):
    """Images (B, S, S, 3) in [-1, 1], masks (B, M, S, S) -> I - T * I (B, M, S, S, 3), grey where
    the mask is 1."""
    images = ops.expand_dims(images, 1)
    return images - ops.expand_dims(mask, -1) * images


@keras.saving.register_keras_serializable("zoo")
class OfAverage(keras.layers.Layer):
    """Class activation maps (B, h, w, C) -> A for every class (B, C, size, size), from 0 to 1."""

    def __init__(self, size, **kwargs):
        super().__init__(**kwargs)
        self.size = size

    def call(self, maps):
        return to_image_size(of_average(maps), self.size)

    def get_config(self):
        return {**super().get_config(), "size": self.size}
