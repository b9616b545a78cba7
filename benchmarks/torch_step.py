"""What the PyTorch sides of the benchmark share: networks, moving average, images on the way in."""

import torch
from torch.nn import functional


class Step:
    """A training step: a subclass is called with a batch and returns {name: loss}.

    mode: "eager" or "compiled" (torch.compile on each network); channels-last throughout.
    networks: {name: module}, trained where they take gradients; averaged: those of which a moving
    average is kept. Called they are through `run`. Initial weights are PyTorch's own, which no
    speed depends on.
    """

    decay = 0.999  # of the moving average

    def __init__(self, mode, networks, averaged):
        self.networks = {
            name: module.to(memory_format=torch.channels_last) for name, module in networks.items()
        }
        self.run = dict(self.networks)
        if mode == "compiled":
            self.run = {name: torch.compile(module) for name, module in networks.items()}
        trained = [p for m in networks.values() for p in m.parameters() if p.requires_grad]
        self.parameters = sum(p.numel() for p in trained)
        moving = [self.networks[name] for name in averaged]
        self.values = [p.detach() for m in moving for p in m.parameters()]
        self.values += [b for m in moving for b in m.buffers() if b.is_floating_point()]
        self.means = [v.clone() for v in self.values]

    @staticmethod
    def update(loss, optimizer):
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    @torch.no_grad()
    def update_average(self):
        """Batch norm's statistics and u of spectral norm are averaged too."""
        torch._foreach_lerp_(self.means, self.values, 1 - self.decay)


def tensor(array):
    """A batch's array: images (B, S, S, C) become (B, C, S, S), channels-last."""
    found = torch.from_numpy(array)
    return found.permute(0, 3, 1, 2) if found.is_floating_point() and found.ndim == 4 else found


def places_first(x):
    """(B, C, H, W) -> (B, H W C), which copies nothing where x is channels-last."""
    return x.permute(0, 2, 3, 1).flatten(1)


def mirrored(*tensors):
    """Half of the examples of tensors (B, C, S, S), the same of each, from right to left."""
    turned = torch.rand(len(tensors[0]), 1, 1, 1) < 0.5
    return [torch.where(turned, x.flip(3), x) for x in tensors]


def resized(maps, size):
    """(B, h, w) -> (B, size, size), bilinear and antialiased."""
    return functional.interpolate(maps[:, None], size, mode="bilinear", antialias=True)[:, 0]


def min_max(maps):
    """Each map (h, w) of (..., h, w) from 0 to 1."""
    low = maps.amin((-2, -1), keepdim=True)
    return (maps - low) / (maps.amax((-2, -1), keepdim=True) - low + 1e-6)
