"""DCGAN, RAGAN and WGAN, and their training steps, in PyTorch, to compare with ours.

The layers, sizes, losses, optimisers and moving average are those of zoo.dcgan, zoo.ragan and
zoo.wgan, trainers.dcgan and trainers.wgan. In DCGAN both updates share one pass of the generator.
"""

import torch
from torch import nn
from torch.nn import functional

from . import torch_step


def up(inputs, outputs):
    convolution = nn.ConvTranspose2d(inputs, outputs, 4, 2, 1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs, momentum=0.1), nn.ReLU())


def down(inputs, outputs, normalise):
    convolution = nn.Conv2d(inputs, outputs, 4, 2, 1, bias=not normalise)
    norm = [nn.BatchNorm2d(outputs, momentum=0.1)] if normalise else []
    return nn.Sequential(convolution, *norm, nn.LeakyReLU(0.2))


class Generator(nn.Module):
    """(z, attention layer or None) -> image; the layer is added to the map of size attend_at."""

    def __init__(self, size, latent, width, attend_at=None):
        super().__init__()
        channels = width * size // 8
        self.attend_at, self.channels = attend_at, channels
        self.project = nn.Linear(latent, 16 * channels, bias=False)
        self.project_norm = nn.BatchNorm2d(channels, momentum=0.1)
        steps = (size // 8).bit_length() - 1
        self.ups = nn.ModuleList(up(channels >> i, channels >> i + 1) for i in range(steps))
        self.to_rgb = nn.ConvTranspose2d(width, 3, 4, 2, 1)

    def forward(self, z, layer=None):
        x = self.project(z).view(len(z), 4, 4, self.channels).permute(0, 3, 1, 2)  # channels-last
        x = functional.relu(self.project_norm(x))
        for block in self.ups:
            x = block(x)
            if x.shape[-1] == self.attend_at:
                x = x + layer
        return torch.tanh(self.to_rgb(x))


class Discriminator(nn.Module):
    def __init__(self, size, width):
        super().__init__()
        steps = (size // 4).bit_length() - 1
        widths = [3, *(width << i for i in range(steps))]
        blocks = [down(a, b, i > 0) for i, (a, b) in enumerate(zip(widths, widths[1:]))]
        self.blocks = nn.Sequential(*blocks)
        self.logit = nn.Linear(16 * widths[-1], 1)

    def forward(self, x):
        return self.logit(torch_step.flatten_channels_last(self.blocks(x)))


class Attention(nn.Module):
    """The DAE of RAGAN: image -> sum_i lambda_i E(X * M_i)."""

    def __init__(self, size, attend_at, channels, regions, mask_size, sharpness, encoder_width):
        super().__init__()
        steps = (size // attend_at).bit_length() - 1
        widths = [3, *(min(encoder_width << i, 256) for i in range(steps))]
        parts = [down(a, b, False) for a, b in zip(widths, widths[1:])]
        self.encoder = nn.Sequential(*parts, nn.Conv2d(widths[-1], channels, 1))
        self.localise = nn.Linear(attend_at**2 * channels, 2 * regions)
        self.weight = nn.Parameter(torch.zeros(regions))
        self.side, self.sharpness, self.regions = mask_size * size, sharpness, regions
        self.register_buffer("grid", torch.arange(size) + 0.5, persistent=False)

    def forward(self, x):
        b, _, size, _ = x.shape
        centres = torch.sigmoid(self.localise(torch_step.flatten_channels_last(self.encoder(x))))
        centres = (centres * (size - self.side) + self.side / 2).view(b, self.regions, 2, 1)
        distance, k, half = self.grid - centres, self.sharpness, self.side / 2
        inside = torch.sigmoid(k * (distance + half)) - torch.sigmoid(k * (distance - half))
        masks = inside[:, :, 0, :, None] * inside[:, :, 1, None, :]
        parts = (x[:, None] * masks[:, :, None]).flatten(0, 1)
        parts = parts.contiguous(memory_format=torch.channels_last)
        codes = self.encoder(parts).unflatten(0, (b, self.regions))
        return torch.einsum("n,bnchw->bchw", self.weight, codes)


class GAN(nn.Module):
    """(z, x) -> image: DCGAN's generator, or RAGAN's with the attention options."""

    def __init__(self, size=32, latent=100, width=64, attention=None):
        super().__init__()
        attend_at = attention["attend_at"] if attention else None
        self.generator = Generator(size, latent, width, attend_at)
        if attention:
            channels = width * size // (2 * attend_at)
            self.attention = Attention(size, channels=channels, **attention)
        else:
            self.attention = None

    def forward(self, z, x):
        return self.generator(z, self.attention(x) if self.attention else None)


class DCGAN(torch_step.Step):
    """Subclasses may override the networks, the losses and the optimisers."""

    rates, betas = (2e-4, 2e-4), (0.5, 0.999)

    def __init__(self, mode, size, latent, **options):
        self.latent = latent
        g, d = self.build_networks(size, latent, **options)
        super().__init__(mode, {"generator": g, "discriminator": d}, ["generator"])
        self.d = self.networks["discriminator"]
        self.g_optimizer, self.d_optimizer = map(self.optimizer, (g, d), self.rates)

    @staticmethod
    def build_networks(size, latent, width, **attention):
        """(generator: (z, x) -> image, discriminator: image -> logit)."""
        return GAN(size, latent, width, attention), Discriminator(size, width)

    def optimizer(self, module, rate):
        return torch.optim.Adam(module.parameters(), rate, self.betas, fused=True)

    @staticmethod
    def d_loss(real, fake):
        return functional.softplus(-real).mean() + functional.softplus(fake).mean()

    @staticmethod
    def g_loss(fake):
        return functional.softplus(-fake).mean()

    def noise(self, count, stream=0):
        return torch.rand(count, self.latent) * 2 - 1

    def logits(self, images):
        return self.run["discriminator"](images)

    def update_discriminator(self, x, fake):
        """Updates the discriminator with real and generated images; returns its loss."""
        loss = self.d_loss(self.logits(x), self.logits(fake))
        self.update(loss, self.d_optimizer)
        return loss

    def update_generator(self, fake):
        """Updates the generator; returns its loss."""
        self.d.requires_grad_(False)
        loss = self.g_loss(self.logits(fake))
        self.update(loss, self.g_optimizer)
        self.d.requires_grad_(True)
        self.update_average()
        return loss

    def __call__(self, batch):
        x = batch["image"]
        fake = self.run["generator"](self.noise(len(x)), x)
        d_loss = self.update_discriminator(x, fake.detach())
        return {"d_loss": d_loss.item(), "g_loss": self.update_generator(fake).item()}


class WGAN(DCGAN):
    rates, clip, n_critic = (5e-5, 5e-5), 0.01, 5

    def optimizer(self, module, rate):
        return torch.optim.RMSprop(module.parameters(), rate, alpha=0.9)

    @staticmethod
    def d_loss(real, fake):
        return fake.mean() - real.mean()

    @staticmethod
    def g_loss(fake):
        return -fake.mean()

    def __call__(self, batch):
        G, weights = self.run["generator"], list(self.d.parameters())
        for t, x in enumerate(batch["image"].chunk(self.n_critic)):
            with torch.no_grad():
                fake = G(self.noise(len(x), 1 + t), x)
            d_loss = self.update_discriminator(x, fake)
            with torch.no_grad():
                torch._foreach_clamp_min_(weights, -self.clip)
                torch._foreach_clamp_max_(weights, self.clip)
        g_loss = self.update_generator(G(self.noise(len(x)), x))
        return {"d_loss": d_loss.item(), "g_loss": g_loss.item()}
