"""Each PyTorch side of the benchmark of the training step takes our steps: with our weights, images
and noise its losses are ours, before and after an update.

    pytest tests/parity_steps.py

It needs torch, and is no part of `pytest` alone.
"""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
import torch

from attention_zoo.benchmarks import torch_classifiers, torch_deeplab, torch_step, train_step
from attention_zoo.experiments.training import make_trainer
from attention_zoo.zoo.layers.self_attention import SelfAttention

SMALL = "--image_size=32 --batch_size=4"
FLAGS = {  # small networks, whose learning rate is at its highest from the first step on
    "dcgan": f"{SMALL} --set=width=8",
    "wgan": f"{SMALL} --set=width=8",
    "ragan": f"{SMALL} --set=width=8 --set=encoder_width=4",
    "sagan": f"{SMALL} --set=width=8",
    "ata_gan": f"{SMALL} --set=width=8",
    "cyclegan": "--image_size=32 --set=width=8 --set=blocks=2 --set=flip=false",
    "attention_gan": "--image_size=32 --set=width=8 --set=blocks=2 --set=masks=3 --set=flip=false",
    "unit": "--image_size=32 --set=width=8 --set=blocks=2 --set=flip=false",
    "uait": "--image_size=32 --set=width=8 --set=blocks=2 --set=flip=false",
    "ganimorph": "--image_size=64 --batch_size=2 --set=width=8 --set=blocks=1 --set=flip=false",
    "ra": "--image_size=64 --set=width=8 --set=flip=false",
    "discogan": f"{SMALL} --set=width=8",
    "dualgan": f"{SMALL} --set=width=8 --set=dropout=0",
    "resnet9": f"{SMALL} --set=width=8 --set=warm_up=0",
    "resnet18": f"{SMALL} --set=width=8 --set=warm_up=0",
    "squeezenet": f"{SMALL} --set=width=8 --set=warm_up=0",
    "vgg16": f"{SMALL} --set=width=8 --set=warm_up=0",
    "efficientnet_lite0": "--image_size=64 --batch_size=4 --set=width=8 --set=warm_up=0 "
    "--set=learning_rate=0.01",  # at 0.1 its many normalisations make rounding visible
    "gain": "--batch_size=4 --set=width=8 --set=warm_up=0",
    "deeplab": "--batch_size=4 --set=width=4 --set=fc=16 --set=flip=false --set=learning_rate=0.05 "
    "--set=head_rate=10",
}

SCALES = {"wgan": 1e-4, "deeplab": 1e-3}  # losses and their changes are not that small elsewhere


def arrays(network):
    """A network's weights in PyTorch's layouts, layer by layer, each with its normalisation."""
    found = {}
    for layer in sorted(
        network.layers, key=lambda x: (x.name.startswith("mask"), "mask_skip" in x.name)
    ):
        if isinstance(layer, SelfAttention):
            own = [layer.gamma, *layer.query.weights, *layer.key.weights, *layer.value.weights]
        else:
            own = layer.weights
        own = arrays(layer) if hasattr(layer, "layers") else [in_pytorch(v) for v in own]
        found.setdefault(layer.name.removesuffix("_bn"), []).extend(own)
    return [v for own in found.values() for v in own]


def in_pytorch(variable):
    v = variable.numpy()
    if variable.name == "u":  # (1, out)
        return v[0]
    if v.ndim == 4 and "_depthwise/" in variable.path:  # (h, w, C, 1)
        return v.transpose(2, 3, 0, 1)
    return v.transpose(3, 2, 0, 1) if v.ndim == 4 else v.T


def pairs(model, step, networks):
    """(module, network) of equal weights in equal order."""
    if model == "gain":
        return [(step.classifier, networks["classifier"])]
    found = {name: (module, networks[name]) for name, module in step.networks.items()}
    if model in ("dcgan", "wgan", "ata_gan"):
        found["generator"] = (step.networks["generator"].generator, networks["generator"])
    if model == "ragan":
        module, attention = step.networks["generator"], networks["attention"]
        found["generator"] = (module.generator, networks["generator"].get_layer("decoder"))
        found["encoder"] = (module.attention.encoder, attention.get_layer("encoder"))
        dense = attention.get_layer("localise")
        module.attention.localise.weight.data = torch.tensor(dense.kernel.numpy().T)
        module.attention.localise.bias.data = torch.tensor(dense.bias.numpy())
    return found.values()


def fill(module, network):
    state = module.state_dict()
    names = [name for name in state if not name.endswith("num_batches_tracked")]
    for name, array in zip(names, arrays(network), strict=True):
        assert state[name].shape == array.shape, name
        state[name].copy_(torch.tensor(array))


@pytest.mark.parametrize("model", train_step.MODELS)
def test_two_steps_are_ours(model, monkeypatch):
    config = train_step.config_for(model, *FLAGS[model].split())
    monkeypatch.setattr(torch_deeplab.DeepLab, "rate", 0.05)
    monkeypatch.setattr(torch_deeplab.DeepLab, "head_rate", 10.0)
    if model == "efficientnet_lite0":
        monkeypatch.setattr(torch_classifiers.Classifier, "rate", 0.01)
    config = dataclasses.replace(config, load_size=None)  # images are as large as they are taken
    trainer = make_trainer(config)
    step, data = train_step.pytorch_step(config, "eager")
    for module, network in pairs(model, step, trainer.networks):
        fill(module, network)
    rng = np.random.default_rng(1)
    shape = (1, 8, 8, 32) if model == "unit" else (4, config.options.get("latent", 1))
    noise = rng.uniform(-1, 1, (2, 6, *shape)).astype("float32")
    turn, given = 0, train_step.batch(config)
    for labels in (data.get("labels"), given.get("labels")):
        if labels is not None:
            labels[:, 3:] = 0  # so that GAIN has none to choose
    if model in ("wgan", "dualgan"):  # the epsilon lies inside the root, PyTorch's outside
        for _, optimizer in trainer.optimizers_by_role.values():
            optimizer.epsilon = 1e-16
    trainer.noise = lambda count, stream=0: tf.constant(noise[turn, stream])
    step.noise = lambda count, stream=0: torch_step.tensor(noise[turn, stream])
    monkeypatch.setattr("attention_zoo.trainers.classifier.augment", lambda x, *_: x)
    monkeypatch.setattr(torch_classifiers, "augment", lambda x: x)
    monkeypatch.setattr(torch_step, "random_flip", lambda *tensors: tensors)
    losses = []
    for turn in range(2):
        found = trainer.train_step({k: tf.constant(v) for k, v in given.items()})
        found, expected = {k: float(v) for k, v in found.items()}, step(data)
        print(model, turn, {k: (found[k], v) for k, v in expected.items()})
        losses.append([(found[k], v) for k, v in expected.items()])
    for first, second in zip(*losses):
        (a, b), change = first, [x - y for x, y in zip(second, first)]
        assert abs(a - b) < 1e-4 * max(SCALES.get(model, 0.1), abs(a))
        assert abs(change[0] - change[1]) < 0.02 * max(SCALES.get(model, 0.1), abs(change[0]))
