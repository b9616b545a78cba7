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

Any classifier of the zoo serves, of which `layer` is f. Grad-CAM takes a gradient inside the
network, which no saved network can; with global average pooling, and f its last map, A has a form
without one (zoo.layers.grad_cam), and `attention` is such a network.
"""

import functools

import keras

from . import registry, weights
from .layers import cam, grad_cam

LAYERS = ("map", "middle")


def begin(classifier, found):
    """Sets a classifier's weights to those of another, all but the last layer's."""
    held = {v.path: v for v in found.variables}
    ours = [v for v in classifier.variables if not v.path.startswith("logits/")]
    wrong = [v.path for v in ours if v.path not in held or held[v.path].shape != v.shape]
    if wrong:
        raise ValueError(
            f"does not fit the backbone ({', '.join(wrong[:3])} of {len(wrong)}): "
            "--set backbone=, width= and head= as it was made with"
        )
    for variable in ours:
        variable.assign(held[variable.path])


def explained(classifier):
    """A classifier whose layer `map` is averaged for its logits -> keras.Model, image -> {"logits"
    (B, C), "attention": A^c of every class (B, C, S, S), each from 0 to 1}, of the same weights."""
    features, dense = (classifier.get_layer(name) for name in ("map", "logits"))
    maps = cam.class_maps(features.output, dense)
    size, dtype = classifier.input_shape[1], keras.config.floatx()
    shown = grad_cam.OfAverage(size, dtype=dtype, name="attention")(maps)
    outputs = {"logits": dense.output, "attention": shown}
    return keras.Model(classifier.input, outputs, name="attention")


def parts(classifier, layer="map", start=""):
    """A classifier of the zoo -> what `build` gives of it."""
    f = classifier.get_layer(layer).output
    networks = {
        "classifier": classifier,
        "features": keras.Model(classifier.input, f, name="features"),
        "head": keras.Model(f, classifier.output, name="head"),
    }
    average = classifier.get_layer("features")
    if layer == "map" and isinstance(average, keras.layers.GlobalAveragePooling2D):
        networks["attention"] = explained(classifier)
    return weights.Networks(networks, start, functools.partial(begin, classifier))


def build(
    image_size=64,
    classes=8,
    backbone="vgg16",
    width=64,
    layer="map",
    head="gap",
    normalise="none",
    stages=3,
    start="",
):
    """-> {"classifier": image (B, S, S, 3) in [-1, 1] -> logits (B, classes), "features": image ->
    f (B, h, w, K), "head": f -> logits, "attention": image -> {"logits", "attention" (B, classes,
    S, S) from 0 to 1}}, all of the same weights.

    There is no "attention" with layer="middle", nor with a head that is no global average.
    backbone: a classifier of the zoo. width, head, normalise, stages: its options, of which all but
    the first some have. layer: f, "map" or "middle". start: MODEL:TAG, weights that training starts
    from.
    """
    known = [name for name in registry.names() if registry.get(name).trainer == "classifier"]
    if backbone not in known:
        raise ValueError(f"backbone takes one of {', '.join(known)}, not {backbone!r}")
    if layer not in LAYERS:
        raise ValueError(f"layer takes one of {', '.join(LAYERS)}, not {layer!r}")
    usual = {"head": "gap", "normalise": "none", "stages": 3}
    options = {"head": head, "normalise": normalise, "stages": stages}
    options = {name: value for name, value in options.items() if value != usual[name]}
    for name in sorted(options.keys() - registry.options(backbone).keys()):
        raise ValueError(
            f"{backbone} has no option {name}: --set {name}={usual[name]} goes with it"
        )
    made = registry.create(backbone, image_size=image_size, classes=classes, width=width, **options)
    return parts(made["classifier"], layer, start)
