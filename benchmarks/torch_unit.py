"""UNIT and its training step in PyTorch, to compare with ours.

The layers, sizes, losses and optimiser are those of zoo.unit and trainers.unit with default
options; a step's two updates share one pass, as there.
"""

import math

import torch
from torch import nn
from torch.nn import functional

from . import torch_step
from .torch_translators import Unit, norm_relu, random_crops

LEVELS, SLOPE = 6, 0.01


def residuals(width, count):
    return nn.Sequential(*(Unit(4 * width) for _ in range(count)))


class Encoder(nn.Module):
    """image -> the mean of z."""

    def __init__(self, width, blocks, shared):
        super().__init__()
        self.stem = nn.Conv2d(3, width, 7, padding=3)
        self.downs = nn.ModuleList(nn.Conv2d(c, 2 * c, 3, 2, 1) for c in (width, 2 * width))
        self.blocks, self.shared = residuals(width, blocks), shared

    def forward(self, x):
        x = functional.leaky_relu(self.stem(x), SLOPE)
        for down in self.downs:
            x = norm_relu(down(x))
        return self.shared(self.blocks(x))


class Decoder(nn.Module):
    """z -> image."""

    def __init__(self, width, blocks, shared):
        super().__init__()
        self.shared, self.blocks = shared, residuals(width, blocks)
        self.ups = nn.ModuleList(
            nn.ConvTranspose2d(2 * c, c, 3, 2, 1, output_padding=1) for c in (2 * width, width)
        )
        self.to_rgb = nn.Conv2d(width, 3, 1)

    def forward(self, z):
        x = self.blocks(self.shared(z))
        for up in self.ups:
            x = norm_relu(up(x))
        return torch.tanh(self.to_rgb(x))


class Discriminator(nn.Module):
    def __init__(self, size, width):
        super().__init__()
        levels = min(LEVELS, math.ceil(math.log2(size / 4)))
        widths = [3, *(width * 2**i for i in range(levels))]
        self.downs = nn.ModuleList(nn.Conv2d(a, b, 3, 2, 1) for a, b in zip(widths, widths[1:]))
        self.logits = nn.Conv2d(widths[-1], 1, 1)

    def forward(self, x):
        for down in self.downs:
            x = functional.leaky_relu(down(x), SLOPE)
        return self.logits(x)


def square(x):
    return x.float().square().mean()


class UNIT(torch_step.Step):
    decay, rate, betas, weight_decay = 0.0, 1e-4, (0.5, 0.999), 1e-4
    lambda_gan, lambda_code, lambda_again = 10.0, 0.1, 100.0

    def __init__(self, mode, size, width, blocks, shared):
        own, parts = blocks - shared, {}
        for kind, make in (("encoder", Encoder), ("decoder", Decoder)):
            common = residuals(width, shared)
            parts |= {f"{kind}_{end}": make(width, own, common) for end in "ab"}
        critics = {f"discriminator_{end}": Discriminator(size, width) for end in "ab"}
        super().__init__(mode, parts | critics, parts)
        self.size, self.discriminators = size, nn.ModuleList(critics.values())
        self.autoencoders = nn.ModuleList(parts.values())  # parameters() has each once
        both = (self.autoencoders, self.discriminators)
        self.parameters = sum(p.numel() for module in both for p in module.parameters())
        self.g_optimizer, self.d_optimizer = map(self.adam, both)

    def adam(self, module):
        options = {"weight_decay": self.weight_decay, "fused": True}
        return torch.optim.Adam(module.parameters(), self.rate, self.betas, **options)

    def noise(self, shape, stream):
        return torch.randn(shape).contiguous(memory_format=torch.channels_last)

    def draw(self, mean, stream):
        return mean.float() + self.noise(mean.shape, stream)

    def update_discriminators(self, pairs):
        losses, total = {}, 0.0
        for name, (real, fake) in pairs.items():
            D = self.run[name]
            loss = functional.softplus(-D(real)).mean() + functional.softplus(D(fake)).mean()
            losses[name], total = loss, total + self.lambda_gan * loss
        self.update(total, self.d_optimizer)
        return losses

    def __call__(self, batch):
        x, y = (random_crops(batch[name], self.size) for name in ("image_a", "image_b"))
        E_a, E_b, G_a, G_b = (
            self.run[name] for name in ("encoder_a", "encoder_b", "decoder_a", "decoder_b")
        )
        l1 = functional.l1_loss
        mean_x, mean_y = E_a(x), E_b(y)
        z_x, z_y = self.draw(mean_x, 2), self.draw(mean_y, 3)
        same_x, to_y, same_y, to_x = G_a(z_x), G_b(z_x), G_b(z_y), G_a(z_y)
        pairs = {"discriminator_a": (x, to_x.detach()), "discriminator_b": (y, to_y.detach())}
        d_losses = self.update_discriminators(pairs)
        mean_to_y, mean_to_x = E_b(to_y), E_a(to_x)
        again_x, again_y = G_a(self.draw(mean_to_y, 4)), G_b(self.draw(mean_to_x, 5))
        self.discriminators.requires_grad_(False)
        judged = self.run["discriminator_a"](to_x), self.run["discriminator_b"](to_y)
        losses = {
            "gan": sum(functional.softplus(-logits).mean() for logits in judged),
            "code": square(mean_x) + square(mean_y),
            "reconstruction": l1(same_x, x) + l1(same_y, y),
            "cycle_code": square(mean_to_y) + square(mean_to_x),
            "cycle": l1(again_x, x) + l1(again_y, y),
        }
        loss = self.lambda_gan * losses["gan"]
        loss = loss + self.lambda_code * (losses["code"] + losses["cycle_code"])
        loss = loss + self.lambda_again * (losses["reconstruction"] + losses["cycle"])
        self.update(loss, self.g_optimizer)
        self.discriminators.requires_grad_(True)
        self.update_average()
        return {name: value.item() for name, value in (losses | d_losses).items()}
