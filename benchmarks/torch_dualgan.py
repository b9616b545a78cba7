"""DualGAN and its training step in PyTorch, to compare with ours.

The layers, sizes, losses and optimiser are those of zoo.dualgan and trainers.dualgan with default
options. Padding is TensorFlow's: of the three rows and columns, one comes first.
"""

import torch
from torch import nn
from torch.nn import functional

from .torch_translators import Discriminator, Translators


class Norm(nn.GroupNorm):
    """Instance normalisation with a scale and an offset."""

    def __init__(self, channels):
        super().__init__(channels, channels)


class Down(nn.Module):
    """Leaky ReLU unless it is the first, convolution, norm if `normalise`."""

    def __init__(self, inputs, outputs, normalise):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 5, 2)
        self.norm = Norm(outputs) if normalise else nn.Identity()

    def forward(self, x):
        x = functional.leaky_relu(x, 0.2) if x.shape[1] > 3 else x
        return self.norm(self.conv(functional.pad(x, (1, 2, 1, 2))))


class Up(nn.Module):
    """ReLU, transposed convolution, norm if `normalise`, dropout."""

    def __init__(self, inputs, outputs, normalise=True, dropout=0.0):
        super().__init__()
        self.conv = nn.ConvTranspose2d(inputs, outputs, 5, 2, 1)
        self.norm = Norm(outputs) if normalise else nn.Identity()
        self.dropout = dropout

    def forward(self, x):
        x = self.norm(self.conv(functional.relu(x))[:, :, :-1, :-1])
        return functional.dropout(x, self.dropout) if self.dropout else x


class Generator(nn.Module):
    """image (B, 3, S, S) in [-1, 1] -> the same."""

    def __init__(self, size, width, dropout):
        super().__init__()
        levels = size.bit_length() - 1
        widths = [width * min(2**i, 8) for i in range(levels)]
        self.downs = nn.ModuleList(
            Down(a, b, 0 < i < levels - 1) for i, (a, b) in enumerate(zip([3, *widths], widths))
        )
        ups, inputs = [], widths[-1]
        for i, filters in enumerate(reversed(widths[:-1])):
            ups.append(Up(inputs, filters, dropout=dropout if i < 3 else 0.0))
            inputs = 2 * filters
        self.ups = nn.ModuleList([*ups, Up(inputs, 3, normalise=False)])

    def forward(self, x):
        maps = []
        for down in self.downs:
            x = down(x)
            maps.append(x)
        maps.pop()
        for up in self.ups[:-1]:
            x = torch.cat([up(x), maps.pop()], 1)
        return torch.tanh(self.ups[-1](x))


class DualGAN(Translators):
    rate, rho, clip, n_critic, weight = 5e-5, 0.9, 0.01, 3, 200.0

    def __init__(self, mode, size, width, dropout):
        generators = {k: Generator(size, width, dropout) for k in ("a2b", "b2a")}
        critics = {f"discriminator_{end}": Discriminator(width) for end in "ab"}
        super().__init__(mode, generators, critics)

    def optimizer(self, weights):
        return torch.optim.RMSprop(weights, self.rate, self.rho)

    @torch.no_grad()
    def constrain(self):
        for w in self.discriminators.parameters():
            w.clamp_(-self.clip, self.clip)

    def __call__(self, batch):
        G, F = self.run["a2b"], self.run["b2a"]
        D_A, D_B = self.run["discriminator_a"], self.run["discriminator_b"]
        images = [batch[k].contiguous(memory_format=torch.channels_last) for k in self.keys]
        for x, y in zip(*(x.chunk(self.n_critic) for x in images)):
            with torch.no_grad():
                to_x, to_y = F(y), G(x)
            found = {
                "discriminator_a": D_A(to_x).mean() - D_A(x).mean(),
                "discriminator_b": D_B(to_y).mean() - D_B(y).mean(),
            }
            self.update(sum(found.values()), self.d_optimizer)
            self.constrain()
        self.discriminators.requires_grad_(False)
        to_y, to_x = G(x), F(y)
        found["gan"] = -D_A(to_x).mean() - D_B(to_y).mean()
        found["cycle_u"] = functional.l1_loss(F(to_y), x)
        found["cycle_v"] = functional.l1_loss(G(to_x), y)
        cycles = found["cycle_u"] + found["cycle_v"]
        self.update(found["gan"] + self.weight * cycles, self.g_optimizer)
        self.discriminators.requires_grad_(True)
        self.update_average()
        return {name: loss.item() for name, loss in found.items()}
