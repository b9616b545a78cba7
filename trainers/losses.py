"""Losses: pure functions to a scalar; adversarial ones of logits or scores (B, 1) or (B,)."""

from keras import ops


def discriminator(*, real, fake):
    """-E log D(x) - E log(1 - D(G(z))), D = sigmoid(logit) (Goodfellow et al., 2014, eq. 1)."""
    return ops.mean(ops.softplus(-real)) + ops.mean(ops.softplus(fake))


def non_saturating_generator(*, fake):
    """-E log D(G(z)), D = sigmoid(logit) (Goodfellow et al., 2014, section 3)."""
    return ops.mean(ops.softplus(-fake))


def minimax_generator(*, fake):
    """E log(1 - D(G(z))), D = sigmoid(logit) (Goodfellow et al., 2014, equation 1)."""
    return -ops.mean(ops.softplus(fake))


def hinge_discriminator(*, real, fake):
    """E max(0, 1 - D(x)) + E max(0, 1 + D(G(z))) (Zhang et al., 2019, equation 4)."""
    return ops.mean(ops.relu(1 - real)) + ops.mean(ops.relu(1 + fake))


def hinge_generator(*, fake):
    """-E D(G(z)) (Zhang et al., 2019, equation 4)."""
    return -ops.mean(fake)


def wasserstein_critic(*, real, fake):
    """E f(G(z)) - E f(x) (Arjovsky et al., 2017, equation 2, negated)."""
    return ops.mean(fake) - ops.mean(real)


def wasserstein_generator(*, fake):
    """-E f(G(z)) (Arjovsky et al., 2017, algorithm 1, line 10)."""
    return -ops.mean(fake)


def gradient_penalty(*, gradient):
    """E (|grad f(x^)| - 1)^2, gradient (B, ...) at x^ (Gulrajani et al., 2017, equation 3)."""
    flat = ops.reshape(gradient, (ops.shape(gradient)[0], -1))
    norm = ops.sqrt(ops.sum(ops.square(flat), axis=1) + 1e-12)
    return ops.mean(ops.square(norm - 1))


def soft_cam(*, teacher, discriminator, over=ops.mean):
    """E 1/2 (T - D)^2, maps (B, h, w); `over` pixels the mean, or ops.sum (ATA-GAN, equation 2)."""
    return ops.mean(over(ops.square(teacher - discriminator) / 2, axis=(1, 2)))


def cross_entropy(*, logits, label, smoothing=0.0):
    """-E sum_k q_k log softmax(logits)_k; logits (B, K), label (B,).

    q is 1 - smoothing at the label, and smoothing / K more everywhere (Szegedy et al., 2016).
    """
    log_p = ops.log_softmax(logits, axis=-1)
    q = ops.one_hot(label, logits.shape[-1], dtype=log_p.dtype)
    q = (1 - smoothing) * q + smoothing / logits.shape[-1]
    return -ops.mean(ops.sum(q * log_p, axis=-1))
