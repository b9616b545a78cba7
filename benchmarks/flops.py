"""Floating-point operations of a training step, from the shapes of the networks.

Convolutions, dense layers and the products of self-attention are counted. Each has a forward pass
and, if needed, gradients with respect to its weights and its input, of the same cost each.
"""

import math

import keras

from attention_zoo import zoo
from attention_zoo.zoo.layers.self_attention import SelfAttention

KINDS = {  # kind of pass: how often a layer's products are computed; trained, reached: 0 or 1
    "forward": lambda trained, reached: 1,
    "train": lambda trained, reached: 1 + trained + reached,  # the input is data
    "both": lambda trained, reached: 2 + trained,  # the input depends on other trained weights
    "through": lambda trained, reached: 2,  # the gradient of the input only: weights are frozen
    "backward": lambda trained, reached: trained + reached,  # after a forward pass counted above
}
DISCRIMINATOR = {"train": 2, "through": 1}  # its update: real, generated; then the generator's
GAN = {"generator": {"train": 1}, "discriminator": DISCRIMINATOR}
TRANSLATOR = {
    **dict.fromkeys(("a2b", "b2a"), {"train": 1, "both": 1}),  # the translation, and the cycle
    **dict.fromkeys(("discriminator_a", "discriminator_b"), DISCRIMINATOR),
}
UNIT = {  # a code is decoded into both domains, that of a translation into one
    **dict.fromkeys(("encoder_a", "encoder_b"), {"train": 1, "both": 1}),
    **dict.fromkeys(("decoder_a", "decoder_b"), {"both": 3}),
    **dict.fromkeys(("discriminator_a", "discriminator_b"), DISCRIMINATOR),
}


def passes(config):
    """{network: {kind of pass: number per image of a batch}} of a configuration's step."""
    model, options, hparams = config.model, config.options, config.hparams
    if model == "wgan":
        n = hparams["n_critic"]
        kinds = {
            "generator": {"forward": n, "train": 1},
            "discriminator": {"train": 2 * n, "through": 1},
        }
        return {net: {k: v / n for k, v in counts.items()} for net, counts in kinds.items()}
    if model == "dualgan":
        n = hparams["n_critic"]
        generator = {"forward": 1, "train": 1 / n, "both": 1 / n}
        critic = {"train": 2, "through": 1 / n}
        critics = ("discriminator_a", "discriminator_b")
        return dict.fromkeys(("a2b", "b2a"), generator) | dict.fromkeys(critics, critic)
    if model == "gain":
        each = hparams["masking"] == "each"
        masked = min(hparams["max_classes"], options["classes"]) if each else 1
        kind = "both" if hparams["judge"] == "shared" else "through"
        return {"classifier": {"train": 1, kind: masked if hparams["alpha"] else 0}}
    if model == "ragan":
        encoder = {"train": 1, "both": options["regions"]}
        return {"decoder": {"train": 1}, "encoder": encoder, "discriminator": DISCRIMINATOR}
    if model == "ganimorph":  # both updates of a step share the passes of the discriminators
        kinds = {"forward": 1, "through": 1, "backward": 2 / hparams["d_every"]}
        return TRANSLATOR | dict.fromkeys(("discriminator_a", "discriminator_b"), kinds)
    return {
        "ata_gan": GAN | {"teacher": {"forward": 2}},
        "cyclegan": TRANSLATOR,
        "attention_gan": TRANSLATOR,
        "unit": UNIT,
        "uait": TRANSLATOR,
        "ra": TRANSLATOR,
        "discogan": TRANSLATOR,
        "deeplab": {"segmenter": {"train": 1}},
        "dcgan": GAN,
        "sagan": GAN,
    }.get(model, {"classifier": {"train": 1}})


def layers(network):
    """[(multiply-adds per image with the layer's weights, with its self-attention map, trained,
    reached)]. trained: are its weights trainable? reached: does its input depend on such weights?
    """
    counts, constant = [], {id(tensor) for tensor in network.inputs}
    for layer in network.operations:
        if isinstance(layer, keras.layers.InputLayer):
            continue
        if isinstance(layer, keras.Model):
            counts += [(macs, maps, trained, 1) for macs, maps, trained, _ in layers(layer)]
            continue
        trained = any(w.trainable for w in getattr(layer, "trainable_weights", ()))
        reached = not all(id(x) in constant for x in keras.tree.flatten(layer.input))
        if not (trained or reached):
            constant |= {id(y) for y in keras.tree.flatten(layer.output)}
        if isinstance(layer, SelfAttention):
            positions = math.prod(layer.input.shape[1:3])  # N
            convolutions = (layer.query, layer.key, layer.value)
            macs = positions * sum(math.prod(c.kernel.shape) for c in convolutions)
            maps = positions**2 * (layer.query.filters + layer.value.filters)
            counts.append((macs, maps, trained, reached))
        elif hasattr(layer, "kernel"):
            transposed = isinstance(layer, keras.layers.Conv2DTranspose)
            tensor = layer.input if transposed else layer.output
            macs = math.prod(layer.kernel.shape) * math.prod(tensor.shape[1:-1])
            counts.append((macs, 0, trained, reached))
    return counts


def per_image(config):
    """Floating-point operations per image, or per pair of images, of one step."""
    size, total = config.image_size, 0
    networks = zoo.create(config.model, **config.network_options)
    for name, kinds in passes(config).items():
        encoder = name == "encoder"  # RAGAN's, a part of its attention network
        network = networks["attention"].get_layer("encoder") if encoder else networks[name]
        if None in network.inputs[0].shape[1:]:  # takes images of any size
            side = size // 4 if name.startswith("decoder_") else size  # UNIT's z
            x = keras.Input((side, side, network.inputs[0].shape[-1]))
            network = keras.models.clone_model(network, input_tensors=x)
        for macs, maps, trained, reached in layers(network):
            for kind, count in kinds.items():
                total += count * macs * KINDS[kind](trained, reached)
                total += count * maps * (1 if kind == "forward" else 3)  # gradients of both factors
    return round(2 * total)
