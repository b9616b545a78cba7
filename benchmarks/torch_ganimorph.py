"""GANimorph and its training step in PyTorch, to compare with ours.

The layers, sizes, losses and optimisers are those of zoo.ganimorph and of trainers.ganimorph with
default options; the learning rate is that of the first steps. Instance normalisation is group_norm
with one channel per group.
"""

import torch
from torch import nn
from torch.nn import functional

from . import torch_translators
from .torch_translators import random_crops


class Layer(nn.Module):
    """A convolution without bias, instance normalisation, and a leaky ReLU of a slope."""

    def __init__(self, convolution, slope=0.2):
        super().__init__()
        self.convolution, self.slope = convolution, slope
        self.norm = nn.GroupNorm(convolution.out_channels, convolution.out_channels)

    def forward(self, x):
        return functional.leaky_relu(self.norm(self.convolution(x)), self.slope)


def flat(inputs, outputs, rate=1):
    return Layer(nn.Conv2d(inputs, outputs, 3, 1, rate, rate, bias=False))


def down(inputs, outputs):
    return Layer(nn.Conv2d(inputs, outputs, 4, 2, 1, bias=False))


def up(inputs, outputs):
    return Layer(nn.ConvTranspose2d(inputs, outputs, 4, 2, 1, bias=False), 0.0)


class Residual(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.first, self.second = flat(inputs, outputs), flat(outputs, outputs)
        self.third = flat(inputs + outputs, outputs)

    def forward(self, x):
        return self.third(torch.cat([x, self.second(self.first(x))], 1))


def residuals(inputs, outputs, blocks):
    widths = [inputs, *[outputs] * blocks]
    return [Residual(a, b) for a, b in zip(widths, widths[1:])]


class Generator(nn.Module):
    """image in [-1, 1] -> (translated, None)."""

    def __init__(self, width, blocks):
        super().__init__()
        w = [width * 2**i for i in range(4)]
        self.first = nn.Conv2d(3, w[0], 4, 2, 1, bias=False)
        self.downs = nn.ModuleList(
            nn.Sequential(down(a, b), *residuals(b, b, blocks)) for a, b in zip(w, w[1:])
        )
        parts = []
        for inputs, outputs in ((w[3], w[2]), (w[2], w[1])):
            parts += [up(inputs, outputs), nn.Sequential(*residuals(2 * outputs, outputs, blocks))]
        self.ups = nn.ModuleList(parts)
        self.up0 = up(w[1], w[0])
        self.to_rgb = nn.ConvTranspose2d(w[0], 3, 4, 2, 1, bias=False)

    def forward(self, image):
        x, maps = functional.leaky_relu(self.first((image + 1) / 2), 0.2), []
        for part in self.downs:
            x = part(x)
            maps.append(x)
        for i, beside in ((0, maps[1]), (2, maps[0])):
            x = self.ups[i + 1](torch.cat([self.ups[i](x), beside], 1))
        return 2 * torch.sigmoid(self.to_rgb(self.up0(x))) - 1, None


class Discriminator(nn.Module):
    """image in [-1, 1] -> (logits, [feature map])."""

    def __init__(self, width):
        super().__init__()
        w = 8 * width
        self.first = nn.Conv2d(3, w // 4, 4, 2, 1, bias=False)
        self.layers = nn.ModuleList([down(w // 4, w // 2), down(w // 2, w), flat(w, w)])
        self.layers.extend(flat(w, w, rate) for rate in (2, 4, 8))
        self.merged = flat(2 * w, w)
        self.logits = nn.Conv2d(w, 1, 4, bias=False)

    def forward(self, image):
        x, maps = functional.leaky_relu(self.first((image + 1) / 2), 0.2), []
        for layer in self.layers:
            x = layer(x)
            maps.append(x)
        maps.append(self.merged(torch.cat([maps[2], x], 1)))
        return self.logits(functional.pad(maps[-1], (1, 2, 1, 2))), maps


def ssim_kernel(channels):
    off = torch.arange(8) - 3.5
    line = torch.exp(-(off**2) / 4.5)
    line = line / line.sum()
    return (line[:, None] * line).expand(channels, 1, 8, 8)


@torch.autocast("cpu", enabled=False)
def structure(a, b):
    """1 - MS-SSIM of images (B, C, S, S) in [0, 1]."""
    weights, value = torch.tensor([0.0448, 0.2856, 0.3001, 0.2363, 0.1333]), 1.0
    weights = weights[: (a.shape[2] // 8).bit_length()]
    a, b = a.float(), b.float()
    kernel = ssim_kernel(5 * a.shape[1])
    for level, weight in enumerate(weights / weights.sum(), 1):
        x = torch.cat([a, b, a * a, b * b, a * b], 1)
        mu_a, mu_b, aa, bb, ab = functional.conv2d(x, kernel, groups=len(kernel)).chunk(5, 1)
        cs = 2 * (ab - mu_a * mu_b).abs() + 0.05**2
        cs = cs / (aa - mu_a**2 + bb - mu_b**2 + 0.05**2)
        if level == len(weights):
            cs = cs * (2 * mu_a * mu_b + 0.03**2) / (mu_a**2 + mu_b**2 + 0.03**2)
        value = value * cs.mean((2, 3)) ** weight
        a, b = functional.avg_pool2d(a, 2), functional.avg_pool2d(b, 2)
    return 1 - value.mean()


class GANimorph(torch_translators.CycleGAN):
    generator, discriminator, pool = Generator, Discriminator, 0
    weights = {"gan": 0.49, "features": 0.21, "structure": 0.3 * 0.7, "cycle": 0.3 * 0.3}
    d_every, normalise_every, normalise_decay = 2, 200, 0.99
    averages = divisors = torch.ones(4)

    def __call__(self, batch):
        x, y = (random_crops(batch[name], self.size) for name in ("image_a", "image_b"))
        G, F = self.run["a2b"], self.run["b2a"]
        (to_y, _), (to_x, _) = G(x), F(y)
        terms = dict.fromkeys(self.weights, 0.0)
        d_losses = {}
        for name, real, fake in (("discriminator_a", x, to_x), ("discriminator_b", y, to_y)):
            (real, real_maps), (fake, fake_maps) = self.run[name](real), self.run[name](fake)
            d_losses[name] = self.bce(-real) / 2 + self.bce(fake) / 2
            terms["gan"] += self.bce(-fake)
            for a, b in zip(real_maps, fake_maps):
                gap = a.detach().float().mean(0) - b.float().mean(0)
                terms["features"] += gap.square().mean() / len(real_maps)
        for image, again in ((x, F(to_y)[0]), (y, G(to_x)[0])):
            terms["structure"] += structure((image + 1) / 2, (again + 1) / 2)
            terms["cycle"] += functional.l1_loss(again, image) / 2
        loss = sum(
            weight * terms[name] / (divisor.item() + 1e-10)
            for (name, weight), divisor in zip(self.weights.items(), self.divisors)
        )
        self.step_alone(loss, self.g_optimizer)
        if self.steps % self.d_every == 0:
            self.step_alone(sum(d_losses.values()), self.d_optimizer)
        self.update_average()
        self.steps += 1
        values = torch.stack([term.detach() for term in terms.values()])
        self.averages = self.averages.lerp(values, 1 - self.normalise_decay)
        if self.steps % self.normalise_every == 0:
            self.divisors = self.averages
        return {name: value.item() for name, value in (terms | d_losses).items()}

    @staticmethod
    def bce(logits):
        return functional.softplus(logits.float()).mean()

    @staticmethod
    def step_alone(loss, optimizer):
        """A step of one optimiser; other weights that the loss depends on get no gradients."""
        weights = optimizer.param_groups[0]["params"]
        with torch.autocast("cpu", enabled=False):
            for w, gradient in zip(weights, torch.autograd.grad(loss, weights, retain_graph=True)):
                w.grad = gradient
            optimizer.step()
        torch.clear_autocast_cache()
