"""The Inception network of FID, IS and KID: the TensorFlow graph inception-2015-12-05.

    image -> resize 299 -> stem 35x35x192 -> mixed .. mixed_2 35x35x288 -> mixed_3 .. mixed_7
    17x17x768 -> mixed_8 .. mixed_10 8x8x2048 -> mean = features -> dense = logits

| node of the graph            | PyTorch checkpoint             | here              |
|------------------------------|--------------------------------|-------------------|
| conv .. conv_4               | Conv2d_1a_3x3 .. Conv2d_4a_3x3 | `stem`            |
| mixed, mixed_1, mixed_2      | Mixed_5b, 5c, 5d               | `block_35`        |
| mixed_3                      | Mixed_6a                       | `reduce_35`       |
| mixed_4 .. mixed_7           | Mixed_6b .. Mixed_6e           | `block_17`        |
| mixed_8                      | Mixed_7a                       | `reduce_17`       |
| mixed_9, mixed_10            | Mixed_7b, 7c                   | `block_8`         |
| pool_3:0                     | AvgPool                        | output "features" |
| softmax/logits/MatMul        | fc without its bias            | output "logits"   |
| mixed_6/conv:0, channels 0-6 | Mixed_6d.branch1x1             | output "spatial"  |

Layers bear the names of the graph's nodes, "-" for "/". Other Inception-v3s (Szegedy et al., 2016)
have other weights and classes (here 1,008), no max pool in mixed_10, some of them means that count
the padding, and another resize; their features give another number than FID.

"spatial" is what sFID compares (Nash et al., 2021), as OpenAI's guided-diffusion takes it. The
graph lists the nodes of a convolution as conv2d_params, Conv2D, batchnorm, CheckNumerics,
control_dependency and last the scope's own name: mixed_6/conv:0 is the value after batch norm and
ReLU, the first 192 channels that the block mixed_6 puts out (guided-diffusion's issue 109 agrees).

All of it is float32 under any dtype policy. A GPU that rounds products to TensorFloat-32 changes
the features; evaluate.features forbids that while it runs an extractor.
"""

import hashlib
import importlib.util
import io
import re
import socket
import urllib.parse
import urllib.request
from pathlib import Path

import keras
import numpy as np
from keras import ops

from ..common import variables
from ..common.downloads import DownloadError, download, short
from ..common.errors import UsageError
from ..common.files import cache_folder, user_path

SIZE = 299
GRAPH = "classify_image_graph_def.pb"
CHECKPOINT = "pt_inception-2015-12-05-6726825d.pth"
NAMES = (GRAPH, CHECKPOINT, "weights-inception-2015-12-05-6726825d.pth")  # the last two are equal
SHA256 = {
    "009d6814d1bc560d4e7b236e170e9b2d5ca6f4b57bd8037f6db05776204415c6": GRAPH,
    "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2": CHECKPOINT,
}
URL = f"https://openaipublic.blob.core.windows.net/diffusion/jul-2021/ref_batches/{GRAPH}"


class InceptionError(UsageError):
    """Weights that are not there or not the right ones; the message is one line that says what to
    do."""


def resize(images, size=SIZE):
    """(B, H, W, C) -> float32 (B, size, size, C), TensorFlow 1's tf.image.resize_bilinear.

    Row i lies at i * H / size, between two rows of the image or on its last; no antialias. Rows
    are picked and blended, not multiplied by a matrix: the result is TensorFlow's to the bit
    (compiled by XLA, to the last one).
    """
    x = ops.cast(images, "float32")
    for axis in (2, 1):
        count = ops.shape(x)[axis]
        place = ops.arange(size, dtype="float32") * (ops.cast(count, "float32") / size)
        low = ops.cast(ops.floor(place), "int32")
        high = ops.minimum(low + 1, count - 1)
        share = ops.reshape(place - ops.floor(place), (size, 1) if axis == 2 else (size, 1, 1))
        first = ops.take(x, low, axis)
        x = first + (ops.take(x, high, axis) - first) * share
    return x


@keras.saving.register_keras_serializable("evaluate")
class Resize(keras.layers.Layer):
    """`resize` as a layer: (B, H, W, C) -> (B, size, size, C)."""

    def __init__(self, size=SIZE, **kwargs):
        super().__init__(**kwargs)
        self.size = size

    def call(self, images):
        return resize(images, self.size)

    def compute_output_shape(self, shape):
        return (shape[0], self.size, self.size, shape[3])

    def get_config(self):
        return {**super().get_config(), "size": self.size}


def unit(x, scope, filters, kernel, strides=1, padding="same"):
    """(B, H, W, C) -> (B, H', W', filters): convolution, batch norm, ReLU."""
    name = scope.replace("/", "-")
    x = keras.layers.Conv2D(
        filters,
        kernel,
        strides,
        padding,
        use_bias=False,
        kernel_initializer="zeros",
        dtype="float32",
        name=f"{name}-conv2d_params",
    )(x)
    x = keras.layers.BatchNormalization(epsilon=1e-3, dtype="float32", name=f"{name}-batchnorm")(x)
    return keras.layers.ReLU(dtype="float32", name=name)(x)


def units(x, scope, *rows):
    """The units conv, conv_1, ... of a scope, one after the other."""
    for i, row in enumerate(rows):
        x = unit(x, f"{scope}/conv_{i}" if i else f"{scope}/conv", *row)
    return x


def max_pool(x, name, strides=2, padding="valid"):
    return keras.layers.MaxPooling2D(3, strides, padding, dtype="float32", name=name)(x)


def mean_pool(x, name):
    """Means over 3x3 values, at the border over the values inside."""
    return keras.layers.AveragePooling2D(3, 1, "same", dtype="float32", name=name)(x)


def join(name, *branches):
    return keras.layers.Concatenate(dtype="float32", name=f"{name}-join")(branches)


def stem(x):
    """(B, 299, 299, 3) -> (B, 35, 35, 192)."""
    x = unit(x, "conv", 32, 3, 2, "valid")  # (B, 149, 149, 32)
    x = unit(x, "conv_1", 32, 3, 1, "valid")  # (B, 147, 147, 32)
    x = unit(x, "conv_2", 64, 3)
    x = max_pool(x, "pool")  # (B, 73, 73, 64)
    x = unit(x, "conv_3", 80, 1)
    x = unit(x, "conv_4", 192, 3, 1, "valid")  # (B, 71, 71, 192)
    return max_pool(x, "pool_1")


def block_35(x, name, pooled):
    """(B, 35, 35, C) -> (B, 35, 35, 224 + pooled)."""
    return join(
        name,
        units(x, name, (64, 1)),
        units(x, f"{name}/tower", (48, 1), (64, 5)),
        units(x, f"{name}/tower_1", (64, 1), (96, 3), (96, 3)),
        units(mean_pool(x, f"{name}-tower_2-pool"), f"{name}/tower_2", (pooled, 1)),
    )


def reduce_35(x, name):
    """(B, 35, 35, 288) -> (B, 17, 17, 768)."""
    return join(
        name,
        units(x, name, (384, 3, 2, "valid")),
        units(x, f"{name}/tower", (64, 1), (96, 3), (96, 3, 2, "valid")),
        max_pool(x, f"{name}-pool"),
    )


def block_17(x, name, inner):
    """(B, 17, 17, 768) -> the same shape; inner: channels between the 1x7 and 7x1 convolutions."""
    row, column = (inner, (1, 7)), (inner, (7, 1))
    return join(
        name,
        units(x, name, (192, 1)),
        units(x, f"{name}/tower", (inner, 1), row, (192, (7, 1))),
        units(x, f"{name}/tower_1", (inner, 1), column, row, column, (192, (1, 7))),
        units(mean_pool(x, f"{name}-tower_2-pool"), f"{name}/tower_2", (192, 1)),
    )


def reduce_17(x, name):
    """(B, 17, 17, 768) -> (B, 8, 8, 1280)."""
    return join(
        name,
        units(x, f"{name}/tower", (192, 1), (320, 3, 2, "valid")),
        units(x, f"{name}/tower_1", (192, 1), (192, (1, 7)), (192, (7, 1)), (192, 3, 2, "valid")),
        max_pool(x, f"{name}-pool"),
    )


def block_8(x, name, pooled):
    """(B, 8, 8, C) -> (B, 8, 8, 2048); pooled: x after the pool."""
    tower = units(x, f"{name}/tower", (384, 1))
    tower_1 = units(x, f"{name}/tower_1", (448, 1), (384, 3))
    return join(
        name,
        units(x, name, (320, 1)),
        unit(tower, f"{name}/tower/mixed/conv", 384, (1, 3)),
        unit(tower, f"{name}/tower/mixed/conv_1", 384, (3, 1)),
        unit(tower_1, f"{name}/tower_1/mixed/conv", 384, (1, 3)),
        unit(tower_1, f"{name}/tower_1/mixed/conv_1", 384, (3, 1)),
        units(pooled, f"{name}/tower_2", (192, 1)),
    )


def build():
    """-> model: uint8 images (B, H, W, 3) -> {"features" (B, 2048), "logits" (B, 1008), "spatial"}.

    "logits" are without the bias, like torch-fidelity's logits_unbiased; "spatial" (B, 2023) runs
    over rows, columns, channels. The weights are frozen, and zeros until `fill` sets them. Images
    of another type are cast to uint8 without a warning: quantise them first.
    """
    image = keras.Input((None, None, 3), dtype="uint8", name="image")
    x = Resize(dtype="float32", name="resize")(image)
    x = keras.layers.Rescaling(1 / 128, offset=-1, dtype="float32", name="scale")(x)
    x = stem(x)
    for name, pooled in (("mixed", 32), ("mixed_1", 64), ("mixed_2", 64)):
        x = block_35(x, name, pooled)
    x = reduce_35(x, "mixed_3")
    for name, inner in (("mixed_4", 128), ("mixed_5", 160), ("mixed_6", 160), ("mixed_7", 192)):
        x = block_17(x, name, inner)
        if name == "mixed_6":
            spatial = keras.layers.Flatten(dtype="float32", name="spatial")(x[..., :7])
    x = reduce_17(x, "mixed_8")
    x = block_8(x, "mixed_9", mean_pool(x, "mixed_9-tower_2-pool"))
    x = block_8(x, "mixed_10", max_pool(x, "mixed_10-tower_2-pool", 1, "same"))
    features = keras.layers.GlobalAveragePooling2D(dtype="float32", name="features")(x)
    logits = keras.layers.Dense(
        1008,
        use_bias=False,
        kernel_initializer="zeros",
        dtype="float32",
        name="softmax-weights",
    )(features)
    outputs = {"features": features, "logits": logits, "spatial": spatial}
    model = keras.Model(image, outputs, name="inception")
    model.trainable = False
    return model


def nodes(model):
    """{name of a constant of the graph: the variable of a `build` for it}."""
    by_name = {}
    for layer in model.layers:
        scope = layer.name.replace("-", "/")
        for variable in layer.weights:
            by_name[scope if variable.name == "kernel" else f"{scope}/{variable.name}"] = variable
    return by_name


def digest(model):
    """sha256 of a `build`'s weights, the same whichever file they were loaded from."""
    whole = hashlib.sha256()
    for name, variable in sorted(nodes(model).items()):
        whole.update(name.encode())
        whole.update(ops.convert_to_numpy(variable).astype("<f4").tobytes())
    return whole.hexdigest()


STEM = ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "Conv2d_3b_1x1", "Conv2d_4a_3x3")
BLOCKS = ("5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e", "7a", "7b", "7c")  # mixed .. mixed_10
BRANCHES = {  # the checkpoint's names for conv, tower, tower_1, tower_2 of a block
    "5": ("branch1x1", "branch5x5", "branch3x3dbl", "branch_pool"),
    "6a": ("branch3x3", "branch3x3dbl"),
    "6": ("branch1x1", "branch7x7", "branch7x7dbl", "branch_pool"),
    "7a": (None, "branch3x3", "branch7x7x3"),
    "7": ("branch1x1", "branch3x3", "branch3x3dbl", "branch_pool"),
}
LEAVES = {
    "conv2d_params": "conv.weight",
    "batchnorm/gamma": "bn.weight",
    "batchnorm/beta": "bn.bias",
    "batchnorm/moving_mean": "bn.running_mean",
    "batchnorm/moving_variance": "bn.running_var",
}
NODE = re.compile(r"(?:mixed_?(\d*)/)?(?:tower_?(\d*)/)?(mixed/)?conv_?(\d*)/(.+)")


def checkpoint_key(node):
    """mixed_9/tower/mixed/conv_1/batchnorm/beta -> Mixed_7b.branch3x3_2b.bn.bias."""
    if node.startswith("softmax"):
        return {"softmax/weights": "fc.weight", "softmax/biases": "fc.bias"}[node]
    block, tower, split, number, leaf = NODE.fullmatch(node).groups()
    number = int(number or 0)
    if block is None:
        return f"{STEM[number]}.{LEAVES[leaf]}"
    block = BLOCKS[int(block or 0)]
    tower = 0 if tower is None else 1 + int(tower or 0)
    branch = BRANCHES.get(block, BRANCHES.get(block[0]))[tower]
    if split:
        branch += f"_{tower + 1}{'ab'[number]}"
    elif tower in (1, 2):
        branch += f"_{number + 1}"
    return f"Mixed_{block}.{branch}.{LEAVES[leaf]}"


def read_checkpoint(data):
    """Bytes of a PyTorch checkpoint -> {key: array, its axes in the graph's order}."""
    try:
        import torch
    except ImportError:
        raise InceptionError(f"needs PyTorch to be read: install torch, or use {GRAPH}") from None
    try:
        state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        state = {k: v.numpy() for k, v in state.items() if not k.endswith("num_batches_tracked")}
    except Exception as error:  # any error of a damaged zip or pickle
        raise InceptionError(f"is not a PyTorch checkpoint of arrays ({_line(error)})") from None
    return {k: v.transpose(2, 3, 1, 0) if v.ndim == 4 else v.T for k, v in state.items()}


def read_graph(data):
    """Bytes of a frozen GraphDef -> {name: array} of the constants that are weights."""
    import tensorflow as tf
    from google.protobuf.message import DecodeError

    weights = tuple(f"/{leaf}" for leaf in (*LEAVES, "weights", "biases"))
    try:
        return {
            node.name: tf.make_ndarray(node.attr["value"].tensor)
            for node in tf.compat.v1.GraphDef.FromString(data).node
            if node.op == "Const" and node.name.endswith(weights)
        }
    except (DecodeError, TypeError, ValueError) as error:
        raise InceptionError(
            f"is neither a PyTorch checkpoint nor a frozen graph ({_line(error)})"
        ) from None


def fill(model, arrays, key=str):
    """Sets the variables of a `build` from {key(name in the graph): array}.

    If one array is missing, unknown or of another shape, InceptionError names it, and no variable
    is set.
    """
    ours = {key(name): variable for name, variable in nodes(model).items()}
    shapes = {name: variable.shape for name, variable in ours.items()}
    shapes[key("softmax/biases")] = (1008,)  # which the model leaves out
    try:
        variables.check(shapes, arrays)
    except variables.Misfit as error:
        first, *others = error.faults.values()
        more = f", and {len(others)} faults more" if others else ""
        raise InceptionError(f"{first}{more}") from None
    for name, variable in ours.items():
        variable.assign(np.asarray(arrays[name], np.float32))


def load(path, *, accepted=SHA256):
    """File with the PyTorch checkpoint or the frozen graph -> `build` with its weights.

    accepted: sha256 digests; the file must have one of them before anything in it is parsed. A file
    that cannot be read, is another one or does not fit raises InceptionError.
    """
    data = _read(path)
    sha256 = hashlib.sha256(data).hexdigest()
    if sha256 not in accepted:
        raise InceptionError(
            f"{path} is neither {GRAPH} nor {CHECKPOINT}, or it is damaged (sha256 {sha256}): "
            f"download it again"
        )
    try:
        if data[:2] in (b"PK", b"\x80\x02"):  # a zip, or a pickle from before PyTorch 1.6
            arrays, key = read_checkpoint(data), checkpoint_key
        else:
            arrays, key = read_graph(data), str
        model = build()
        fill(model, arrays, key)
    except InceptionError as error:
        raise InceptionError(f"{path} {error}") from None
    return model


def find(path=None, cache=None):
    """-> Path of the weights, or None where no path is given and the cache holds none.

    path: the file, or a folder with the file under one of NAMES; any other raises InceptionError.
    cache: the folder to look into without a path (default: `cache_folder`). A checkpoint there
    counts only if PyTorch is installed to read it.
    """
    folder = user_path(path) if path else Path(cache or cache_folder())
    if path and folder.is_file():
        return folder
    for name in NAMES:
        if (folder / name).is_file() and (path or name == GRAPH or has_torch()):
            return folder / name
    if path:
        raise InceptionError(f"{path} is neither a file nor a folder with {' or '.join(NAMES)}")
    return None


def has_torch():
    """Whether PyTorch is installed."""
    return importlib.util.find_spec("torch") is not None


def fetch(cache=None):
    """Downloads the graph (96 MB) unless the cache has it -> its Path; else InceptionError."""
    folder = Path(cache or cache_folder()).absolute()
    place, host = folder / GRAPH, urllib.parse.urlsplit(URL).hostname
    sha256 = next(key for key, name in SHA256.items() if name == GRAPH)
    if place.is_file() and hashlib.sha256(_read(place)).hexdigest() == sha256:
        return place
    advice = f"put {CHECKPOINT}, or {GRAPH} from {URL}, into {folder}"
    if not urllib.request.getproxies():
        try:
            socket.create_connection((host, 443), timeout=5).close()
        except OSError:
            raise InceptionError(f"{host} cannot be reached: {advice}") from None
    try:
        return download(URL, folder, GRAPH, sha256)
    except (DownloadError, OSError) as error:
        raise InceptionError(
            f"{GRAPH} could not be downloaded ({short(error)}): {advice}"
        ) from None


def _read(path):
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InceptionError(f"{path} cannot be read: {error.strerror}") from None


def _line(error):
    """The kind and message of an exception, in one short line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:200]
