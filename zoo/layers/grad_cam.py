"""Grad-CAM that can be trained, and what GAIN does with it (Li, Wu, Peng, Ernst, Fu, CVPR 2018,
section 2 of the notes).

| notes                              | here                                                        |
|------------------------------------|-------------------------------------------------------------|
| f_l, of K channels                 | features (N, h, w, K)                                       |
| ds^c / df                          | gradient, of the same shape; whoever calls has it taken     |
| w^c = GAP(ds^c / df)               | the mean over positions in `grad_cam`                       |
| A^c = ReLU(conv(f, w^c))           | `grad_cam`, of one class; `of_average`, of all at once      |
| T(A), of which only T is told      | `soft_mask`                                                 |
| I* = I - T(A) * I                  | `masked`                                                    |

A is brought to the image's size and to a scale from 0 to 1 (`shown`) before it is compared with
anything. All of it has gradients of every order, so that the attention itself can be trained.

Where logits are a dense layer of the features' average, s^c = b_c + sum_k W_kc mean_hw f_k, the
gradient is W_kc / (h w) at every position, and A^c is the ReLU of the class activation map
sum_k W_kc f_k, over h w: no gradient needs to be taken. `OfAverage` says so as a layer.
"""

import keras
from keras import ops

from . import cam


def grad_cam(features, gradient):
    """Features (N, h, w, K), the gradient of a class's score by them -> A (N, h, w), from 0."""
    return ops.relu(ops.einsum("nhwk,nk->nhw", features, ops.mean(gradient, axis=(1, 2))))


def of_average(maps):
    """Class activation maps (B, h, w, C) of a network with global average pooling (zoo.layers.cam)
    -> A of every class (B, C, h, w)."""
    return ops.transpose(ops.relu(maps) / (maps.shape[1] * maps.shape[2]), (0, 3, 1, 2))


def shown(maps, size):
    """A (B, C, h, w) -> (B, C, size, size), bilinear, then each map from 0 to 1."""
    count = maps.shape[1]
    flat = cam.resized(ops.reshape(maps, (-1, *maps.shape[2:])), size)
    return ops.reshape(cam.min_max(flat), (-1, count, size, size))


def soft_mask(attention, steepness, sigma):
    """T(A) = 1 / (1 + exp(-steepness (A - sigma))), of any shape; the paper's steepness is omega,
    which the notes call the weight of another loss."""
    return ops.sigmoid(steepness * (attention - sigma))


def masked(images, mask):
    """Images (B, S, S, 3) in [-1, 1], masks (B, M, S, S) -> I - T * I (B, M, S, S, 3): mid-grey
    where a mask is 1."""
    images = ops.expand_dims(images, 1)
    return images - ops.expand_dims(mask, -1) * images


@keras.saving.register_keras_serializable("zoo")
class OfAverage(keras.layers.Layer):
    """Class activation maps (B, h, w, C) -> A of every class (B, C, size, size), from 0 to 1."""

    def __init__(self, size, **kwargs):
        super().__init__(**kwargs)
        self.size = size

    def call(self, maps):
        return shown(of_average(maps), self.size)

    def get_config(self):
        return {**super().get_config(), "size": self.size}
