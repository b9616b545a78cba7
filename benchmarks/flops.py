"""Arithmetic of a training step, from the shapes of the networks and what passes through them.

Counted are convolutions, dense layers and the products of self-attention; each has a forward pass
and, where they are needed, gradients by its weights and by its input, which take as much each.
"""

import math

import keras

from attention_zoo import zoo
from attention_zoo.zoo.layers.self_attention import SelfAttention

KINDS = {  # of a pass: how often a layer's products are done, of `trained` and `reached`, 0 or 1
    "forward": lambda trained, reached: 1,
    "train": lambda trained, reached: 1 + trained + reached,  # of what the networks are given
    "both": lambda trained, reached: 2 + trained,  # and by the input, which other weights made
    "through": lambda trained, reached: 2,  # by the input alone, whose weights are not updated
}
TWO = {"train": 2, "through": 1}  # a discriminator: a real and a made image, then the made one
GAN = {"generator": {"train": 1}, "discriminator": TWO}
TRANSLATOR = {
    **dict.fromkeys(("a2b", "b2a"), {"train": 1, "both": 1}),  # there, and again
    **dict.fromkeys(("discriminator_a", "discriminator_b"), TWO),
}


def passes(config):
    """{network: {kind of pass: how many for each image of a batch}} of a configuration's step."""
    model, options, hparams = config.model, config.options, config.hparams
    if model == "wgan":
        n = hparams["n_critic"]
        kinds = {
            "generator": {"forward": n, "train": 1},
            "discriminator": {"train": 2 * n, "through": 1},
        }
        return {net: {k: count / n for k, count in own.items()} for net, own in kinds.items()}
    if model == "gain":
        each = hparams["masking"] == "each"
        masked = min(hparams["max_classes"], options["classes"]) if each else 1
        kind = "both" if hparams["judge"] == "shared" else "through"
        return {"classifier": {"train": 1, kind: masked if hparams["alpha"] else 0}}
    if model == "ragan":
        encoder = {"train": 1, "both": options["regions"]}
        return {"decoder": {"train": 1}, "encoder": encoder, "discriminator": TWO}
    return {
        "ata_gan": GAN | {"teacher": {"forward": 2}},
        "cyclegan": TRANSLATOR,
        "attention_gan": TRANSLATOR,
        "deeplab": {"segmenter": {"train": 1}},
        "dcgan": GAN,
        "sagan": GAN,
    }.get(model, {"classifier": {"train": 1}})


def layers(network):
    """[(multiply-adds of an image by the layer's weights, by its self-attention's map, trained,
    reached: does the layer's input depend on weights that are trained?)]"""
    found, given = [], {id(tensor) for tensor in network.inputs}
    for layer in network.operations:
        if isinstance(layer, keras.layers.InputLayer):
            continue
        if isinstance(layer, keras.Model):
            found += [(macs, more, t, 1) for macs, more, t, _ in layers(layer)]
            continue
        trained = any(w.trainable for w in getattr(layer, "trainable_weights", ()))
        reached = not all(id(x) in given for x in keras.tree.flatten(layer.input))
        if not (trained or reached):
            given |= {id(y) for y in keras.tree.flatten(layer.output)}
        if isinstance(layer, SelfAttention):
            places = math.prod(layer.input.shape[1:3])  # N
            convolutions = (layer.query, layer.key, layer.value)
            macs = places * sum(math.prod(c.kernel.shape) for c in convolutions)
            maps = places**2 * (layer.query.filters + layer.value.filters)
            found.append((macs, maps, trained, reached))
        elif hasattr(layer, "kernel"):
            at = layer.input if isinstance(layer, keras.layers.Conv2DTranspose) else layer.output
            macs = math.prod(layer.kernel.shape) * math.prod(at.shape[1:-1])
            found.append((macs, 0, trained, reached))
    return found


def per_image(config):
    """Floating-point operations of one image, or pair of images, in one step."""
    size, total = config.image_size, 0
    networks = zoo.create(config.model, **config.network_options)
    for name, kinds in passes(config).items():
        encoder = name == "encoder"  # of RAGAN, a part of its network of attention
        network = networks["attention"].get_layer("encoder") if encoder else networks[name]
        if None in network.inputs[0].shape[1:]:  # of images of any size
            image = keras.Input((size, size, 3), name="image")
            network = keras.models.clone_model(network, input_tensors=image)
        for macs, maps, trained, reached in layers(network):
            for kind, count in kinds.items():
                total += count * macs * KINDS[kind](trained, reached)
                total += count * maps * (1 if kind == "forward" else 3)  # gradients by both factors
    return round(2 * total)
