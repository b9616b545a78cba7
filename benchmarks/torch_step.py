"""What the PyTorch sides of the benchmark share: the base class of steps, operations on images."""

import torch
from torch.nn import functional


class Step:
    """A training step. A subclass is called with a batch and returns {name: loss}.

    mode: "eager" or "compiled" (torch.compile on each network). networks: {name: module}, in
    channels-last format; subclasses call them through `run`. averaged: names of those with a moving
    average. The initial weights are PyTorch's defaults, which do not affect the speed.
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
        with torch.autocast("cpu", enabled=False):
            loss.backward()
            optimizer.step()
        torch.clear_autocast_cache()  # of the weights from before this step

    @torch.no_grad()
    def update_average(self):
        """Also averages the statistics of batch norm and u of spectral norm."""
        torch._foreach_lerp_(self.means, self.values, 1 - self.decay)


def tensor(array):
    """An array of a batch as a tensor; images (B, S, S, C) become (B, C, S, S), channels-last."""
    x = torch.from_numpy(array)
    return x.permute(0, 3, 1, 2) if x.is_floating_point() and x.ndim == 4 else x


def flatten_channels_last(x):
    """(B, C, H, W) -> (B, H W C); copies nothing if x is channels-last."""
    return x.permute(0, 2, 3, 1).flatten(1)


def random_flip(*tensors):
    """Flips random examples of tensors (B, C, S, S) horizontally, the same ones in each tensor."""
    flip = torch.rand(len(tensors[0]), 1, 1, 1) < 0.5
    return [torch.where(flip, x.flip(3), x) for x in tensors]


def resized(maps, size):
    """(B, h, w) -> (B, size, size), bilinear and antialiased."""
    maps = maps[:, None].float()  # PyTorch does this in no other type
    return functional.interpolate(maps, size, mode="bilinear", antialias=True)[:, 0]


def min_max(maps):
    """Scales each map (h, w) of (..., h, w) to [0, 1]."""
    low = maps.amin((-2, -1), keepdim=True)
    return (maps - low) / (maps.amax((-2, -1), keepdim=True) - low + 1e-6)
