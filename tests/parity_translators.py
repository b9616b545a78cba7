"""Imported checkpoints of CycleGAN and AttentionGAN give PyTorch's pictures.

    pytest tests/parity_translators.py

It needs torch, takes a minute, and is no part of `pytest` alone. The modules below are like the
official networks in the names of their weights, in paddings and epsilons.
"""

import numpy as np
import pytest
import torch
from torch import nn

from attention_zoo.zoo import attention_gan, bridge, cyclegan, weights


def enlarging(inputs, filters):
    return nn.ConvTranspose2d(inputs, filters, 3, stride=2, padding=1, output_padding=1)


class CycleBlock(nn.Module):
    def __init__(self, filters):
        super().__init__()
        layers = []
        for relu in (nn.ReLU(), nn.Identity()):
            layers += [nn.ReflectionPad2d(1), nn.Conv2d(filters, filters, 3)]
            layers += [nn.InstanceNorm2d(filters), relu]
        self.conv_block = nn.Sequential(*layers[:-1])

    def forward(self, x):
        return x + self.conv_block(x)


class CycleGenerator(nn.Module):
    def __init__(self, width, blocks):
        super().__init__()

        def active(layer):
            return [layer, nn.InstanceNorm2d(layer.out_channels), nn.ReLU()]

        layers = [nn.ReflectionPad2d(3), *active(nn.Conv2d(3, width, 7))]
        for c in (width, 2 * width):
            layers += active(nn.Conv2d(c, 2 * c, 3, stride=2, padding=1))
        layers += [CycleBlock(4 * width) for _ in range(blocks)]
        for c in (4 * width, 2 * width):
            layers += active(enlarging(c, c // 2))
        layers += [nn.ReflectionPad2d(3), nn.Conv2d(width, 3, 7), nn.Tanh()]
        self.model = nn.Sequential(*layers)

    def forward(self, x):
        return {"translated": self.model(x)}


def normal(x):
    return nn.functional.instance_norm(x, eps=1e-5)


def reflected(x, by):
    return nn.functional.pad(x, (by, by, by, by), mode="reflect")


class AttentionBlock(nn.Module):
    def __init__(self, filters):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(filters, filters, 3), nn.Conv2d(filters, filters, 3)

    def forward(self, x):
        y = normal(self.conv1(reflected(x, 1))).relu()
        return x + normal(self.conv2(reflected(y, 1)))


class AttentionGenerator(nn.Module):
    def __init__(self, width, blocks, n=10):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7)
        self.conv2 = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1)
        self.conv3 = nn.Conv2d(2 * width, 4 * width, 3, stride=2, padding=1)
        self.resnet_blocks = nn.Sequential(*(AttentionBlock(4 * width) for _ in range(blocks)))
        for kind, last in (
            ("content", nn.Conv2d(width, 3 * (n - 1), 7)),
            ("attention", nn.Conv2d(width, n, 1)),
        ):
            setattr(self, f"deconv1_{kind}", enlarging(4 * width, 2 * width))
            setattr(self, f"deconv2_{kind}", enlarging(2 * width, width))
            setattr(self, f"deconv3_{kind}", last)

    def forward(self, image):
        x = normal(self.conv1(reflected(image, 3))).relu()
        for layer in (self.conv2, self.conv3):
            x = normal(layer(x)).relu()
        x = self.resnet_blocks(x)
        content = normal(self.deconv1_content(x)).relu()
        content = normal(self.deconv2_content(content)).relu()
        content = self.deconv3_content(reflected(content, 3)).tanh()
        masks = normal(self.deconv1_attention(x)).relu()
        masks = normal(self.deconv2_attention(masks)).relu()
        masks = self.deconv3_attention(masks).softmax(1)
        translated = image * masks[:, -1:]
        for i in range(masks.shape[1] - 1):
            translated = translated + content[:, 3 * i : 3 * i + 3] * masks[:, i : i + 1]
        return {"translated": translated, "masks": masks}


@pytest.mark.parametrize(
    ("name", "module", "build", "count"),
    [
        ("cyclegan", CycleGenerator, cyclegan.build, 11_378_179),
        ("attention_gan", AttentionGenerator, attention_gan.build, 11_822_949),
    ],
)
@pytest.mark.parametrize(("width", "blocks", "high", "wide"), [(64, 9, 128, 64), (5, 6, 44, 100)])
def test_pictures_are_pytorch_s(name, module, build, count, width, blocks, high, wide, tmp_path):
    torch.manual_seed(0)
    made = module(width, blocks).eval()
    for layer in made.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(layer.weight)
            nn.init.normal_(layer.bias, 0, 0.1)
    torch.save(made.state_dict(), tmp_path / "net_G_A.pth")
    arrays = bridge.read(tmp_path / "net_G_A.pth")
    options = bridge.options(name, arrays)
    assert (options["width"], options["blocks"]) == (width, blocks)
    network = build(**options)["a2b"]
    if width == 64:
        assert network.count_params() == count
    weights.fill(network, bridge.convert(name, arrays, network), "arrays")
    x = np.random.default_rng(0).uniform(-1, 1, (2, high, wide, 3)).astype("float32")
    with torch.no_grad():
        expected = made(torch.tensor(x).permute(0, 3, 1, 2))
    found = network.predict_on_batch(x)
    for key, value in expected.items():
        value = value.permute(0, 2, 3, 1).numpy()
        gap = abs(found[key] - value).max()
        print(f"{name} {width} {key}: largest difference {gap:.1e}, deviation {value.std():.2f}")
        assert value.std() > 0.02
        assert gap < 1e-4
