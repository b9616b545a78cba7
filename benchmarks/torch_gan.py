"""The zoo's DCGAN and RAGAN, and the DCGAN step, in PyTorch: the other side of the benchmark.

Same layers, sizes, losses, optimiser and moving average as zoo.dcgan, zoo.ragan and
trainers.dcgan (initial weights are PyTorch's own, which no speed depends on); both updates of a
step share one pass of the generator.
"""

import copy

import torch
from torch import nn
from torch.nn import functional


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
        x = self.project(z).view(-1, self.channels, 4, 4)
        x = functional.relu(self.project_norm(x.contiguous(memory_format=torch.channels_last)))
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
        return self.logit(self.blocks(x).flatten(1))


class Attention(nn.Module):
    """RAGAN's DAE: image -> sum_i lambda_i E(X * M_i)."""

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
        centres = torch.sigmoid(self.localise(self.encoder(x).flatten(1)))
        centres = (centres * (size - self.side) + self.side / 2).view(b, self.regions, 2, 1)
        distance, k, half = self.grid - centres, self.sharpness, self.side / 2
        inside = torch.sigmoid(k * (distance + half)) - torch.sigmoid(k * (distance - half))
        masks = inside[:, :, 0, :, None] * inside[:, :, 1, None, :]
        parts = (x[:, None] * masks[:, :, None]).flatten(0, 1)
        parts = parts.contiguous(memory_format=torch.channels_last)
        codes = self.encoder(parts).unflatten(0, (b, self.regions))
        return torch.einsum("n,bnchw->bchw", self.weight, codes)


class GAN(nn.Module):
    """z, x -> image: DCGAN, or RAGAN where attention options are given."""

    def __init__(self, size=32, latent=100, width=64, attention=None):
        super().__init__()
        at = attention["attend_at"] if attention else None
        self.generator = Generator(size, latent, width, at)
        if attention:
            channels = width * size // (2 * at)
            self.attention = Attention(size, channels=channels, **attention)
        else:
            self.attention = None

    def forward(self, z, x):
        return self.generator(z, self.attention(x) if self.attention else None)


class Step:
    """One DCGAN update of a GAN and its discriminator; call it with images (B, 3, S, S).

    mode: "eager" or "compiled" (torch.compile on both networks); channels-last throughout. A
    subclass may differ in networks, losses, and learning rates of generator and discriminator.
    """

    rates, betas = (2e-4, 2e-4), (0.5, 0.999)

    def __init__(self, mode, size=32, latent=100, **options):
        torch.manual_seed(0)
        self.latent = latent
        networks = self.networks(size, latent, **options)
        self.g, self.d = (m.to(memory_format=torch.channels_last) for m in networks)
        self.average = copy.deepcopy(self.g)
        self.values = [*self.g.parameters(), *self.floats(self.g)]
        self.means = [*self.average.parameters(), *self.floats(self.average)]
        self.g_optimizer, self.d_optimizer = (
            torch.optim.Adam(module.parameters(), rate, self.betas, fused=True)
            for module, rate in zip((self.g, self.d), self.rates)
        )
        compiled = mode == "compiled"
        self.run_g = torch.compile(self.g) if compiled else self.g
        self.run_d = torch.compile(self.d) if compiled else self.d

    @staticmethod
    def networks(size, latent, width=64, **attention):
        """(z, x -> image; image -> logit)."""
        return GAN(size, latent, width, attention), Discriminator(size, width)

    @staticmethod
    def d_loss(real, fake):
        return functional.softplus(-real).mean() + functional.softplus(fake).mean()

    @staticmethod
    def g_loss(fake):
        return functional.softplus(-fake).mean()

    @staticmethod
    def floats(module):
        """What moves beside the parameters: batch norm's statistics, u of spectral norm."""
        return [b for b in module.buffers() if b.is_floating_point()]

    @property
    def parameters(self):
        """How many are trained."""
        return sum(p.numel() for module in (self.g, self.d) for p in module.parameters())

    def __call__(self, x):
        z = torch.rand(len(x), self.latent) * 2 - 1
        fake = self.run_g(z, x)
        self.d.requires_grad_(True)
        d_loss = self.d_loss(self.run_d(x), self.run_d(fake.detach()))
        self.d_optimizer.zero_grad()
        d_loss.backward()
        self.d_optimizer.step()
        self.d.requires_grad_(False)
        g_loss = self.g_loss(self.run_d(fake))
        self.g_optimizer.zero_grad()
        g_loss.backward()
        self.g_optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(self.means, [v.detach() for v in self.values], 1e-3)
        return d_loss.item(), g_loss.item()
