"""The zoo's CycleGAN and AttentionGAN (scheme 2) and their steps in PyTorch: the other side of the
benchmark.

Same layers, sizes, losses, optimiser, pools and average as zoo.cyclegan, zoo.attention_gan and
trainers of the same names at their defaults, while the learning rate and the curriculum's r are
those of a run's first steps. Instance normalisation is a group normalisation with a group for each
channel, which on channels-last maps PyTorch does three times as fast as its instance_norm.
"""

import torch
from torch import nn
from torch.nn import functional

from . import torch_step


def active(x):
    """Instance normalisation and ReLU."""
    return functional.relu(functional.group_norm(x, x.shape[1]))


def reflected(x, by):
    return functional.pad(x, (by, by, by, by), mode="reflect")


class Residual(nn.Module):
    def __init__(self, filters):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(filters, filters, 3), nn.Conv2d(filters, filters, 3)

    def forward(self, x):
        y = self.conv2(reflected(active(self.conv1(reflected(x, 1))), 1))
        return x + functional.group_norm(y, y.shape[1])


class Encoder(nn.Module):
    """image -> features (B, 4 width, S / 4, S / 4)."""

    def __init__(self, width, blocks):
        super().__init__()
        self.stem = nn.Conv2d(3, width, 7)
        self.downs = nn.ModuleList(nn.Conv2d(c, 2 * c, 3, 2, 1) for c in (width, 2 * width))
        self.blocks = nn.Sequential(*(Residual(4 * width) for _ in range(blocks)))

    def forward(self, x):
        x = active(self.stem(reflected(x, 3)))
        for down in self.downs:
            x = active(down(x))
        return self.blocks(x)


class Decoder(nn.Module):
    """features -> (B, filters, S, S)."""

    def __init__(self, width, filters, side):
        super().__init__()
        self.ups = nn.ModuleList(
            nn.ConvTranspose2d(2 * c, c, 3, 2, 1, output_padding=1) for c in (2 * width, width)
        )
        self.last = nn.Conv2d(width, filters, side)

    def forward(self, x):
        for up in self.ups:
            x = active(up(x))
        by = self.last.kernel_size[0] // 2
        return self.last(reflected(x, by) if by else x)


class Generator(nn.Module):
    """image -> (translated, None), or of AttentionGAN (translated, masks (B, masks, S, S))."""

    def __init__(self, width, blocks, masks=None):
        super().__init__()
        self.encoder = Encoder(width, blocks)
        self.content = Decoder(width, 3 * (masks - 1) if masks else 3, 7)
        self.mask = Decoder(width, masks, 1) if masks else None

    def forward(self, image):
        x = self.encoder(image)
        content = torch.tanh(self.content(x))
        if self.mask is None:
            return content, None
        masks = torch.softmax(self.mask(x), 1)
        parts = content.unflatten(1, (-1, 3)) * masks[:, :-1, None]  # C_i A_i
        return parts.sum(1) + image * masks[:, -1:], masks


class Discriminator(nn.Module):
    def __init__(self, width):
        super().__init__()
        widths = [3, width, 2 * width, 4 * width, 8 * width, 1]
        self.downs = nn.ModuleList(
            nn.Conv2d(a, b, 4, 2 if i < 3 else 1, 1)
            for i, (a, b) in enumerate(zip(widths, widths[1:]))
        )

    def forward(self, x):
        for i, down in enumerate(self.downs):
            x = down(x)
            if 0 < i < 4:
                x = functional.group_norm(x, x.shape[1])
            if i < 4:
                x = functional.leaky_relu(x, 0.2)
        return x


class CycleGAN(torch_step.Step):
    decay, rate, betas, lambda_cycle, pool = 0.0, 2e-4, (0.5, 0.999), 10.0, 50

    def __init__(self, mode, size, **options):
        generators = {name: Generator(**options) for name in ("a2b", "b2a")}
        judges = {f"discriminator_{end}": Discriminator(options["width"]) for end in "ab"}
        super().__init__(mode, generators | judges, generators)
        self.size, self.judges = size, nn.ModuleList(judges.values())
        self.g_optimizer, self.d_optimizer = (
            self.adam([p for m in group for p in m.parameters()])
            for group in (generators.values(), self.judges)
        )
        shape = (self.pool, 3, size, size)
        kept = torch.zeros(shape).contiguous(memory_format=torch.channels_last)
        self.pools, self.steps = {name: kept.clone() for name in judges}, 0

    def adam(self, weights):
        return torch.optim.Adam(weights, self.rate, self.betas, fused=True)

    def drawn(self, x):
        """Images (B, 3, L, L), each cut out to S x S at random and mirrored or not."""
        spare = x.shape[2] - self.size + 1
        rows, columns = torch.randint(spare, (2, len(x))).tolist()
        cut = [i[:, r:, c:][:, : self.size, : self.size] for i, r, c in zip(x, rows, columns)]
        (cut,) = torch_step.mirrored(torch.stack(cut))
        return cut.contiguous(memory_format=torch.channels_last)

    def pooled(self, name, fake):
        """What a discriminator judges in place of images of now: CycleGAN's history."""
        judged, pool = fake.clone(), self.pools[name]
        for i, image in enumerate(fake):
            seen = self.steps * len(fake) + i
            if seen < self.pool:
                pool[seen] = image
            elif torch.rand(()) < 0.5:
                place = torch.randint(self.pool, ())
                judged[i], pool[place] = pool[place].clone(), image
        return judged

    @staticmethod
    def fooled(logits):
        return (logits - 1).square().mean()

    @staticmethod
    def judged(real, fake):
        return (real - 1).square().mean() / 2 + fake.square().mean() / 2

    def terms(self, x, y, to_x, to_y):
        """{name: loss} of the generators, of images and what they became: (translated, masks)."""
        G, F = self.run["a2b"], self.run["b2a"]
        again_x, again_y = F(to_y[0])[0], G(to_x[0])[0]
        judges = (self.run["discriminator_a"], to_x[0]), (self.run["discriminator_b"], to_y[0])
        return {
            "gan": sum(self.fooled(D(fake)) for D, fake in judges),
            "cycle": functional.l1_loss(again_x, x) + functional.l1_loss(again_y, y),
        }

    def objective(self, terms):
        return terms["gan"] + self.lambda_cycle * terms["cycle"]

    def __call__(self, batch):
        x, y = (self.drawn(batch[name]) for name in ("image_a", "image_b"))
        self.judges.requires_grad_(False)
        to_y, to_x = self.run["a2b"](x), self.run["b2a"](y)
        found = self.terms(x, y, to_x, to_y)
        self.update(self.objective(found), self.g_optimizer)
        self.judges.requires_grad_(True)
        for name, real, made in (("discriminator_a", x, to_x), ("discriminator_b", y, to_y)):
            D, fake = self.run[name], self.pooled(name, made[0].detach())
            found[name] = self.judged(D(real), D(fake))
        self.update(found["discriminator_a"] + found["discriminator_b"], self.d_optimizer)
        self.update_average()
        self.steps += 1
        return {name: loss.item() for name, loss in found.items()}


def total_variation(masks):
    rows, columns = masks.diff(dim=2).abs(), masks.diff(dim=3).abs()
    return (rows.sum((1, 2, 3)) + columns.sum((1, 2, 3))).mean()


class AttentionGAN(CycleGAN):
    lambda_gan, lambda_pixel, lambda_tv, r = 0.5, 1.0, 1e-6, 0.01

    @staticmethod
    def fooled(logits):
        return functional.softplus(-logits).mean()

    @staticmethod
    def judged(real, fake):
        return functional.softplus(-real).mean() + functional.softplus(fake).mean()

    def terms(self, x, y, to_x, to_y):
        pixel = functional.l1_loss(to_y[0], x) + functional.l1_loss(to_x[0], y)
        tv = total_variation(to_y[1]) + total_variation(to_x[1])
        return super().terms(x, y, to_x, to_y) | {"pixel": pixel, "tv": tv}

    def objective(self, terms):
        reconstruction = self.lambda_cycle * terms["cycle"] + self.lambda_pixel * terms["pixel"]
        game = self.lambda_gan * terms["gan"] + self.lambda_tv * terms["tv"]
        return reconstruction * self.r + game * (1 - self.r)
