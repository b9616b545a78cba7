"""One reader of picture files for training, evaluation, translation, annotation and the demo."""

import logging
import os
import re
import threading
import warnings

import numpy as np
from PIL import Image

from ..common.downloads import short

PIXELS = 178_956_970  # Pillow's limit
ORIENTATION = 274  # tag of EXIF
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
WHITES = (255, 1023, 4095, 16383, 65535)  # of 8, 10, 12, 14 and 16 bits


class Unreadable(ValueError):
    """A file without a picture that can be used; the message is the reason, in a few words."""


class _Quiet:
    """While a block with it runs, in any thread, Pillow warns of nothing."""

    def __init__(self):
        self.lock, self.running = threading.Lock(), 0
        self.logger = logging.getLogger("PIL")

    def __enter__(self):
        with self.lock:
            if not self.running:
                self.filters, self.level = warnings.catch_warnings(), self.logger.level
                self.filters.__enter__()
                warnings.filterwarnings("ignore", module=r"PIL\.")
                self.logger.setLevel(logging.CRITICAL)
            self.running += 1

    def __exit__(self, *error):
        with self.lock:
            self.running -= 1
            if not self.running:
                self.filters.__exit__(*error)
                self.logger.setLevel(self.level)


_quiet = _Quiet()


def read(path, most=PIXELS, upright=True):
    """The pixels of a picture file, uint8 (H, W, 3).

    Grey becomes three equal channels, transparency lies over white, and numbers of more than 8 bits
    are scaled by `levels`. most: the most pixels. upright: turn the picture by its EXIF
    orientation. A file that gives no pixels, for whatever reason, raises Unreadable.
    """

    def pixels(image):
        if image.width * image.height > most:
            raise _too_large(image.width * image.height, most)
        image.load()  # turns a TIFF by itself
        return np.asarray(to_rgb(turned(image) if upright else image))

    return _opened(path, pixels, most)


def numbers(path):
    """The numbers (H, W) of a picture file with a palette or of one grey channel, uint8; another
    file raises Unreadable."""

    def values(image):
        if image.mode not in ("P", "L"):
            raise Unreadable("a map has numbers, not colours")
        return np.asarray(image)

    return _opened(path, values)


def size(path):
    """(width, height) by the header of a picture file; one without raises Unreadable."""
    return _opened(path, lambda image: image.size)


def _opened(path, function, most=PIXELS):
    """function(PIL image) of a file; what it raises becomes Unreadable."""
    with _quiet:
        try:
            with Image.open(path) as image:
                return function(image)
        except Unreadable:
            raise
        except Image.DecompressionBombError as error:
            raise _too_large(int(re.search(r"\d+", str(error))[0]), most) from None
        except Image.UnidentifiedImageError:
            what = "no picture in a format that can be read" if os.path.getsize(path) else "empty"
            raise Unreadable(what) from None
        except MemoryError:
            raise Unreadable("it needs more memory than there is, make it smaller") from None
        except Exception as error:  # Pillow raises errors of all kinds
            if "MAX_TEXT_" in str(error):
                raise Unreadable("its text chunk is too large") from None
            raise Unreadable(getattr(error, "strerror", None) or short(error)) from None


def _too_large(count, most):
    return Unreadable(f"{count / 1e6:.3g} million pixels are too many: at most {most / 1e6:.3g}")


def turned(image):
    """A PIL image, upright by its EXIF orientation; tags that cannot be read turn nothing."""
    try:
        turn = TURNS.get(image.getexif().get(ORIENTATION))
    except Exception:
        return image
    return image if turn is None else image.transpose(turn)


def to_rgb(image):
    """Any PIL image -> RGB: grey repeated, numbers scaled by `levels`, transparency over white."""
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image)
        grey = levels(values)
        if isinstance(clear := image.info.get("transparency"), int):
            grey[values == clear] = 255
        image = Image.fromarray(grey)
    if image.mode in ("RGBA", "LA", "PA", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")


def levels(values):
    """Integers of more than 8 bits, or floats, (H, W) -> grey levels, uint8 (H, W).

    Black is 0. White is the least of 1 (of floats only) and WHITES that no value exceeds; where the
    largest value is above all of them, or below a sixteenth of white, it is white itself. With
    negative values black is the least value and white the largest, or -1 and 1 if these are floats
    in [-1, 1]. Values that are not finite raise Unreadable.
    """
    low, high = float(values.min()), float(values.max())
    if not np.isfinite([low, high]).all():
        raise Unreadable("it has values that are not finite")
    is_float = values.dtype.kind == "f"
    if low >= 0:
        black, white = 0.0, next((w for w in (1, *WHITES)[not is_float :] if high <= w), high)
        white = high if high < white / 16 else white
    else:
        black, white = (-1.0, 1.0) if is_float and max(-low, high) <= 1 else (low, high)
    scale = 255 / (white - black) if white > black else 0.0
    return np.uint8((values.astype(np.float32) - black) * np.float32(scale) + 0.5)
