"""The classifiers and their training step in PyTorch, to compare with ours.

The layers, sizes, loss, optimiser, augmentation and moving average are those of zoo.resnet9,
zoo.resnet, zoo.squeezenet and zoo.vgg, for images below 128 x 128 and with global average pooling,
of zoo.efficientnet_lite, and of trainers.classifier, at the maximum learning rate.
"""

import functools

import torch
from torch import nn
from torch.nn import functional

from . import torch_step


def with_batch_norm(convolution):
    return nn.Sequential(convolution, nn.BatchNorm2d(convolution.out_channels, momentum=0.1))


class Network(nn.Module):
    """image -> logits. features: image -> feature map; head: feature map -> logits."""

    def head(self, x):
        return self.logits(x.mean((2, 3)))

    def forward(self, x):
        return self.head(self.features(x))


class Stage(nn.Module):
    """A stage of ResNet-9: (B, C, H, W) -> (B, filters, H / 2, W / 2)."""

    def __init__(self, inputs, filters):
        super().__init__()
        self.convs = nn.ModuleList(
            with_batch_norm(nn.Conv2d(c, filters, 3, padding=1, bias=False))
            for c in (inputs, filters, filters)
        )

    def forward(self, x):
        first, second, third = self.convs
        x = functional.relu(first[1](functional.max_pool2d(first[0](x), 2)))
        return x + functional.relu(third(functional.relu(second(x))))


class ResNet9(Network):
    def __init__(self, classes, width, stages=3):
        super().__init__()
        self.whiten = nn.Conv2d(3, 24, 2).requires_grad_(False)
        widths = [24, *(width * 2**i for i in range(stages))]
        self.stages = nn.Sequential(*(Stage(a, b) for a, b in zip(widths, widths[1:])))
        self.logits = nn.Linear(widths[-1], classes)

    def features(self, x):
        x = self.whiten(functional.pad(x, (0, 1, 0, 1)))  # like Keras' "same"
        return self.stages(functional.gelu(x))


class Residual(nn.Module):
    """A block of ResNet-18: (B, C, H, W) -> (B, filters, H / stride, W / stride)."""

    def __init__(self, inputs, filters, stride):
        super().__init__()
        self.conv1 = with_batch_norm(nn.Conv2d(inputs, filters, 3, stride, 1, bias=False))
        self.shortcut = nn.Identity()
        if inputs != filters:
            self.shortcut = with_batch_norm(nn.Conv2d(inputs, filters, 1, stride, bias=False))
        self.conv2 = with_batch_norm(nn.Conv2d(filters, filters, 3, padding=1, bias=False))

    def forward(self, x):
        return functional.relu(self.conv2(functional.relu(self.conv1(x))) + self.shortcut(x))


class ResNet18(Network):
    def __init__(self, classes, width):
        super().__init__()
        self.stem = with_batch_norm(nn.Conv2d(3, width, 3, padding=1, bias=False))
        widths = [width, width, 2 * width, 4 * width, 8 * width]
        stages = zip(widths, widths[1:])
        blocks = ((Residual(a, b, b // a), Residual(b, b, 1)) for a, b in stages)
        self.blocks = nn.Sequential(*(block for pair in blocks for block in pair))
        self.logits = nn.Linear(8 * width, classes)

    def features(self, x):
        return self.blocks(functional.relu(self.stem(x)))


class Fire(nn.Module):
    def __init__(self, inputs, squeeze):
        super().__init__()
        self.squeeze = nn.Conv2d(inputs, squeeze, 1)
        self.one = nn.Conv2d(squeeze, 4 * squeeze, 1)
        self.three = nn.Conv2d(squeeze, 4 * squeeze, 3, padding=1)

    def forward(self, x):
        x = functional.relu(self.squeeze(x))
        return functional.relu(torch.cat([self.one(x), self.three(x)], 1))


class SqueezeNet(Network):
    def __init__(self, classes, width):
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        squeezes = [width // 4 * (number // 2) for number in range(2, 10)]
        inputs = [width, *(8 * s for s in squeezes)]
        self.fires = nn.ModuleList(Fire(a, b) for a, b in zip(inputs, squeezes))
        self.logits = nn.Linear(8 * width, classes)

    def features(self, x):
        x = functional.relu(self.stem(x))
        for number, fire in enumerate(self.fires, start=2):
            if number in (4, 6):  # windows at the edge are smaller
                x = functional.max_pool2d(x, 3, 2, ceil_mode=True)
            x = fire(x)
        return x


class VGG16(Network):
    def __init__(self, classes, width):
        super().__init__()
        widths = [width, 2 * width, 4 * width, 8 * width, 8 * width]
        layers, inputs = [], 3
        for block, (filters, count) in enumerate(zip(widths, (2, 2, 3, 3, 3))):
            layers += [nn.MaxPool2d(2)] * (0 < block < 4)
            for _ in range(count):
                layers += [nn.Conv2d(inputs, filters, 3, padding=1), nn.ReLU(inplace=True)]
                inputs = filters
        self.features = nn.Sequential(*layers)
        self.logits = nn.Linear(8 * width, classes)


class Same(nn.Conv2d):
    """A convolution with Keras' padding "same": of an odd number of zeros more stand at the end."""

    def forward(self, x):
        (side, _), (stride, _), size = self.kernel_size, self.stride, x.shape[2]
        more = max((-(-size // stride) - 1) * stride + side - size, 0)
        ends = (more // 2, more - more // 2)
        return super().forward(functional.pad(x, ends * 2))


def relu6_norm(inputs, outputs, side=1, stride=1, groups=1):
    conv = Same(inputs, outputs, side, stride, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs, 1e-3, momentum=0.01), nn.ReLU6())


class Bottleneck(nn.Module):
    def __init__(self, inputs, expansion, side, stride, outputs):
        super().__init__()
        inner = inputs * expansion
        layers = [relu6_norm(inputs, inner)] if expansion > 1 else []
        layers += [relu6_norm(inner, inner, side, stride, inner), relu6_norm(inner, outputs)[:2]]
        self.layers, self.adds = nn.Sequential(*layers), stride == 1 and inputs == outputs

    def forward(self, x):
        return self.layers(x) + x if self.adds else self.layers(x)


class EfficientNetLite0(Network):
    STAGES = "1,3,1,16,1 6,3,2,24,2 6,5,2,40,2 6,3,2,80,3 6,5,1,112,3 6,5,2,192,4 6,3,1,320,1"

    def __init__(self, classes, width):
        super().__init__()
        layers, inputs = [relu6_norm(3, width, 3, 2)], width
        for stage in self.STAGES.split():
            expansion, side, stride, channels, count = map(int, stage.split(","))
            for i in range(count):
                outputs = channels * width // 32
                layers.append(Bottleneck(inputs, expansion, side, 1 if i else stride, outputs))
                inputs = outputs
        self.features = nn.Sequential(*layers, relu6_norm(inputs, 40 * width))
        self.logits = nn.Linear(40 * width, classes)


NETWORKS = {"resnet9": ResNet9, "resnet18": ResNet18, "squeezenet": SqueezeNet, "vgg16": VGG16}
NETWORKS |= {"efficientnet_lite0": EfficientNetLite0}


def augment(x, crop=2):
    """Flips images (B, 3, S, S) at random and shifts them by up to `crop` pixels, with zeros."""
    size, (x,) = x.shape[2], torch_step.random_flip(x)
    x = functional.pad(x, (crop, crop, crop, crop)).permute(0, 2, 3, 1)
    rows, columns = torch.randint(2 * crop + 1, (2, len(x), 1)) + torch.arange(size)
    images = torch.arange(len(x))[:, None, None]
    return x[images, rows[:, :, None], columns[:, None]].permute(0, 3, 1, 2)


def sgd(rates, nesterov=True, decay=5e-4):
    """SGD with momentum and weight decay of kernels. rates: {module: learning rate}."""
    groups = []
    for module, rate in rates.items():
        weights = [p for p in module.parameters() if p.requires_grad]
        kernels, others = ([p for p in weights if (p.ndim > 1) == k] for k in (True, False))
        groups.append({"params": kernels, "lr": rate, "weight_decay": decay})
        groups.append({"params": others, "lr": rate})
    return torch.optim.SGD(groups, momentum=0.9, nesterov=nesterov, fused=True)


class Classifier(torch_step.Step):
    decay, rate, smoothing = 0.99, 0.1, 0.1

    def __init__(self, network, mode, size, **options):
        classifier = network(**options)
        super().__init__(mode, {"classifier": classifier}, ["classifier"])
        self.optimizer = sgd({classifier: self.rate})

    def __call__(self, batch):
        x, label = augment(batch["image"]), batch["label"].long()
        logits = self.run["classifier"](x)
        loss = functional.cross_entropy(logits, label, label_smoothing=self.smoothing)
        self.update(loss, self.optimizer)
        self.update_average()
        accuracy = (logits.argmax(1) == label).float().mean()
        return {"loss": loss.item(), "accuracy": accuracy.item()}


resnet9, resnet18, squeezenet, vgg16, efficientnet_lite0 = (
    functools.partial(Classifier, network) for network in NETWORKS.values()
)
