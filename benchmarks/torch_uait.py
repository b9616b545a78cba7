"""UAIT and its training step in PyTorch, to compare with ours.

The layers, sizes, losses and optimiser are those of zoo.uait and trainers.uait with default
options, in the first of the two stages, where the history buffers need no masks.
"""

import torch
from torch import nn
from torch.nn import functional

from .torch_translators import CycleGAN, reflect_pad


class Normal(nn.Module):
    """A convolution with instance normalisation, which has scale and offset."""

    def __init__(self, conv):
        super().__init__()
        self.conv, channels = conv, conv.out_channels
        self.affine = nn.GroupNorm(channels, channels)

    def forward(self, x):
        return self.affine(self.conv(x))


def conv(inputs, outputs, side, **options):
    return Normal(nn.Conv2d(inputs, outputs, side, **options))


def same(x):
    """Padding as TensorFlow's for kernels of 3 and stride 2."""
    return functional.pad(x, (0, 1, 0, 1))


class Residual(nn.Module):
    def __init__(self, filters, reflect=False):
        super().__init__()
        mode = "reflect" if reflect else "zeros"
        options = {"padding": 1, "padding_mode": mode}
        self.first, self.second = (conv(filters, filters, 3, **options) for _ in range(2))

    def forward(self, x):
        return torch.relu(x + self.second(torch.relu(self.first(x))))


class Content(nn.Module):
    """F: image -> image."""

    def __init__(self, width, blocks):
        super().__init__()
        self.stem = conv(3, width, 7, padding=3)
        self.downs = nn.ModuleList(conv(c, 2 * c, 3, stride=2) for c in (width, 2 * width))
        self.blocks = nn.Sequential(*(Residual(4 * width) for _ in range(blocks)))
        self.ups = nn.ModuleList(
            Normal(nn.ConvTranspose2d(2 * c, c, 3, 2)) for c in (2 * width, width)
        )
        self.to_rgb = nn.Conv2d(width, 3, 7, padding=3)

    def forward(self, x):
        x = torch.relu(self.stem(x))
        for down in self.downs:
            x = torch.relu(down(same(x)))
        x = self.blocks(x)
        for up in self.ups:
            large = up.conv(x)[..., :-1, :-1]
            x = torch.relu(up.affine(large))
        return torch.tanh(self.to_rgb(x))


class Attention(nn.Module):
    """A: image -> mask (B, 1, S, S)."""

    def __init__(self, width):
        super().__init__()
        self.stem = conv(3, width, 7, stride=2)
        self.down = conv(width, 2 * width, 3, stride=2)
        self.block = Residual(2 * width, reflect=True)
        self.ups = nn.ModuleList((conv(2 * width, 2 * width, 1), conv(2 * width, width, 1)))
        self.logit = nn.Conv2d(width, 1, 1)

    def forward(self, x):
        x = torch.relu(self.stem(reflect_pad(x, 3)))
        x = self.block(torch.relu(self.down(same(x))))
        for up in self.ups:
            x = torch.relu(up(functional.interpolate(x, scale_factor=2)))
        return torch.sigmoid(self.logit(x))


class Generator(nn.Module):
    """image -> (translated, mask)."""

    def __init__(self, width, blocks):
        super().__init__()
        self.content, self.attention = Content(width, blocks), Attention(width)

    def forward(self, image):
        mask = self.attention(image)
        return mask * self.content(image) + (1 - mask) * image, mask


class Discriminator(nn.Module):
    def __init__(self, width):
        super().__init__()
        widths = [3, width, 2 * width, 4 * width, 8 * width]
        self.downs = nn.ModuleList(
            conv(a, b, 4, stride=2 if i < 3 else 1, padding=2)
            for i, (a, b) in enumerate(zip(widths, widths[1:]))
        )
        self.logits = nn.Conv2d(widths[-1], 1, 4, padding=2)

    def forward(self, x):
        for down in self.downs:
            x = functional.leaky_relu(down(x), 0.2)
        return self.logits(x)


class UAIT(CycleGAN):
    rate = 1e-4

    def make_networks(self, width, blocks):
        generators = {name: Generator(width, blocks) for name in ("a2b", "b2a")}
        return generators, {f"discriminator_{end}": Discriminator(2 * width) for end in "ab"}
