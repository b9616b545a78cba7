"""Losses: pure functions that return a scalar, computed in float32. Adversarial losses take logits
or scores (B, 1) or (B,)."""

import numpy as np
from keras import ops

from ..zoo.layers import precision
from ..zoo.layers.precision import of_float32


@of_float32
def discriminator(*, real, fake):
    """-E log D(x) - E log(1 - D(G(z))), D = sigmoid(logit) (Goodfellow et al., 2014, eq. 1)."""
    return ops.mean(ops.softplus(-real)) + ops.mean(ops.softplus(fake))


@of_float32
def non_saturating_generator(*, fake):
    """-E log D(G(z)), D = sigmoid(logit) (Goodfellow et al., 2014, section 3)."""
    return ops.mean(ops.softplus(-fake))


@of_float32
def minimax_generator(*, fake):
    """E log(1 - D(G(z))), D = sigmoid(logit) (Goodfellow et al., 2014, equation 1)."""
    return -ops.mean(ops.softplus(fake))


@of_float32
def hinge_discriminator(*, real, fake):
    """E max(0, 1 - D(x)) + E max(0, 1 + D(G(z))) (Zhang et al., 2019, equation 4)."""
    return ops.mean(ops.relu(1 - real)) + ops.mean(ops.relu(1 + fake))


@of_float32
def hinge_generator(*, fake):
    """-E D(G(z)) (Zhang et al., 2019, equation 4)."""
    return -ops.mean(fake)


@of_float32
def wasserstein_critic(*, real, fake):
    """E f(G(z)) - E f(x) (Arjovsky et al., 2017, equation 2, negated)."""
    return ops.mean(fake) - ops.mean(real)


@of_float32
def wasserstein_generator(*, fake):
    """-E f(G(z)) (Arjovsky et al., 2017, algorithm 1, line 10)."""
    return -ops.mean(fake)


@of_float32
def gradient_penalty(*, gradient):
    """E (|grad f(x^)| - 1)^2, gradient (B, ...) at x^ (Gulrajani et al., 2017, equation 3)."""
    flat = ops.reshape(gradient, (ops.shape(gradient)[0], -1))
    norm = ops.sqrt(ops.sum(ops.square(flat), axis=1) + 1e-12)
    return ops.mean(ops.square(norm - 1))


@of_float32
def r1(*, gradient):
    """1/2 E |grad D(x)|^2, gradient (B, ...) at real images x (Mescheder et al., 2018, section 4.1:
    R_1 without gamma)."""
    flat = ops.reshape(gradient, (ops.shape(gradient)[0], -1))
    return ops.mean(ops.sum(ops.square(flat), axis=1)) / 2


@of_float32
def soft_cam(*, teacher, discriminator, over=ops.mean):
    """E 1/2 (T - D)^2 of maps (B, h, w), as the mean over pixels, or with over=ops.sum as their sum
    (ATA-GAN, equation 2)."""
    return ops.mean(over(ops.square(teacher - discriminator) / 2, axis=(1, 2)))


@of_float32
def cross_entropy(*, logits, label, smoothing=0.0):
    """-E sum_k q_k log softmax(logits)_k; logits (B, K), label (B,).

    q is 1 - smoothing at the label, plus smoothing / K everywhere (Szegedy et al., 2016).
    """
    log_p = ops.log_softmax(logits, axis=-1)
    q = ops.one_hot(label, logits.shape[-1], dtype=log_p.dtype)
    q = (1 - smoothing) * q + smoothing / logits.shape[-1]
    return -ops.mean(ops.sum(q * log_p, axis=-1))


@of_float32
def sigmoid_cross_entropy(*, logits, label):
    """-E sum_c y_c log s_c + (1 - y_c) log(1 - s_c), s = sigmoid(logits), y (B, C) in [0, 1]
    (GAIN, L_cl)."""
    return ops.mean(ops.sum(ops.softplus(logits) - label * logits, axis=1))


def mean_over_present(values, present):
    """E 1/n sum_c v_c over the n classes present in an image; v and present, 0 or 1, are (B, K)."""
    count = ops.maximum(ops.sum(present, axis=1), 1)
    return ops.mean(ops.sum(present * values, axis=1) / count)


@of_float32
def attention_mining(*, score, present):
    """E 1/n sum_c s^c(I*^c) over the n classes present: scores (B, K) of images masked by their
    attention, each for one class (GAIN, L_am)."""
    return mean_over_present(score, present)


@of_float32
def attention_supervision(*, attention, mask, known, present):
    """E 1/n sum_c mean (A^c - H^c)^2 over the n classes present (B, K); A and H (B, K, S, S), the
    mean over the known pixels (B, S, S) (GAIN, L_e)."""
    known = ops.cast(known, attention.dtype)[:, None]
    gap = ops.square(attention - ops.cast(mask, attention.dtype)) * known
    pixels = ops.maximum(ops.sum(known, axis=(2, 3)), 1)
    return mean_over_present(ops.sum(gap, axis=(2, 3)) / pixels, present)


@of_float32
def least_squares_discriminator(*, real, fake):
    """1/2 E (D(x) - 1)^2 + 1/2 E D(G(z))^2 (Mao et al., 2017, equation 2, codes 0 and 1)."""
    return ops.mean(ops.square(real - 1)) / 2 + ops.mean(ops.square(fake)) / 2


@of_float32
def least_squares_generator(*, fake):
    """E (D(G(x)) - 1)^2 (Zhu et al., 2017, section 4)."""
    return ops.mean(ops.square(fake - 1))


@of_float32
def cycle(*, image, again):
    """E |F(G(x)) - x|, the mean over pixels (Zhu et al., 2017, equation 2, one direction)."""
    return ops.mean(ops.abs(again - image))


@of_float32
def squared_cycle(*, image, again):
    """E ((F(G(x)) - x) / 2)^2, the mean over pixels: the squared distance of images in [0, 1] whose
    values in [-1, 1] are given (DiscoGAN, L_CONST with the mean squared error, one direction)."""
    return ops.mean(ops.square((again - image) / 2))


@of_float32
def feature_matching(*, real, fake):
    """The mean over (h, w, C) of (E f(x) - E f(G(z)))^2, for E f (..., h, w, C), the means over a
    batch of a discriminator's features (Salimans et al., 2016, section 3.1)."""
    return ops.mean(ops.square(real - fake))


@of_float32
def identity(*, image, translated):
    """E |G(y) - y|, y from G's own target (Zhu et al., 2017, section 5.2, one direction)."""
    return ops.mean(ops.abs(translated - image))


@of_float32
def code(*, mean):
    """E mu^2, the mean over the components of codes z ~ N(mu, I), mu (B, h, w, C): twice the KL
    divergence from N(0, I), per component (Liu et al., 2017, section 3, L_VAE)."""
    return ops.mean(ops.square(mean))


@of_float32
def reconstruction(*, image, again):
    """E |G(z) - x|, z ~ q(z|x), the mean over pixels: -log p(x|z) of a Laplace distribution but for
    constants (Liu et al., 2017, section 3, L_VAE; L_CC with z of the translated image)."""
    return ops.mean(ops.abs(again - image))


@of_float32
def pixel(*, image, translated):
    """E |G(x) - x|, the mean over pixels (AttentionGAN slides, pixel loss, one direction)."""
    return ops.mean(ops.abs(translated - image))


@of_float32
def total_variation(*, masks):
    """E sum_h,w,c |A(h+1, w, c) - A(h, w, c)| + |A(h, w+1, c) - A(h, w, c)|, masks (B, H, W, n):
    the sum over an image's pixels and masks (AttentionGAN slides, attention loss)."""
    rows = ops.sum(ops.abs(masks[:, 1:] - masks[:, :-1]), axis=(1, 2, 3))
    columns = ops.sum(ops.abs(masks[:, :, 1:] - masks[:, :, :-1]), axis=(1, 2, 3))
    return ops.mean(rows + columns)


def at_classes(log_p, classes, ignore):
    """(log p_k (B, h, w) at the class k of each pixel, or 0 where k is `ignore`; 1 where k is not
    `ignore`, else 0)."""
    classes = ops.cast(classes, "int32")
    known = ops.not_equal(classes, ignore)
    q = ops.one_hot(ops.where(known, classes, 0), log_p.shape[-1], dtype=log_p.dtype)
    known = ops.cast(known, log_p.dtype)
    return ops.sum(q * log_p, axis=-1) * known, known


@of_float32
def pixel_cross_entropy(*, logits, classes, ignore=255):
    """-E log softmax(logits)_k over the pixels whose class k is not `ignore`; logits (B, h, w, K),
    classes (B, h, w). Without such pixels it is 0."""
    log_p, known = at_classes(ops.log_softmax(logits, axis=-1), classes, ignore)
    return -ops.sum(log_p) / ops.maximum(ops.sum(known), 1)


@of_float32
def seed(*, log_p, classes, ignore=255):
    """-E 1/n sum_u log p_k(u) over the n pixels of an image whose cue k is not `ignore`; log_p (B,
    h, w, K), classes (B, h, w) (SEC, seeding loss)."""
    log_p, known = at_classes(log_p, classes, ignore)
    count = ops.maximum(ops.sum(known, axis=(1, 2)), 1)
    return -ops.mean(ops.sum(log_p, axis=(1, 2)) / count)


def ranked(p, decay):
    """p (B, n, C) -> 1/Z sum_j d^(j-1) p_(j) (B, C), where p_(1) is the highest of n values and Z =
    sum_j d^(j-1): the maximum for d = 0, the mean for d = 1 (SEC, global weighted rank-pooling)."""
    p = ops.flip(ops.sort(p, axis=1), axis=1)
    weights = ops.power(ops.cast(decay, p.dtype), ops.arange(p.shape[1], dtype=p.dtype))
    return ops.einsum("j,bjc->bc", weights / ops.sum(weights), p)


@of_float32
def expand(*, p, labels, present, absent, background):
    """-E 1/|T| sum_T log G_c(d_present) - E 1/|T'| sum_T' log(1 - G_c(d_absent))
    - E log G_0(d_background), where G is `ranked`, T the classes present and T' the others; p (B,
    h, w, C + 1) with the background first, labels (B, C), 0 or 1 (SEC, expansion loss)."""
    p = ops.reshape(p, (-1, p.shape[1] * p.shape[2], p.shape[3]))
    log_present = mean_over_present(ops.log(ranked(p[..., 1:], present)), labels)
    log_absent = mean_over_present(ops.log(1 - ranked(p[..., 1:], absent)), 1 - labels)
    return -log_present - log_absent - ops.mean(ops.log(ranked(p[..., :1], background)))


@of_float32
def constrain(*, log_p, log_q):
    """E 1/n sum_u sum_c Q log(Q / p) of the CRF's Q and p, both (B, h, w, K) (SEC,
    constrain-to-boundary loss)."""
    return ops.mean(ops.sum(ops.exp(log_q) * (log_q - log_p), axis=-1))


SSIM_LEVELS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # weights of MS-SSIM's levels
WINDOW, SIGMA = 8, 1.5  # of the Gaussian that means are taken with
C1, C2 = 0.03**2, 0.05**2


def gaussian(size):
    """(size - 7, size): the weights of the window at each place in a line of pixels."""
    off = np.arange(size) - np.arange(size - WINDOW + 1)[:, None] - (WINDOW - 1) / 2
    weights = np.exp(-(off**2) / (2 * SIGMA**2)) * (abs(off) < WINDOW / 2)
    return (weights / weights.sum(1, keepdims=True)).astype("float32")


def window_means(x):
    """x (N, S, S) -> the means in each window (N, S - 7, S - 7), with columns as rows."""
    size, weights = x.shape[1], gaussian(x.shape[1]).T
    inside = weights.shape[1]
    x = ops.reshape(precision.matmul(ops.reshape(x, (-1, size)), weights), (-1, size, inside))
    x = ops.reshape(ops.transpose(x, (0, 2, 1)), (-1, size))
    return ops.reshape(precision.matmul(x, weights), (-1, inside, inside))


def half(x):
    """x (N, S, S) -> (N, S / 2, S / 2), means of 2 x 2 pixels."""
    side = x.shape[1] // 2
    return ops.mean(ops.reshape(x, (-1, side, 2, side, 2)), axis=(2, 4))


@of_float32
def structure(*, image, again):
    """1 - E MS-SSIM of images (B, S, S, C) in [0, 1], channel by channel: l_M^w_M prod_j cs_j^w_j
    (Wang, Simoncelli and Bovik, 2003, equation 7), where l and cs are means over an image.

        l = (2 mu_a mu_b + C1) / (mu_a^2 + mu_b^2 + C1)
        cs = (2 |s_ab| + C2) / (s_aa + s_bb + C2)

    The last level's factor is the mean of l cs. There are at most five levels, the last of which
    has at least 8 x 8 pixels: 5 at S = 128, 4 at 64, 3 at 32. Their weights w are divided by their
    sum. The constants and the absolute value are those of GANimorph's authors.
    """
    size = image.shape[1]
    weights = SSIM_LEVELS[: (size // WINDOW).bit_length()]
    a, b = (ops.reshape(ops.transpose(x, (0, 3, 1, 2)), (-1, size, size)) for x in (image, again))
    value = 1.0
    for level, weight in enumerate(weights, 1):
        if level > 1:
            a, b = half(a), half(b)
        means = window_means(ops.concatenate([a, b, a * a, b * b, a * b], axis=0))
        mu_a, mu_b, aa, bb, ab = ops.split(means, 5, axis=0)
        cs = 2 * ops.abs(ab - mu_a * mu_b) + C2
        cs = cs / (aa - mu_a**2 + bb - mu_b**2 + C2)
        if level == len(weights):
            cs = cs * (2 * mu_a * mu_b + C1) / (mu_a**2 + mu_b**2 + C1)
        value = value * ops.mean(cs, axis=(1, 2)) ** (weight / sum(weights))
    return 1 - ops.mean(value)
