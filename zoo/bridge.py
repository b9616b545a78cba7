"""Checkpoints of other programs: read without executing anything in them, converted to our layout.

| file                                     | read by                                             |
|------------------------------------------|-----------------------------------------------------|
| PyTorch, .pth or .pt                     | torch.load, weights_only: arrays or nothing         |
| .safetensors                             | safetensors                                         |
| HDF5 of tf.keras: save_weights, or save  | h5py, the data sets stored in the file itself       |

    arrays = read("resnet18.pth")  # {"conv1.weight": (O, I, H, W), ...}
    network = zoo.create("resnet18", **options("resnet18", arrays))["classifier"]
    weights.fill(network, convert("resnet18", arrays, network), "resnet18.pth")

    fill_hdf5(network, "generator.h5")  # any Keras network, by the names of its layers

`normalised` leaves out what training programs put around the names and beside the network.
`LAYOUTS` maps our layers to the modules of PyTorch checkpoints; a row makes the checkpoints of one
more model readable. Kernels are transposed from (out, in, height, width) to Keras' (height, width,
in, out), those of transposed convolutions from (in, out, ...) to (..., out, in), and those of dense
layers from (out, in) to (in, out).
"""

import dataclasses
import io
import re

import keras
import ml_dtypes
import numpy as np
import safetensors

from ..common import variables
from . import efficientnet_lite, weights
from .layers import convolution, spectral_norm
from .weights import WeightsError

LEAVES = {  # of PyTorch's layers
    "kernel": "weight",
    "bias": "bias",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
WRAPPERS = ("module", "_orig_mod")  # of DataParallel, DDP and AveragedModel; of torch.compile
NESTS = (  # where training programs keep a network beside other things, averaged weights first
    *("params_ema", "model_ema", "state_dict_ema", "ema", "state_dict", "model"),
    *("model_state_dict", "params", "net", "netG", "netG_A"),
)
COUNTERS = ("n_averaged", "num_batches_tracked")  # of AveragedModel and batch normalisation
DTYPES = {  # of safetensors
    **{"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": ml_dtypes.bfloat16},
    **{"I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1"},
    **{"U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1", "BOOL": "?"},
}
ITERATED = ("sn_u", "vector_u")  # u of spectral normalisation: TensorFlow Addons', tf.keras' own
SEED = "seed_generator_state"  # of random layers, which no checkpoint holds
PLAIN = {
    spectral_norm.SNConv2D: convolution.Conv2D,
    spectral_norm.SNConv2DTranspose: convolution.Conv2DTranspose,
    spectral_norm.SNDense: keras.layers.Dense,
    spectral_norm.SNEmbedding: keras.layers.Embedding,
}


@dataclasses.dataclass(frozen=True)
class Layout:
    """The names of layers in a model's checkpoints.

    names: our layer -> their module. classes: their array with one entry per class, if any.
    options: the options of our build that match the checkpoints. flat: our dense layer -> the side
    of the feature map before it, which they flatten with channels first. spare: endings of names
    that are not needed.
    """

    names: dict
    classes: str = ""
    options: dict = dataclasses.field(default_factory=dict)
    flat: dict = dataclasses.field(default_factory=dict)
    spare: tuple = ()


def _resnet18():
    names = {"stem": "conv1", "stem_bn": "bn1", "logits": "fc"}
    for i, stage in enumerate(("stage1", "stage2", "middle", "map"), start=1):
        for j, block in enumerate((f"{stage}_in", stage)):
            theirs = f"layer{i}.{j}"
            for k in (1, 2):
                names[f"{block}_{k}"] = f"{theirs}.conv{k}"
                names[f"{block}_{k}_bn"] = f"{theirs}.bn{k}"
            names[f"{block}_shortcut"] = f"{theirs}.downsample.0"
            names[f"{block}_shortcut_bn"] = f"{theirs}.downsample.1"
    return names


def _squeezenet():
    names = {"stem": "features.0", "class_map": "classifier.1"}
    for number, place in zip(range(2, 10), (3, 4, 6, 7, 9, 10, 11, 12)):
        names[f"fire{number}_squeeze"] = f"features.{place}.squeeze"
        names[f"fire{number}_expand1"] = f"features.{place}.expand1x1"
        names[f"fire{number}_expand3"] = f"features.{place}.expand3x3"
    return names


def _vgg16():
    names = {"fc6": "classifier.0", "fc7": "classifier.3", "logits": "classifier.6"}
    place = 0
    for block, convolutions in enumerate((2, 2, 3, 3, 3), start=1):
        for i in range(convolutions):
            names[f"conv{block}_{i + 1}"] = f"features.{place}"
            place += 2  # a convolution and its ReLU
        place += 1  # the pooling
    return names


def _efficientnet_lite0():
    """That of the package efficientnet_lite_pytorch."""
    names = {"stem": "_conv_stem", "stem_bn": "_bn0", "head": "_conv_head", "head_bn": "_bn1"}
    names["logits"] = "_fc"
    for i in range(sum(stage[-1] for stage in efficientnet_lite.STAGES)):
        for k, part in enumerate(("expand", "depthwise", "project")):
            names[f"block{i}_{part}"] = f"_blocks.{i}._{part}_conv"
            names[f"block{i}_{part}_bn"] = f"_blocks.{i}._bn{k}"
    return names


def _cyclegan(arrays):
    """`resnet_9blocks` and `resnet_6blocks` of pytorch-CycleGAN-and-pix2pix."""
    blocks = sum(k.endswith(".conv_block.1.weight") for k in arrays)
    dropout = any(k.endswith(".conv_block.6.weight") for k in arrays)  # a layer without weights
    names = {"stem": "model.1", "down1": "model.4", "down2": "model.7"}
    for i in range(blocks):
        names[f"block{i}_1"] = f"model.{10 + i}.conv_block.1"
        names[f"block{i}_2"] = f"model.{10 + i}.conv_block.{6 if dropout else 5}"
    for i, ours in enumerate(("up1", "up2")):
        names[ours] = f"model.{10 + blocks + 3 * i}"
    names["to_rgb"] = f"model.{17 + blocks}"
    sizes = {"width": _rows(arrays, "model.1.weight"), "blocks": blocks}
    return _translator("cyclegan", names, sizes, arrays)


def _attention_gan(arrays):
    """`ResnetGenerator_our` of AttentionGAN: scheme 2."""
    blocks = sum(re.fullmatch(r"resnet_blocks\.\d+\.conv1\.weight", k) is not None for k in arrays)
    names = {"stem": "conv1", "down1": "conv2", "down2": "conv3"}
    for i in range(blocks):
        for k in (1, 2):
            names[f"block{i}_{k}"] = f"resnet_blocks.{i}.conv{k}"
    for ours, theirs in (("content", "content"), ("mask", "attention")):
        for k, layer in enumerate((f"{ours}_up1", f"{ours}_up2", ours), start=1):
            names[layer] = f"deconv{k}_{theirs}"
    sizes = {"width": _rows(arrays, "conv1.weight"), "blocks": blocks}
    sizes["masks"] = _rows(arrays, "deconv3_attention.weight")
    return _translator("attention_gan", names, sizes, arrays)


def _rows(arrays, name):
    """The number of outputs of a layer, by its kernel or bias; 0 without an array of that name."""
    return len(arrays[name]) if np.ndim(arrays.get(name)) else 0


def _translator(name, names, sizes, arrays):
    """The Layout of a translator, which has the image size of its training and the sizes that are
    known. Batch normalisation raises WeightsError; it has statistics and a scale."""
    scaled = {k.removesuffix(".weight") for k, a in arrays.items() if np.ndim(a) == 1}
    if any(f"{module}.running_mean" in arrays for module in scaled):
        raise WeightsError(
            f"a batch-normalised checkpoint cannot become {name}, which has instance "
            "normalisation: take a checkpoint that was trained with --norm instance"
        )
    options = {"image_size": 256} | {k: v for k, v in sizes.items() if v}
    return Layout(names, options=options, spare=STATISTICS)


STATISTICS = (".running_mean", ".running_var")  # which old PyTorch stored for instance norm
IMAGENET = {"image_size": 224, "normalise": "imagenet"}
CENTRED = {"centred": True}
LAYOUTS = {  # a Layout, or a function of the arrays that returns it; torchvision's come first
    "resnet18": Layout(_resnet18(), "fc.bias", IMAGENET | CENTRED),
    "squeezenet": Layout(_squeezenet(), "classifier.1.bias", IMAGENET | CENTRED | {"head": "conv"}),
    "vgg16": Layout(_vgg16(), "classifier.6.bias", IMAGENET | {"head": "fc"}, {"fc6": 7}),
    "efficientnet_lite0": Layout(_efficientnet_lite0(), "_fc.bias", {"image_size": 224} | CENTRED),
    "cyclegan": _cyclegan,
    "attention_gan": _attention_gan,
}


def read(path):
    """File -> {name: array}, as `normalised` returns them; a file that cannot be read, or holds
    more than arrays, raises WeightsError.

    Names are PyTorch's, or tf.keras' "layer/weight", without the name of the model.
    """
    data = weights.read(str(path))
    reader = next((r for magic, r in READERS.items() if data.startswith(magic)), _safetensors)
    try:
        return normalised(reader(data))
    except WeightsError as error:
        raise WeightsError(f"{path} {error}") from None


def normalised(arrays):
    """{name: array} of a PyTorch checkpoint -> the same of one network, by its own names.

    The names of WRAPPERS fall away anywhere and those of NESTS at the beginning, in any nesting:
    "ema.module.fc.bias" becomes "fc.bias". Where a checkpoint has several NESTS, the first one is
    taken, and the rest is left out. COUNTERS and other scalars are left out, too. Names of tf.keras
    stay as they are. Without arrays, or with two of one name, WeightsError is raised.
    """
    if _of_keras(arrays):
        return arrays
    paths = {}
    for name, array in arrays.items():
        path = tuple(part for part in name.split(".") if part not in WRAPPERS)
        if not np.ndim(array) or not path or path[-1] in COUNTERS:
            continue
        if path in paths:
            raise WeightsError(f"holds two weights {'.'.join(path)}: save one network alone")
        paths[path] = array
    while nest := next((n for n in NESTS if any(_is_in(n, path) for path in paths)), None):
        paths = {path[1:]: array for path, array in paths.items() if _is_in(nest, path)}
    if not paths:
        raise WeightsError("holds no table of arrays: save the network's state_dict() instead")
    return {".".join(path): array for path, array in paths.items()}


def _is_in(nest, path):
    """Whether a path is that of a weight in a nest. CycleGAN's own names are model.1.weight, ..."""
    return path[0] == nest and len(path) > 2 and not (nest == "model" and path[1].isdigit())


def _torch(data):
    try:
        import torch
    except ImportError:
        raise WeightsError(
            "needs PyTorch to be read: pip install torch, or get it as .safetensors"
        ) from None
    try:
        state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # a refusal, or any error of a damaged zip or pickle
        code = re.search(r"GLOBAL (\S+)", str(error))
        why = f"it asks for {code[1]}" if code else _line(error)
        raise WeightsError(f"is refused: it must hold arrays and no code ({why})") from None
    arrays = {}
    for name, tensor in _tensors(state) if isinstance(state, dict) else ():
        try:
            whole = tensor.float() if tensor.is_floating_point() else tensor
            arrays[name] = whole.detach().numpy()
        except (TypeError, RuntimeError):
            raise WeightsError(f"holds {name}, which is not a dense array of numbers") from None
        if tensor.is_floating_point() and tensor.itemsize < 2:
            raise _unsupported(name, str(tensor.dtype).removeprefix("torch."))
    return arrays


def _tensors(table, path=()):
    """Yields (name, tensor) of a table, and of tables in it that are NESTS or WRAPPERS."""
    for key, value in table.items():
        if isinstance(value, dict) and key in (*NESTS, *WRAPPERS):
            yield from _tensors(value, (*path, key))
        elif hasattr(value, "is_floating_point"):
            yield ".".join((*path, str(key))), value


def _safetensors(data):
    try:
        rows = safetensors.deserialize(data)
    except Exception as error:  # any error of a damaged header
        raise WeightsError(f"is not a PyTorch, safetensors or HDF5 file ({_line(error)})") from None
    arrays = {}
    for name, row in sorted(rows):  # which come in any order
        if row["dtype"] not in DTYPES:
            raise _unsupported(name, row["dtype"])
        arrays[name] = np.frombuffer(row["data"], DTYPES[row["dtype"]]).reshape(row["shape"])
        if row["dtype"] == "BF16":
            arrays[name] = arrays[name].astype("float32")
    return arrays


def _unsupported(name, kind):
    types = ", ".join(DTYPES)
    return WeightsError(f"holds {name} of type {kind}: takes {types}, and {kind} is not supported")


def _hdf5(data):
    import h5py

    arrays = {}
    try:
        with h5py.File(io.BytesIO(data), "r") as file:  # links to other files lead nowhere
            root = file["model_weights"] if "model_weights" in file else file
            for layer in _names(root, "layer_names"):
                for name in _names(root[layer], "weight_names"):
                    dataset = root[layer][name]
                    if dataset.is_virtual or dataset.external:
                        raise WeightsError(f"is refused: {name} lies in another file")
                    parts = name.partition(":")[0].split("/")
                    key = "/".join(parts[parts.index(layer) if layer in parts else 0 :])
                    if key in arrays:
                        raise WeightsError(f"holds two weights {key}")
                    arrays[key] = np.asarray(dataset)
    except WeightsError:
        raise
    except Exception as error:  # any error of a damaged HDF5 file
        raise WeightsError(
            f"is not an HDF5 file of tf.keras' save_weights ({_line(error)}); Keras 3 reads its own"
        ) from None
    return arrays


def _names(group, key):
    """A list of names. tf.keras splits a long one into key0, key1, ..."""
    parts = [k for k in (key, *(f"{key}{i}" for i in range(len(group.attrs)))) if k in group.attrs]
    if not parts:
        raise KeyError(f"no {key}")
    names = [name for k in parts for name in group.attrs[k]]
    return [name.decode() if isinstance(name, bytes) else name for name in names]


READERS = {b"PK\x03\x04": _torch, b"\x80\x02": _torch, b"\x89HDF": _hdf5}  # by the first bytes


def options(name, arrays):
    """{option of a model's build: value} for a checkpoint as `read` returned it.

    image_size is that of its training. A model without a row in LAYOUTS raises WeightsError, but
    for a checkpoint of tf.keras: it does not say what its options are, and the result is empty.
    """
    if _of_keras(arrays):
        return {}
    layout = _layout(name, arrays)
    classes = _rows(arrays, layout.classes)
    return layout.options | ({"classes": classes} if classes else {})


def _layout(name, arrays):
    if name not in LAYOUTS:
        raise WeightsError(f"checkpoints can be imported for {', '.join(LAYOUTS)}, not for {name}")
    row = LAYOUTS[name]
    return row(arrays) if callable(row) else row


def convert(name, arrays, network, source="the checkpoint"):
    """Arrays as `read` returned them -> {our path: array}, for zoo.weights.fill.

    WeightsError names the arrays that are missing, unknown or of another shape: three of each kind.
    """
    if _of_keras(arrays):
        return by_layer(arrays, network, source=source)
    layout = _layout(name, arrays)
    arrays = {k: a for k, a in arrays.items() if not k.endswith(layout.spare)}

    def theirs(layer, leaf):
        return f"{layout.names.get(layer, layer)}.{LEAVES.get(leaf, leaf)}"

    def transposed(layer, array):
        side = layout.flat.get(layer)
        if side and array.ndim == 2 and array.shape[1] % side**2 == 0:
            array = array.reshape(len(array), -1, side, side)
            return array.transpose(2, 3, 1, 0).reshape(-1, len(array))
        if array.ndim != 4:
            return array.T
        one_a_channel = layer.endswith("_depthwise")
        return array.transpose(2, 3, 0, 1) if one_a_channel else array.transpose(2, 3, 1, 0)

    return _match(network, arrays, theirs, transposed, source)


def by_layer(arrays, network, names=None, renormalise=False, source="the file"):
    """{"layer/weight": array} of tf.keras -> {our path: array}; see `fill_hdf5`."""
    names = names or {}

    def theirs(layer, leaf):
        return f"{names.get(layer, layer)}/{leaf}"

    layers = {theirs(path.rpartition("/")[0], "") for path, _ in _variables(network)}
    spare = {f"{layer}{leaf}" for layer in layers for leaf in ITERATED}
    arrays = {k: a for k, a in arrays.items() if k not in spare}
    matched = _match(network, arrays, theirs, lambda layer, array: array, source)
    divided = []
    for layer in _spectral(network):
        kernel = layer.embeddings if hasattr(layer, "embeddings") else layer.kernel
        matrix = np.moveaxis(matched[kernel.path].astype("float64"), layer.out_axis, -1)
        matrix = matrix.reshape(-1, matrix.shape[-1])
        values, vectors = np.linalg.eigh(matrix.T @ matrix)
        sigma = values[-1] ** 0.5
        if abs(sigma - 1) > 1e-5:
            divided.append(f"{kernel.path} by {sigma:.5f}")
        matched[layer.u.path] = vectors[None, :, -1]  # where the power iteration converges
    if divided and not renormalise:
        raise WeightsError(
            f"{source}: {network.name} would divide {', '.join(divided)}, which tf.keras uses as "
            f"they are: fill bridge.plain(network), or give renormalise=True"
        )
    return matched


def fill_hdf5(network, path, names=None, renormalise=False):
    """Sets a Keras network's weights from an HDF5 file of tf.keras, by the names of the layers.

    names: {our layer: theirs}, where they differ. All weights must fit, or none is set.

    TensorFlow Addons' SpectralNormalization divides its layer's kernel in training and stores the
    result, so at inference the layer is an ordinary one; `plain` makes a network of such layers.
    The layers of zoo.layers.spectral_norm divide by sigma(W) in every call. A network of these is
    refused where a sigma is not 1: the last update has changed it, or Addons has divided by the
    sigma of another matrix, as it does in transposed convolutions. With renormalise=True it is
    accepted, and is the network from which the paper's training would continue. Their u is not
    needed.
    """
    weights.fill(network, by_layer(read(path), network, names, renormalise, path), path)


def plain(network):
    """A functional network -> the same without spectral normalisation, with fresh weights."""

    def clone(layer):
        config = layer.get_config()
        if isinstance(layer, spectral_norm.SpectralNorm):
            del config["power_iterations"]
            return PLAIN[type(layer)].from_config(config)
        if "spectral_norm" in config:
            config["spectral_norm"] = False
        return type(layer).from_config(config)

    return keras.models.clone_model(network, clone_function=clone, recursive=True)


def _spectral(network):
    return [x for x in network._flatten_layers() if isinstance(x, spectral_norm.SpectralNorm)]


def _of_keras(arrays):
    return any("/" in name for name in arrays)


def _variables(network):
    """Pairs (path within the network, variable), without SEED and u of spectral normalisation."""
    iterated = {x.u.path for x in _spectral(network)}
    for v in network.variables:
        if v.path not in iterated and v.name != SEED:
            yield v.path.removeprefix(f"{network.name}/"), v


def _match(network, arrays, theirs, transposed, source):
    """{our path: array}, by theirs(layer, leaf) -> name and transposed(layer, array) -> array."""
    matched = {v.path: np.array(v) for v in network.variables if v.name == SEED}
    faults, rest = {}, dict(arrays)  # faults by their kind
    for path, variable in _variables(network):
        layer, _, leaf = path.rpartition("/")
        name, shape = theirs(layer, leaf), tuple(variable.shape)
        if name not in arrays:
            faults.setdefault("lacks", []).append(f"lacks {name} (our {path})")
            continue
        rest.pop(name, None)
        array = transposed(layer, arrays[name])
        if array.shape != shape:
            fault = f"holds {name} of shape {arrays[name].shape}, and {path} is {shape}"
            faults.setdefault("holds", []).append(fault)
        elif array.dtype.kind == "f" and not np.isfinite(array).all():
            faults.setdefault("holds", []).append(f"holds {name} that is not finite")
        matched[variable.path] = array
    faults["unknown"] = [f"holds an unknown {name}" for name in rest]
    if fault := variables.listed(*faults.values()):
        raise WeightsError(f"{source} does not fit {network.name}: it {fault}")
    return matched


def _line(error):
    """The kind and message of an exception, in one short line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:160]
