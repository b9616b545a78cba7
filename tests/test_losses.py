"""Every loss on fixed logits, with answers worked out by hand."""

import numpy as np
from keras import ops

from attention_zoo.tests.helpers import loss_of
from attention_zoo.trainers import losses

REAL = np.array([[2.0], [-1.0]], "float32")
FAKE = np.array([[0.0], [1.0]], "float32")


def test_discriminator():
    # mean(log(1 + e^-2), log(1 + e^1)) + mean(log 2, log(1 + e^1))
    real = (0.12692801 + 1.31326169) / 2
    fake = (0.69314718 + 1.31326169) / 2
    assert real + fake == loss_of(losses.discriminator, real=REAL, fake=FAKE)


def test_non_saturating_generator():
    # mean(log 2, log(1 + e^-1))
    assert (0.69314718 + 0.31326169) / 2 == loss_of(losses.non_saturating_generator, fake=FAKE)


def test_minimax_generator():
    # -mean(log 2, log(1 + e^1))
    assert (0.69314718 + 1.31326169) / -2 == loss_of(losses.minimax_generator, fake=FAKE)


def test_hinge_discriminator():
    # mean(max(0, 1 - 2), max(0, 1 + 1)) + mean(1 + 0, 1 + 1)
    assert loss_of(losses.hinge_discriminator, real=REAL, fake=FAKE) == 1.0 + 1.5
    assert loss_of(losses.hinge_discriminator, real=REAL + 2, fake=FAKE - 2) == 0.0


def test_hinge_generator():
    assert loss_of(losses.hinge_generator, fake=FAKE) == -0.5


def test_losses_stay_finite_and_linear_at_large_logits():
    far = np.array([[1e4]], "float32")
    assert float(losses.non_saturating_generator(fake=-far)) == 1e4
    assert float(losses.discriminator(real=-far, fake=far)) == 2e4


def test_wasserstein_critic():
    # mean(fake) - mean(real) = 0.5 - 0.5
    assert loss_of(losses.wasserstein_critic, real=REAL, fake=FAKE) == 0.0
    assert loss_of(losses.wasserstein_critic, real=REAL + 3, fake=FAKE) == -3.0


def test_wasserstein_generator():
    assert loss_of(losses.wasserstein_generator, fake=FAKE) == -0.5


def test_soft_cam():
    # squares 1, 4, 9, 16 and 0, 0, 0, 4: half their sums is 15 and 2, over four pixels a quarter
    teacher = np.array([[[1.0, 2.0], [3.0, 4.0]], [[1.0, 1.0], [1.0, 1.0]]])
    discriminator = np.array([[[0.0, 0.0], [0.0, 0.0]], [[1.0, 1.0], [1.0, 3.0]]])
    maps = {"teacher": teacher, "discriminator": discriminator}
    assert loss_of(losses.soft_cam, **maps) == 17 / 8
    assert loss_of(losses.soft_cam, over=ops.sum, **maps) == 17 / 2


def test_gradient_penalty():
    # norms 5 and 0.5: mean((5 - 1)^2, (0.5 - 1)^2) = (16 + 0.25) / 2
    gradient = np.array([[[3.0, 4.0]], [[0.5, 0.0]]], "float32")
    assert loss_of(losses.gradient_penalty, gradient=gradient) == 8.125
