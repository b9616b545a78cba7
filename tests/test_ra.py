"""RA: the attention module, the mask that is shown, training."""

import keras
import numpy as np
import pytest

from attention_zoo.common import interpolation
from attention_zoo.common.images import translation_grid
from attention_zoo.experiments import translating
from attention_zoo.tasks import translation
from attention_zoo.tests.helpers import gap, shaken, weights_of
from attention_zoo.trainers import cyclegan as cycle_training
from attention_zoo.trainers import ra as training
from attention_zoo.zoo import ra
from attention_zoo.zoo.layers.sizes import EnlargeTo

TINY = {"image_size": 32, "width": 2, "levels": 2}


def pictures(count, high=32, wide=32, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (count, high, wide, 3)).astype("float32")


def part(network, name):
    """(kernel, bias) of a convolution."""
    return (np.asarray(w) for w in network.get_layer(name).weights)


def convolved(x, network, name, mode="constant"):
    """x (H, W, C), padded by zeros, or as a mode of np.pad says, to keep its size."""
    kernel, bias = part(network, name)
    side = kernel.shape[0]
    x = np.pad(x, (*[(side // 2, side // 2)] * 2, (0, 0)), mode=mode)
    windows = np.lib.stride_tricks.sliding_window_view(x, (side, side), (0, 1))
    return np.einsum("hwcij,ijcd->hwd", windows, kernel) + bias


def normal(x):
    return (x - x.mean((0, 1))) / np.sqrt(x.var((0, 1)) + 1e-5)


def residual(x, network, name, mode="constant"):
    y = np.maximum(normal(convolved(x, network, f"{name}_1", mode)), 0)
    return x + normal(convolved(y, network, f"{name}_2", mode))


def pooled(x):
    """Maxima of 3 x 3 values around every second one."""
    high, wide = (-(-side // 2) for side in x.shape[:2])
    x = np.pad(x, ((1, 1), (1, 1), (0, 0)), constant_values=-np.inf)
    places = np.ndindex(high, wide)
    values = [x[2 * i : 2 * i + 3, 2 * j : 2 * j + 3].max((0, 1)) for i, j in places]
    return np.reshape(values, (high, wide, -1))


def doubled(x):
    high, wide, _ = x.shape
    maps = interpolation.resized(x.transpose(2, 0, 1), 2 * high, 2 * wide)
    return maps.transpose(1, 2, 0)


def test_the_module_is_the_one_of_wang_et_al():
    x = keras.Input((8, 12, 3))
    module = shaken(keras.Model(x, ra.attention_module(x, 2)))
    image = pictures(1, 8, 12)
    found, found_mask = (np.asarray(y)[0] for y in module(image))
    x1 = residual(image[0], module, "first", "reflect")
    trunk = residual(residual(x1, module, "trunk1", "reflect"), module, "trunk2", "reflect")
    down0 = residual(pooled(x1), module, "mask_down0")
    down1 = residual(pooled(down0), module, "mask_down1")
    y = doubled(residual(down1, module, "mask_bottom")) + residual(down0, module, "mask_skip0")
    y = doubled(residual(y, module, "mask_up0"))
    for name in ("mask_head1", "mask_head2"):
        y = convolved(np.maximum(normal(y), 0), module, name)
    mask = 1 / (1 + np.exp(-y))
    assert mask.std() > 0.1
    assert abs(found_mask - mask).max() < 1e-4
    expected = residual((1 + mask) * trunk, module, "last", "reflect")
    assert abs(found - expected).max() < 1e-3
    convolutions = [layer for layer in module.layers if hasattr(layer, "kernel")]
    assert len(convolutions) == 2 * (3 * 2 + 3) + 2


def test_the_mask_that_is_shown():
    network = shaken(ra.generator(2, 2, "a2b"))
    x = pictures(2, 32, 48)
    made = {k: np.asarray(v) for k, v in network(x).items()}
    assert made["translated"].shape == x.shape and made["masks"].shape == (2, 32, 48, 1)
    assert 0 <= made["masks"].min() < made["masks"].max() <= 1
    mask = np.asarray(keras.Model(network.input, network.get_layer("mask").output)(x))
    expected = interpolation.resized(mask.mean(-1), 32, 48)
    assert abs(made["masks"][..., 0] - expected).max() < 1e-5 < expected.std()
    for high, wide in ((8, 8), (20, 28)):
        made = network(x[:, :high, :wide])
        assert made["masks"].shape == (2, high, wide, 1)
    images, masks = np.zeros((2, 32, 48, 3), np.uint8), np.full((2, 32, 48, 1), 0.2)
    files = translating._files(translation.Translation(images, masks))
    assert list(files) == [("", ""), ("attention", ""), ("masks", "_1")]
    assert all((files[key] == 51).all() for key in [*files][1:])
    shown = {"image": x, "translated": x, "again": x, "masks": np.zeros((2, 32, 48, 1))}
    assert translation_grid([{k: v[:, :, :32] for k, v in shown.items()}]).shape == (64, 128, 3)


@pytest.mark.parametrize(("size", "out"), [((4, 6), (8, 12)), ((3, 5), (5, 9))])
def test_enlarging_is_bilinear_and_cuts_what_is_too_much(size, out):
    x = np.random.default_rng(0).normal(size=(2, *size, 3)).astype("float32")
    whole = interpolation.resized(x.transpose(0, 3, 1, 2), 2 * size[0], 2 * size[1])
    expected = whole.transpose(0, 2, 3, 1)[:, : out[0], : out[1]]
    found = EnlargeTo(2)(x, np.zeros((2, *out, 1), "float32"))
    assert abs(np.asarray(found) - expected).max() < 1e-5


@pytest.mark.parametrize("levels", [0, 3])
def test_options_without_meaning_are_refused(levels):
    with pytest.raises(ValueError, match="levels must lie"):
        ra.build(**{**TINY, "levels": levels})


def test_a_step_is_cyclegan_s_and_reaches_every_weight():
    keras.utils.set_random_seed(0)
    trainer = training.RA(*(ra.build(**TINY) for _ in range(2)), cycle_training.HParams(), 3)
    before = {k: weights_of(m) for k, m in trainer.networks.items()}
    batch = {"image_a": pictures(2), "image_b": pictures(2, seed=1)}
    logs = trainer.train_step(batch)
    names = {"gan", "cycle", "discriminator_a", "discriminator_b"}
    assert logs.keys() == names | {"mask_mean", "mask_low", "mask_high"}
    assert float(trainer.objective(logs)) == pytest.approx(
        float(logs["gan"]) + 10 * float(logs["cycle"])
    )
    for name, network in trainer.networks.items():
        for variable, old in zip(network.trainable_variables, before[name]):
            assert abs(np.asarray(variable) - old).max() > 0, variable.path
    assert gap(before["a2b"], weights_of(trainer.networks["a2b"])) < 1e-3
    assert 0.4 < float(logs["mask_mean"]) < 0.6
