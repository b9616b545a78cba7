"""DiscoGAN and its training step in PyTorch, to compare with ours.

The layers, sizes, losses and optimiser are those of zoo.discogan and trainers.discogan with default
options.
"""

import torch
from torch import nn
from torch.nn import functional

from .torch_translators import Translators


class Down(nn.Module):
    """Convolution, batch normalisation if `normalise`, leaky ReLU."""

    def __init__(self, inputs, outputs, normalise):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 4, 2, 1, bias=False)
        self.norm = nn.BatchNorm2d(outputs) if normalise else nn.Identity()

    def forward(self, x):
        return functional.leaky_relu(self.norm(self.conv(x)), 0.2)


class Up(nn.Module):
    """Transposed convolution, batch normalisation, ReLU."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.conv = nn.ConvTranspose2d(inputs, outputs, 4, 2, 1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x):
        return functional.relu(self.norm(self.conv(x)))


def downs(widths):
    return nn.Sequential(*(Down(a, b, a > 3) for a, b in zip([3, *widths], widths)))


class Generator(nn.Module):
    """image (B, 3, S, S) in [-1, 1] -> the same."""

    def __init__(self, width):
        super().__init__()
        widths = [width, 2 * width, 4 * width, 8 * width]
        self.downs = downs(widths)
        self.ups = nn.Sequential(*(Up(2 * c, c) for c in reversed(widths[:-1])))
        self.to_rgb = nn.ConvTranspose2d(width, 3, 4, 2, 1, bias=False)

    def forward(self, image):
        x = self.to_rgb(self.ups(self.downs(image / 2 + 0.5)))
        return torch.sigmoid(x) * 2 - 1


class Discriminator(nn.Module):
    """image (B, 3, S, S) in [-1, 1] -> logits (B, 1)."""

    def __init__(self, size, width):
        super().__init__()
        self.downs = downs([width * min(2**i, 8) for i in range(size.bit_length() - 3)])
        self.logit = nn.Conv2d(self.downs[-1].conv.out_channels, 1, 4, bias=False)

    def forward(self, image):
        return self.logit(self.downs(image / 2 + 0.5)).flatten(1)


class DiscoGAN(Translators):
    rate, betas, weight_decay = 2e-4, (0.5, 0.999), 1e-4

    def __init__(self, mode, size, width):
        critics = {f"discriminator_{end}": Discriminator(size, width) for end in "ab"}
        super().__init__(mode, {k: Generator(width) for k in ("a2b", "b2a")}, critics)

    def optimizer(self, weights):
        return torch.optim.Adam(
            weights, self.rate, self.betas, weight_decay=self.weight_decay, fused=True
        )

    def __call__(self, batch):
        x, y = (batch[name].contiguous(memory_format=torch.channels_last) for name in self.keys)
        self.discriminators.requires_grad_(False)
        to_y, to_x = self.run["a2b"](x), self.run["b2a"](y)
        again_x, again_y = self.run["b2a"](to_y), self.run["a2b"](to_x)
        D_A, D_B = self.run["discriminator_a"], self.run["discriminator_b"]
        gan = sum(functional.softplus(-D(z)).mean() for D, z in ((D_A, to_x), (D_B, to_y)))
        pairs = (again_x, x), (again_y, y)
        found = {"gan": gan, "reconstruction": sum(functional.mse_loss(*p) / 4 for p in pairs)}
        self.update(sum(found.values()), self.g_optimizer)
        self.discriminators.requires_grad_(True)
        for name, real, fake in (("discriminator_a", x, to_x), ("discriminator_b", y, to_y)):
            D = self.run[name]
            found[name] = functional.softplus(-D(real)).mean()
            found[name] = found[name] + functional.softplus(D(fake.detach())).mean()
        self.update(found["discriminator_a"] + found["discriminator_b"], self.d_optimizer)
        self.update_average()
        return {name: loss.item() for name, loss in found.items()}
