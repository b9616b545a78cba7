"""Pictures that are too large for one step of a translator, in tiles without seams.

A network of convolutions gives a pixel the same value in a tile as in the whole picture, if the
tile has enough pixels around it. Instance normalisation does not, since it takes means and
variances of the whole picture. Here all tiles have the same ones: those of the picture reduced.
"""

import keras

from ..common.images import to_float
from ..datasets import resize
from ..zoo.layers.instance_norm import FixedNorm, InstanceNorm, moments

PIXELS = 2**21  # of a tile with its margins, and of the reduced picture
MARGIN = 128  # pixels around a tile; 15 + 8 blocks of them change what a translator makes of it


class Tiles:
    """Translates pictures of any size.

    network: of convolutions and InstanceNorm, image (B, H, W, 3) in [-1, 1] -> {name: (B, H, W,
    ...)}. multiple: its sides are multiples of. pad: images (B, H, W, 3) -> the same, padded at the
    bottom and right to such sides. infer: (network, inputs) -> outputs, arrays.
    """

    def __init__(self, network, infer, multiple, pad):
        self.infer, self.multiple, self.pad = infer, multiple, pad
        layers = [layer for layer in network.layers if isinstance(layer, InstanceNorm)]
        self.fixed = {layer.name: FixedNorm(layer.epsilon, name=layer.name) for layer in layers}
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
        step = int(PIXELS**0.5) - 2 * MARGIN
        step -= step % self.multiple
        for top in range(0, height, step):
            for left in range(0, width, step):
                around = [
                    slice(max(0, start - MARGIN), start + step + MARGIN) for start in (top, left)
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
