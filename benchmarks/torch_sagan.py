"""SAGAN and its training step in PyTorch, to compare with ours.

The layers, sizes, losses, optimisers and moving average are those of zoo.sagan, with its default
options, and trainers.sagan, with one power iteration per call of a layer.
"""

import torch
from torch import nn
from torch.nn import functional

from . import torch_gan


def spectral_norm(weight, u):
    """W (O, ...) -> W / (u^T W v); updates u (O,) by one power iteration."""
    matrix = weight.movedim(1, -1).flatten(1)  # no copy if W is channels-last
    with torch.no_grad():
        v = functional.normalize(u @ matrix, dim=0)
        new = functional.normalize(matrix @ v, dim=0)
        u.copy_(new)
    return weight / (new @ (matrix @ v))


class Conv(nn.Conv2d):
    def __init__(self, inputs, outputs, side, bias=True):
        super().__init__(inputs, outputs, side, padding=side // 2, bias=bias)
        self.register_buffer("u", functional.normalize(torch.randn(outputs), dim=0))

    def forward(self, x):
        weight = spectral_norm(self.weight, self.u)
        return functional.conv2d(x, weight, self.bias, padding=self.padding)


class Linear(nn.Linear):
    def __init__(self, inputs, outputs):
        super().__init__(inputs, outputs)
        self.register_buffer("u", functional.normalize(torch.randn(outputs), dim=0))

    def forward(self, x):
        return functional.linear(x, spectral_norm(self.weight, self.u), self.bias)


class Attention(nn.Module):
    """x (B, C, H, W) -> x + gamma o."""

    def __init__(self, channels):
        super().__init__()
        inner = max(1, channels // 8)
        self.query, self.key = (Conv(channels, inner, 1, bias=False) for _ in range(2))
        self.value = Conv(channels, channels, 1, bias=False)
        self.gamma = nn.Parameter(torch.zeros(()))

    def forward(self, x):
        q, k, v = (f(x).flatten(2).transpose(1, 2) for f in (self.query, self.key, self.value))
        beta = torch.softmax(q @ k.transpose(1, 2), -1)  # (B, N, N)
        return x + self.gamma * (beta @ v).transpose(1, 2).unflatten(2, x.shape[2:])


def double(x):
    return functional.interpolate(x, scale_factor=2)


class Up(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs, momentum=0.1)
        self.conv1 = Conv(inputs, outputs, 3)
        self.bn2 = nn.BatchNorm2d(outputs, momentum=0.1)
        self.skip = Conv(inputs, outputs, 1)
        self.conv2 = Conv(outputs, outputs, 3)

    def forward(self, x):
        y = self.conv1(double(functional.relu(self.bn1(x))))
        return self.conv2(functional.relu(self.bn2(y))) + double(self.skip(x))


class Residue(nn.Module):
    def __init__(self, inputs, outputs, first=False):
        super().__init__()
        self.first = first
        self.conv1, self.conv2 = Conv(inputs, outputs, 3), Conv(outputs, outputs, 3)

    def forward(self, x):
        x = x if self.first else functional.relu(x)
        return self.conv2(functional.relu(self.conv1(x)))


class Down(nn.Module):
    def __init__(self, inputs, outputs, first):
        super().__init__()
        self.residue = Residue(inputs, outputs, first)
        self.skip = Conv(inputs, outputs, 1)

    def forward(self, x):
        return functional.avg_pool2d(self.residue(x), 2) + self.skip(functional.avg_pool2d(x, 2))


class Generator(nn.Module):
    """z -> image; the second argument, the real images, is not used."""

    def __init__(self, size, latent, width):
        super().__init__()
        sizes = [2**n for n in range(2, size.bit_length())]  # 4, ..., S
        widths = [width * min(size // s, 16) for s in sizes]
        self.project = Linear(latent, 16 * widths[0])
        blocks = []
        for s, inputs, outputs in zip(sizes[1:], widths, widths[1:]):
            blocks += [Up(inputs, outputs), *[Attention(outputs)] * (s == min(32, size // 2))]
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.BatchNorm2d(width, momentum=0.1)
        self.to_rgb = Conv(width, 3, 3)

    def forward(self, z, _=None):
        x = self.project(z).view(len(z), 4, 4, -1).permute(0, 3, 1, 2)  # channels-last
        return torch.tanh(self.to_rgb(functional.relu(self.norm(self.blocks(x)))))


class Discriminator(nn.Module):
    def __init__(self, size, width):
        super().__init__()
        sizes = [2**n for n in reversed(range(2, size.bit_length() - 1))]  # S / 2, ..., 4
        widths = [3, *(width * min(size // (2 * s), 16) for s in sizes)]
        blocks = []
        for s, inputs, outputs in zip(sizes, widths, widths[1:]):
            blocks += [Down(inputs, outputs, first=not blocks)]
            blocks += [Attention(outputs)] * (s == min(32, size // 2))
        self.blocks = nn.Sequential(*blocks)
        self.last = Residue(widths[-1], widths[-1])
        self.logit = Linear(widths[-1], 1)

    def forward(self, x):
        x = self.blocks(x)
        return self.logit(functional.relu(x + self.last(x)).sum((2, 3)))


class SAGAN(torch_gan.DCGAN):
    rates, betas = (1e-4, 4e-4), (0.0, 0.9)

    @staticmethod
    def build_networks(size, latent, width):
        return Generator(size, latent, width), Discriminator(size, width)

    @staticmethod
    def d_loss(real, fake):
        return functional.relu(1 - real).mean() + functional.relu(1 + fake).mean()

    @staticmethod
    def g_loss(fake):
        return -fake.mean()
