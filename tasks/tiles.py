"""Pictures that are too large for one step of a translator, in tiles without seams.

A network of convolutions gives a pixel the same value in a tile as in the whole picture, if the
tile has enough pixels around it. Instance normalisation does not, since it takes means and
variances of the whole picture. Here all tiles have the same ones: those of the picture reduced.
"""

import keras

from ..common.images import to_float
from ..datasets import resize
from ..zoo.layers.instance_norm import FixedNorm, InstanceNorm, moments
from ..zoo.layers.sizes import EnlargeTo

PIXELS = 2**21  # of a tile with its margins, and of the reduced picture


def field(network):
    """(reach, stride) of a network of convolutions: how many pixels around a pixel change what it
    makes of it, at most, and how many lie between two values of its coarsest map."""
    places = {id(tensor): (0, 1) for tensor in network.inputs}
    for operation in network.operations:
        if isinstance(operation, keras.layers.InputLayer):
            continue
        inputs = [places[id(tensor)] for tensor in keras.tree.flatten(operation.input)]
        reach, stride = max(reach for reach, _ in inputs), inputs[0][1]
        step = getattr(operation, "strides", (1,))[0]
        if isinstance(operation, keras.layers.Conv2DTranspose):
            stride //= step
            reach += operation.kernel_size[0] // 2 * stride
        elif isinstance(operation, EnlargeTo):
            reach, stride = reach + 2 * stride, stride // operation.factor
        elif hasattr(operation, "pool_size"):
            reach, stride = reach + (operation.pool_size[0] - 1) * stride, stride * step
        elif hasattr(operation, "kernel_size"):
            wide = (operation.kernel_size[0] - 1) * operation.dilation_rate[0]
            reach, stride = reach + (wide + 1) // 2 * stride, stride * step
        for tensor in keras.tree.flatten(operation.output):
            places[id(tensor)] = reach, stride
    return max(reach for reach, _ in places.values()), max(stride for _, stride in places.values())


class Tiles:
    """Translates pictures of any size.

    network: of convolutions and InstanceNorm, image (B, H, W, 3) in [-1, 1] -> {name: (B, H, W,
    ...)}. infer: (network, inputs) -> outputs, arrays. pad: images (B, H, W, 3) -> the same, padded
    at the bottom and right to sides that the network takes.
    """

    def __init__(self, network, infer, pad):
        self.infer, self.pad = infer, pad
        reach, self.multiple = field(network)
        self.margin = -(-reach // self.multiple) * self.multiple
        layers = [layer for layer in network.layers if isinstance(layer, InstanceNorm)]
        self.fixed = {layer.name: FixedNorm(layer) for layer in layers}
        self.statistics = layers and keras.Model(
            network.input, {layer.name: moments(layer.input) for layer in layers}
        )
        self.network = keras.models.clone_model(
            network, clone_function=lambda layer: self.fixed.get(layer.name, layer)
        )

    def fit(self, image):
        """Sets the means and variances to those of a picture, uint8 (H, W, 3), of which more than
        PIXELS are reduced to as many."""
        height, width = image.shape[:2]
        scale = min(1, (PIXELS / (height * width)) ** 0.5)
        small = resize.scaled(image, max(1, int(width * scale)), max(1, int(height * scale)))
        if self.fixed:
            x = self.pad(to_float(small[None]))
            for name, (mean, variance) in self.infer(self.statistics, x).items():
                self.fixed[name].mean.assign(mean)
                self.fixed[name].variance.assign(variance)

    def __call__(self, image):
        """Yields (rows, columns, {name: (1, h, w, ...)}) of the tiles of a picture, uint8 (H, W,
        3): slices of it, and the outputs there."""
        self.fit(image)
        height, width = image.shape[:2]
        image = self.pad(image[None])
        step = max(int(PIXELS**0.5) - 2 * self.margin, self.multiple)
        step -= step % self.multiple  # so that strides fall on the same pixels in all tiles
        for top in range(0, height, step):
            for left in range(0, width, step):
                around = [
                    slice(max(0, start - self.margin), start + step + self.margin)
                    for start in (top, left)
                ]
                outputs = self.infer(self.network, to_float(image[:, *around]))
                rows, columns = (
                    slice(start, min(start + step, length))
                    for start, length in ((top, height), (left, width))
                )
                inside = [
                    slice(part.start - whole.start, part.stop - whole.start)
                    for part, whole in zip((rows, columns), around)
                ]
                yield rows, columns, {name: value[:, *inside] for name, value in outputs.items()}
