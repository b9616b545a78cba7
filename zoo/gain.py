"""GAIN: guided attention inference network (Li, Wu, Peng, Ernst, Fu, CVPR 2018).

    image I -> FEATURES f (h, w, K) -> HEAD -> logits          classification stream S_cl
                        |                |
                        A^c = ReLU(conv(f, GAP(ds^c / df)))    Grad-CAM of a class that is there
                        |
    I* = I - T(A^c) * I -> FEATURES -> HEAD -> s^c(I*)         attention mining S_am, shared weights
                        A^c - H^c                              GAIN_ext: where there are masks H^c

| notes                                      | here                                     |
|--------------------------------------------|------------------------------------------|
| S_cl, S_am                                 | `classifier`, called on I and on I*      |
| f_l, s^c of f_l                            | `features`, `head`, the parts of it      |
| w^c, A^c, T, I*                            | zoo.layers.grad_cam                      |
| L_cl, L_am, L_e                            | trainers.losses                          |
| VGG16 pretrained on ImageNet               | `backbone`, `start`                      |

The classifier may be any of the zoo; `layer` names the layer whose output is f. Grad-CAM needs a
gradient inside the network, which a saved network cannot compute. If f is averaged globally, A can
be computed without one (zoo.layers.grad_cam), and the network `attention` does so.
"""

import keras
from keras import ops

from . import registry
from .layers import cam, grad_cam, multi_scale
from .networks import Networks, copy_backbone

LAYERS = ("map", "middle")


def explained(classifier, scales=()):
    """A classifier with a global average of its layer `map` -> keras.Model with the same weights,
    image -> {"logits" (B, C), "attention": A^c of every class (B, C, S, S), each from 0 to 1}.

    scales: A^c is the mean of the ReLU of the class activation maps of the image at these sizes,
    relative to its own, and of its mirror images (zoo.layers.multi_scale); (): of the image alone.
    """
    features, dense = (classifier.get_layer(name) for name in ("map", "logits"))
    maps = cam.class_maps(features.output, dense)
    size, dtype = classifier.input_shape[1], keras.config.floatx()
    if scales:
        mean = multi_scale.averaged(classifier.input, ops.relu(maps), scales)
        attention = grad_cam.to_image_size(ops.transpose(mean, (0, 3, 1, 2)), size)
    else:
        attention = grad_cam.OfAverage(size, dtype=dtype, name="attention")(maps)
    outputs = {"logits": dense.output, "attention": attention}
    return keras.Model(classifier.input, outputs, name="attention")


def parts(classifier, layer="map", averaged=True, start="", scales=()):
    """-> the Networks of `build`, for the classifier that a function () makes.

    averaged: whether the classifier's logits are a linear layer of the average of its layer `map`.
    scales: as of `explained`.
    """

    def features():
        whole = networks["classifier"]
        return keras.Model(whole.input, whole.get_layer(layer).output, name="features")

    def head():
        whole = networks["classifier"]
        return keras.Model(whole.get_layer(layer).output, whole.output, name="head")

    makers = {"classifier": classifier, "features": features, "head": head}
    if averaged and layer == "map":
        makers["attention"] = lambda: explained(networks["classifier"], scales)
    networks = Networks(
        makers, start=start, transfer=lambda source: copy_backbone(networks["classifier"], source)
    )
    return networks


def build(
    image_size=64,
    classes=8,
    backbone="vgg16",
    width=64,
    layer="map",
    head="gap",
    normalise="none",
    stages=3,
    output_stride=32,
    start="",
    scales="",
):
    """-> Networks "classifier": image (B, S, S, 3) in [-1, 1] -> logits (B, classes); "features":
    image -> f (B, h, w, K); "head": f -> logits; "attention": image -> {"logits", "attention" (B,
    classes, S, S) from 0 to 1}. All share the same weights.

    With layer="middle" or head="fc" there is no "attention". backbone: a classifier of the zoo.
    width, head, normalise, stages, output_stride: options of the backbone; only width is one of
    every backbone. layer: the layer whose output is f, "map" or "middle". start: MODEL:TAG, the
    weights that training starts from, all but the last layer's. scales: sizes of the image,
    relative to its own, as "0.75,1,1.25": "attention" is the mean over these and over their mirror
    images; "": of the image alone. Training does not use them.
    """
    backbones = registry.names("classification")
    if backbone not in backbones:
        raise ValueError(f"backbone takes one of {', '.join(backbones)}, not {backbone!r}")
    if layer not in LAYERS:
        raise ValueError(f"layer takes one of {', '.join(LAYERS)}, not {layer!r}")
    sizes = multi_scale.numbers(scales)
    if sizes and (layer != "map" or head == "fc"):
        raise ValueError("scales needs layer=map and head=gap, whose maps have no fixed size")
    usual = {"head": "gap", "normalise": "none", "stages": 3, "output_stride": 32}
    options = dict(zip(usual, (head, normalise, stages, output_stride)))
    options = {name: value for name, value in options.items() if value != usual[name]}
    for name in sorted(options.keys() - registry.options(backbone).keys()):
        raise ValueError(f"{backbone} has no option {name}: leave it at {usual[name]}")
    networks = registry.networks(
        backbone, image_size=image_size, classes=classes, width=width, **options
    )
    return parts(lambda: networks["classifier"], layer, head != "fc", start, sizes)
