"""PyTorch's layers in NumPy, on maps (C, H, W), with the weights {name: array} of a state_dict."""

import numpy as np


def reflected(x, by):
    return np.pad(x, ((0, 0), (by, by), (by, by)), mode="reflect")


def convolved(x, state, name, strides=1, zeros=0):
    """PyTorch's Conv2d: x (C, H, W)."""
    w, b = state[f"{name}.weight"], state[f"{name}.bias"]
    x = np.pad(x, ((0, 0), (zeros, zeros), (zeros, zeros)))
    windows = np.lib.stride_tricks.sliding_window_view(x, w.shape[2:], (1, 2))
    windows = windows[:, ::strides, ::strides]
    return np.einsum("chwij,ocij->ohw", windows, w) + b[:, None, None]


def enlarged(x, state, name):
    """PyTorch's ConvTranspose2d(kernel 3, stride 2, padding 1, output_padding 1), by a loop."""
    w, b = state[f"{name}.weight"], state[f"{name}.bias"]
    _, high, wide = x.shape
    y = np.zeros((w.shape[1], 2 * high, 2 * wide)) + b[:, None, None]
    for i, j, k, m in np.ndindex(high, wide, 3, 3):
        row, column = 2 * i + k - 1, 2 * j + m - 1
        if 0 <= row < 2 * high and 0 <= column < 2 * wide:
            y[:, row, column] += x[:, i, j] @ w[:, :, k, m]
    return y


def normal(x):
    spread = np.sqrt(x.var((1, 2), keepdims=True) + 1e-5)
    return (x - x.mean((1, 2), keepdims=True)) / spread


def rectified(x):
    return np.maximum(normal(x), 0)
