"""ATA-GAN and its training step in PyTorch, to compare with ours.

The layers, losses, optimisers and moving average are those of zoo.ata_gan, zoo.layers.cam and
trainers.ata_gan. The teacher is a ResNet-9 of the same size as ours, for images of the same size.
"""

import torch
from torch import nn
from torch.nn import functional

from attention_zoo.zoo import registry

from . import torch_classifiers, torch_gan, torch_step


def same_size_block(inputs, outputs):
    convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs, momentum=0.1), nn.LeakyReLU(0.2))


def class_maps(x, dense):
    """Features (B, K, h, w) -> the dense layer at every pixel, without bias, (B, h, w, C)."""
    return functional.linear(x.permute(0, 2, 3, 1), dense.weight)


class Discriminator(nn.Module):
    """image -> (logit, Soft-CAM (B, s, s))."""

    def __init__(self, size, width, map_size):
        super().__init__()
        blocks, widths = [], [3, *(width << i for i in range((size // 4).bit_length() - 1))]
        for i, (a, b) in enumerate(zip(widths, widths[1:])):
            small = size >> i + 1 < map_size
            blocks.append(same_size_block(a, b) if small else torch_gan.down(a, b, i > 0))
        self.blocks = nn.Sequential(*blocks)
        self.logit = nn.Linear(widths[-1], 1)

    def forward(self, x):
        x = self.blocks(x)
        return self.logit(x.mean((2, 3))), class_maps(x, self.logit)[
            ..., 0
        ]  # one class: its softmax is 1


class Teacher(nn.Module):
    """image -> Soft-CAM (B, s, s) of a frozen classifier."""

    def __init__(self, classifier):
        super().__init__()
        self.classifier = classifier.eval().requires_grad_(False)

    def forward(self, x):
        x = self.classifier.features(x)
        scores = torch.softmax(self.classifier.head(x), 1)
        return torch.einsum("bc,bhwc->bhw", scores, class_maps(x, self.classifier.logits))


class ATAGAN(torch_gan.DCGAN):
    attention_weight = 1.0

    def __init__(self, mode, size, latent, teacher, **options):
        super().__init__(mode, size, latent, **options)
        name, tag = teacher.split(":")
        teacher_options = registry.get(name).weights[tag].options
        network = torch_classifiers.NETWORKS[name](
            teacher_options["classes"], teacher_options["width"]
        )
        module = Teacher(network).to(memory_format=torch.channels_last)
        self.networks["teacher"] = module
        self.run["teacher"] = torch.compile(module) if mode == "compiled" else module

    @staticmethod
    def build_networks(size, latent, width, map_size):
        return torch_gan.GAN(size, latent, width), Discriminator(size, width, map_size)

    def attention_loss(self, x, maps):
        with torch.no_grad():
            target = self.run["teacher"](x)
        size = max(target.shape[1], maps.shape[1])
        target, maps = (torch_step.min_max(torch_step.resized(m, size)) for m in (target, maps))
        return ((target - maps).square() / 2).mean()

    def __call__(self, batch):
        x, D = batch["image"], self.run["discriminator"]
        fake = self.run["generator"](self.noise(len(x)), x)
        detached = fake.detach()
        (real_logits, real_maps), (fake_logits, fake_maps) = D(x), D(detached)
        d_loss = self.d_loss(real_logits, fake_logits)
        attention = self.attention_loss(x, real_maps) + self.attention_loss(detached, fake_maps)
        self.update(d_loss + self.attention_weight * attention, self.d_optimizer)
        g_loss = self.update_generator(fake)
        losses = {"d_loss": d_loss, "g_loss": g_loss, "attention_loss": attention}
        return {name: loss.item() for name, loss in losses.items()}

    def logits(self, images):
        return self.run["discriminator"](images)[0]
