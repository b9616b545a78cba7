"""CycleGAN, AttentionGAN (scheme 2) and RA and their training steps in PyTorch, to compare with
ours.

The layers, sizes, losses, optimiser, history buffers and moving average are those of zoo.cyclegan,
zoo.attention_gan and zoo.ra and of the trainers of the same names with default options; the
learning rate and the curriculum's r are those of the first steps. Instance normalisation is
group_norm with one channel per group, which is three times as fast as instance_norm on
channels-last tensors.
"""

import torch
from torch import nn
from torch.nn import functional

from . import torch_step


def norm_relu(x):
    """Instance normalisation and ReLU."""
    return functional.relu(functional.group_norm(x, x.shape[1]))


def reflect_pad(x, width):
    return functional.pad(x, (width, width, width, width), mode="reflect")


class Residual(nn.Module):
    def __init__(self, filters):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(filters, filters, 3), nn.Conv2d(filters, filters, 3)

    def forward(self, x):
        y = self.conv2(reflect_pad(norm_relu(self.conv1(reflect_pad(x, 1))), 1))
        return x + functional.group_norm(y, y.shape[1])


class Encoder(nn.Module):
    """image -> features (B, 4 width, S / 4, S / 4)."""

    def __init__(self, width, blocks):
        super().__init__()
        self.stem = nn.Conv2d(3, width, 7)
        self.downs = nn.ModuleList(nn.Conv2d(c, 2 * c, 3, 2, 1) for c in (width, 2 * width))
        self.blocks = nn.Sequential(*(Residual(4 * width) for _ in range(blocks)))

    def forward(self, x):
        x = norm_relu(self.stem(reflect_pad(x, 3)))
        for down in self.downs:
            x = norm_relu(down(x))
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
            x = norm_relu(up(x))
        padding = self.last.kernel_size[0] // 2
        return self.last(reflect_pad(x, padding) if padding else x)


class Generator(nn.Module):
    """image -> (translated, None); for AttentionGAN (translated, masks (B, masks, S, S))."""

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


def random_crops(x, size):
    """Crops images (B, 3, L, L) to size x size and flips them, at random."""
    count = x.shape[2] - size + 1
    rows, columns = torch.randint(count, (2, len(x))).tolist()
    crops = [i[:, r:, c:][:, :size, :size] for i, r, c in zip(x, rows, columns)]
    (x,) = torch_step.random_flip(torch.stack(crops))
    return x.contiguous(memory_format=torch.channels_last)


class Translators(torch_step.Step):
    """A step of two generators and two discriminators, {name: module} each.

    A subclass defines `optimizer`: weights -> their optimiser.
    """

    decay, keys = 0.0, ("image_a", "image_b")

    def __init__(self, mode, generators, discriminators):
        super().__init__(mode, generators | discriminators, generators)
        self.discriminators = nn.ModuleList(discriminators.values())
        self.g_optimizer, self.d_optimizer = (
            self.optimizer([p for m in group for p in m.parameters()])
            for group in (generators.values(), self.discriminators)
        )


class CycleGAN(Translators):
    generator, discriminator = Generator, Discriminator
    rate, betas, lambda_cycle, pool = 2e-4, (0.5, 0.999), 10.0, 50

    def __init__(self, mode, size, **options):
        generators, critics = self.make_networks(**options)
        super().__init__(mode, generators, critics)
        self.size, shape = size, (self.pool, 3, size, size)
        empty = torch.zeros(shape).contiguous(memory_format=torch.channels_last)
        self.pools, self.steps = {name: empty.clone() for name in critics}, 0

    def make_networks(self, **options):
        """({direction: generator}, {name: discriminator})."""
        generators = {name: self.generator(**options) for name in ("a2b", "b2a")}
        critics = {f"discriminator_{end}": self.discriminator(options["width"]) for end in "ab"}
        return generators, critics

    def optimizer(self, weights):
        return torch.optim.Adam(weights, self.rate, self.betas, fused=True)

    def from_history_buffer(self, name, fake):
        """Generated images for a discriminator, half of them replaced by earlier ones."""
        images, pool = fake.clone(), self.pools[name]
        for i, image in enumerate(fake):
            index = self.steps * len(fake) + i
            if index < self.pool:
                pool[index] = image
            elif torch.rand(()) < 0.5:
                index = torch.randint(self.pool, ())
                images[i], pool[index] = pool[index].clone(), image
        return images

    @staticmethod
    def adversarial_loss(logits):
        return (logits - 1).square().mean()

    @staticmethod
    def discriminator_loss(real, fake):
        return (real - 1).square().mean() / 2 + fake.square().mean() / 2

    def loss_terms(self, x, y, to_x, to_y):
        """{name: loss} of the generators. to_x, to_y: the outputs for y and x."""
        G, F = self.run["a2b"], self.run["b2a"]
        again_x, again_y = F(to_y[0])[0], G(to_x[0])[0]
        pairs = (self.run["discriminator_a"], to_x[0]), (self.run["discriminator_b"], to_y[0])
        return {
            "gan": sum(self.adversarial_loss(D(fake)) for D, fake in pairs),
            "cycle": functional.l1_loss(again_x, x) + functional.l1_loss(again_y, y),
        }

    def objective(self, terms):
        return terms["gan"] + self.lambda_cycle * terms["cycle"]

    def __call__(self, batch):
        x, y = (random_crops(batch[name], self.size) for name in ("image_a", "image_b"))
        self.discriminators.requires_grad_(False)
        to_y, to_x = self.run["a2b"](x), self.run["b2a"](y)
        losses = self.loss_terms(x, y, to_x, to_y)
        self.update(self.objective(losses), self.g_optimizer)
        self.discriminators.requires_grad_(True)
        for name, real, (fake, _) in (("discriminator_a", x, to_x), ("discriminator_b", y, to_y)):
            D, fake = self.run[name], self.from_history_buffer(name, fake.detach())
            losses[name] = self.discriminator_loss(D(real), D(fake))
        self.update(losses["discriminator_a"] + losses["discriminator_b"], self.d_optimizer)
        self.update_average()
        self.steps += 1
        return {name: loss.item() for name, loss in losses.items()}


def total_variation(masks):
    rows, columns = masks.diff(dim=2).abs(), masks.diff(dim=3).abs()
    return (rows.sum((1, 2, 3)) + columns.sum((1, 2, 3))).mean()


class AttentionGAN(CycleGAN):
    lambda_gan, lambda_pixel, lambda_tv, r = 0.5, 1.0, 1e-6, 0.01

    @staticmethod
    def adversarial_loss(logits):
        return functional.softplus(-logits).mean()

    @staticmethod
    def discriminator_loss(real, fake):
        return functional.softplus(-real).mean() + functional.softplus(fake).mean()

    def loss_terms(self, x, y, to_x, to_y):
        pixel = functional.l1_loss(to_y[0], x) + functional.l1_loss(to_x[0], y)
        tv = total_variation(to_y[1]) + total_variation(to_x[1])
        return super().loss_terms(x, y, to_x, to_y) | {"pixel": pixel, "tv": tv}

    def objective(self, terms):
        reconstruction = self.lambda_cycle * terms["cycle"] + self.lambda_pixel * terms["pixel"]
        game = self.lambda_gan * terms["gan"] + self.lambda_tv * terms["tv"]
        return reconstruction * self.r + game * (1 - self.r)


class Unit(nn.Module):
    """Residual with zeros around the maps."""

    def __init__(self, filters):
        super().__init__()
        self.conv1, self.conv2 = (nn.Conv2d(filters, filters, 3, padding=1) for _ in range(2))

    def forward(self, x):
        y = self.conv2(norm_relu(self.conv1(x)))
        return x + functional.group_norm(y, y.shape[1])


def doubled(x):
    return functional.interpolate(x, scale_factor=2, mode="bilinear")


class ResidualAttentionGenerator(nn.Module):
    """image -> (translated, mask of the features)."""

    def __init__(self, width, levels):
        super().__init__()
        filters = 4 * width
        self.encoder = Encoder(width, 0)
        self.first, self.trunk = Residual(filters), nn.Sequential(*map(Residual, [filters] * 2))
        self.last, self.decoder = Residual(filters), Decoder(width, 3, 7)
        self.mask_downs = nn.ModuleList(Unit(filters) for _ in range(levels))
        self.mask_bottom = Unit(filters)
        self.mask_ups = nn.ModuleList(Unit(filters) for _ in range(levels - 1))
        self.heads = nn.Sequential(*(nn.Conv2d(filters, filters, 1) for _ in range(2)))
        self.skips = nn.ModuleList(Unit(filters) for _ in range(levels - 1))  # the smallest first

    def mask(self, x):
        maps = []
        for down in self.mask_downs:
            x = down(functional.max_pool2d(x, 3, 2, 1))
            maps.append(x)
        x = self.mask_bottom(x)
        for up, skip, y in zip(self.mask_ups, self.skips, reversed(maps[:-1])):
            x = up(doubled(x) + skip(y))
        x = doubled(x)
        for head in self.heads:
            x = head(norm_relu(x))
        return torch.sigmoid(x)

    def forward(self, image):
        x = self.first(self.encoder(image))
        mask = self.mask(x)
        x = self.last((1 + mask) * self.trunk(x))
        return torch.tanh(self.decoder(x)), mask


class RA(CycleGAN):
    generator = ResidualAttentionGenerator
