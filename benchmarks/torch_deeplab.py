"""DeepLab and its training step in PyTorch, to compare with ours.

The layers, loss, optimiser and moving average are those of zoo.deeplab, for images below 128 x 128
whose size is a multiple of the stride, and of trainers.deeplab on class maps, at the initial
learning rate.
"""

from torch import nn
from torch.nn import functional

from . import torch_classifiers, torch_step


class Segmenter(nn.Module):
    """image (B, 3, S, S) -> logits (B, classes, S, S)."""

    def __init__(self, classes, width, fc, stride, dilation):
        super().__init__()
        widths = [width, 2 * width, 4 * width, 8 * width, 8 * width]
        layers, inputs, scale = [], 3, 1
        for block, (filters, count) in enumerate(zip(widths, (2, 2, 3, 3, 3))):
            if block and scale < 8:
                layers += [nn.MaxPool2d(2) if scale < stride else nn.MaxPool2d(3, 1, 1)]
                scale *= 2
            rate = max(scale // stride, 1)
            for _ in range(count):
                layers += [nn.Conv2d(inputs, filters, 3, padding=rate, dilation=rate)]
                layers += [nn.ReLU(inplace=True)]
                inputs = filters
        layers += [nn.MaxPool2d(3, 1, 1)]
        layers += [nn.Conv2d(inputs, fc, 3, padding=dilation, dilation=dilation), nn.ReLU()]
        layers += [nn.Conv2d(fc, fc, 1), nn.ReLU()]
        self.layers, self.logits = nn.Sequential(*layers), nn.Conv2d(fc, classes, 1)

    def forward(self, x):
        scores = self.logits(self.layers(x))
        return functional.interpolate(scores, x.shape[2:], mode="bilinear")


class DeepLab(torch_step.Step):
    decay, rate, head_rate, ignore = 0.99, 0.02, 1.0, 255

    def __init__(self, mode, size, **options):
        network = Segmenter(**options)
        super().__init__(mode, {"segmenter": network}, ["segmenter"])
        rates = {network.layers: self.rate, network.logits: self.rate * self.head_rate}
        self.optimizer = torch_classifiers.sgd(rates, nesterov=False)

    def __call__(self, batch):
        x, classes = batch["image"], batch["classes"].permute(0, 3, 1, 2)
        x, classes = torch_step.random_flip(x, classes)
        logits, classes = self.run["segmenter"](x), classes[:, 0].long()
        loss = functional.cross_entropy(logits, classes, ignore_index=self.ignore)
        self.update(loss, self.optimizer)
        self.update_average()
        return {"cross_entropy": loss.item()}
