"""The signatures of exported networks: functions of named tensors, batch first, that return dicts.

`build(networks, role, size, threshold)` -> {signature: (function, [tf.TensorSpec])}

Images are float32 (B, S, S, 3) in [-1, 1]. `attention` (B, S, S) is scaled to [0, 1] in each image.
`boxes` (B, 4) enclose {attention >= threshold}: top, left, bottom, right as fractions of the
image's sides, zeros if the set is empty. `image_bytes` (B,) are PNGs or JPEGs of any size, resized
to the network's unless a signature says otherwise. They are turned upright by their EXIF
orientation, and transparency lies over white.
"""

import keras
import tensorflow as tf

from ..common.images import foreground, scaled, unscaled
from ..zoo.layers import cam, self_attention
from ..zoo.layers.convolution import size_multiple
from .rest import EMPTY

PIXELS = 25e6  # limit for an encoded picture; a larger one is refused before it is decoded
AREA = 2**18  # limit in pixels for a picture to translate; a larger one is reduced
ENTRIES = 256  # of EXIF data that are looked at
DIRECTIONS = ("a2b", "b2a")  # of translators; the first one with a network is the default
SEED = tf.TensorSpec((None,), tf.int64, "seed")
LABEL = tf.TensorSpec((None,), tf.int64, "label")
BYTES = tf.TensorSpec((None,), tf.string, "image_bytes")


def noise(seed, latent):
    """Seeds (B,) int64 -> z (B, latent), uniform in [-1, 1]; each row depends on its seed alone."""

    def draw(number):
        key = tf.stack([number, tf.zeros_like(number)])
        return tf.random.stateless_uniform((latent,), key, -1, 1, alg="philox")

    return tf.map_fn(draw, seed, fn_output_signature=tf.TensorSpec((latent,), tf.float32))


def class_index(label):
    """Labels (B,) int64 -> int32. Negative ones, which Keras counts from the end, and those beyond
    int32 raise InvalidArgumentError; the network refuses a class that it does not have."""
    fits = tf.reduce_all((label >= 0) & (label <= tf.int32.max))
    with tf.control_dependencies([tf.debugging.Assert(fits, ["label takes classes from 0"])]):
        return tf.cast(label, tf.int32)


def to_uint8(images):
    """Images in [-1, 1] -> uint8 of the same shape."""
    return tf.cast(tf.clip_by_value(tf.round(unscaled(images)), 0, 255), tf.uint8)


def to_png(images):
    """Images (B, H, W, 3) in [-1, 1] -> PNGs (B,)."""
    return tf.io.encode_png(to_uint8(images))


def pictures(image_bytes, size):
    """PNGs or JPEGs (B,) -> images (B, size, size, 3) in [-1, 1], decoded one after the other."""

    def picture(data):
        return scaled(resized(decoded(data), (size, size)))

    spec = tf.TensorSpec((size, size, 3), tf.float32)
    return tf.map_fn(picture, image_bytes, fn_output_signature=spec, parallel_iterations=1)


def decoded(data):
    """A PNG or JPEG () -> uint8 (H, W, 3), upright and over white.

    Other formats, damaged files and pictures with more than PIXELS pixels raise
    InvalidArgumentError. The size is read from the header, before the picture is decoded.
    """
    is_png = tf.strings.substr(data, 0, 8) == b"\x89PNG\r\n\x1a\n"
    is_jpeg = tf.strings.substr(data, 0, 3) == b"\xff\xd8\xff"
    is_any = (is_png | is_jpeg) & (tf.strings.length(data) >= 24)
    has_format = tf.debugging.Assert(is_any, ["image_bytes takes PNGs and JPEGs"])
    with tf.control_dependencies([has_format]):
        count = tf.cond(is_png, lambda: _png_pixels(data), lambda: _jpeg_pixels(data))
    has_size = tf.debugging.Assert(
        (count > 0) & (count <= PIXELS), [f"image_bytes takes 1 to {PIXELS:.0f} pixels, not", count]
    )
    with tf.control_dependencies([has_size]):
        pixels = tf.cond(is_png, lambda: _png(data), lambda: tf.io.decode_jpeg(data, channels=3))
        start = tf.cond(is_png, lambda: _png_chunk(data, b"eXIf"), lambda: _jpeg_exif(data))
    return tf.ensure_shape(upright(pixels, orientation(data, start)), (None, None, 3))


def _png(data):
    """A PNG () -> uint8 (H, W, 3) over white."""
    pixels = tf.io.decode_png(data, channels=4)
    has_colours = _png_chunk(data, b"tRNS") < tf.strings.length(data)  # some of them transparent
    has_alpha = has_colours | (_bytes(data, 25, 1)[0] >= 4)
    # without alpha TensorFlow fills it with the largest number of the file's bits, 1 of one bit
    return tf.cond(has_alpha, lambda: over_white(pixels), lambda: pixels[..., :3])


def over_white(pixels):
    """uint8 (H, W, 4) with alpha -> uint8 (H, W, 3) over white, rounded."""
    colour, alpha = tf.split(tf.cast(pixels, tf.uint16), (3, 1), -1)
    return tf.cast((colour * alpha + 255 * (255 - alpha) + 127) // 255, tf.uint8)


def upright(pixels, orientation):
    """uint8 (H, W, 3) -> the same, turned by an EXIF orientation () from 1 to 8."""
    transposed = tf.cond(orientation >= 5, lambda: tf.transpose(pixels, (1, 0, 2)), lambda: pixels)
    mirrored = tf.cond(
        tf.reduce_any(orientation == (2, 3, 6, 7)),
        lambda: tf.reverse(transposed, [1]),
        lambda: transposed,
    )
    return tf.cond(
        tf.reduce_any(orientation == (3, 4, 7, 8)),
        lambda: tf.reverse(mirrored, [0]),
        lambda: mirrored,
    )


def _bytes(data, start, count):
    """`count` bytes of a string () from `start` on, int32 (count,); 0 after its end."""
    length = tf.strings.length(data)
    part = tf.strings.substr(data, tf.clip_by_value(start, 0, length), count)
    values = tf.cast(tf.io.decode_raw(part, tf.uint8), tf.int32)
    return tf.ensure_shape(tf.pad(values, [[0, count - tf.size(values)]]), (count,))


def _walk(data, start, step):
    """The place after the steps from `start` on: step(place) is the next one, or not further."""

    def goes_on(place, following):
        return (following > place) & (following < tf.strings.length(data))

    def go(place, following):
        return following, step(following)

    return tf.while_loop(goes_on, go, (start, step(start)))[0]


def _jpeg_exif(data):
    """Where the EXIF data of a JPEG start; its length where it has none."""

    def step(place):
        head = _bytes(data, place, 10)
        is_exif = (head[1] == 0xE1) & tf.reduce_all(head[4:] == tf.constant([*b"Exif\0\0"]))
        ends = is_exif | (head[0] != 0xFF) | (head[1] == 0xDA)
        return tf.where(ends, place, place + 2 + 256 * head[2] + head[3])

    place = _walk(data, tf.constant(2), step)
    found = tf.reduce_all(_bytes(data, place + 4, 6) == tf.constant([*b"Exif\0\0"]))
    return tf.where(found, place + 10, tf.strings.length(data))


def _png_chunk(data, name):
    """Where a chunk of four letters before the pixels of a PNG starts; its length without one."""

    def is_named(place, name):
        return tf.reduce_all(_bytes(data, place + 4, 4) == tf.constant([*name]))

    def step(place):
        size = _bytes(data, place, 4)
        ends = is_named(place, name) | is_named(place, b"IDAT") | (size[0] > 0)
        return tf.where(ends, place, place + 12 + _number(size, False))

    place = _walk(data, tf.constant(8), step)
    return tf.where(is_named(place, name), place + 8, tf.strings.length(data))


def _number(values, little):
    """Bytes (..., n), int32, as numbers (...): the least one first, or last."""
    values = tf.where(little, values, tf.reverse(values, [-1]))
    return tf.reduce_sum(values * [1, 2**8, 2**16, 2**24][: values.shape[-1]], -1)


def orientation(data, start):
    """The orientation, int32 () from 1 to 8, in EXIF data that start at a place of a string (); 1
    where they have none that can be read."""
    head = _bytes(data, start, 8)
    little = head[0] == ord("I")
    table = start + _number(head[4:], little)
    count = _number(_bytes(data, table, 2), little)
    entries = tf.reshape(_bytes(data, table + 2, 12 * ENTRIES), (ENTRIES, 12))
    kinds = _number(entries[:, :2], little) == 274
    kinds &= _number(entries[:, 2:4], little) == 3  # a number of two bytes
    kinds &= tf.range(ENTRIES) < count
    value = tf.reduce_max(tf.where(kinds, _number(entries[:, 8:10], little), 0))
    return tf.where((value >= 1) & (value <= 8), value, 1)


def resized(pixels, size):
    """uint8 (H, W, 3) -> float32 (*size, 3), integer grey levels from 0 to 255."""
    pixels = tf.image.resize(pixels, size, "bicubic", antialias=True)
    return tf.clip_by_value(tf.round(pixels), 0, 255)


def _png_pixels(data):
    """Width times height of a PNG, from its first chunk: four bytes each."""
    sides = tf.reshape(tf.io.decode_raw(tf.strings.substr(data, 16, 8), tf.uint8), (2, 4))
    values = tf.constant([2**24, 2**16, 2**8, 1], tf.float64)
    return tf.reduce_prod(tf.reduce_sum(tf.cast(sides, tf.float64) * values, axis=1))


def _jpeg_pixels(data):
    return tf.reduce_prod(tf.cast(tf.image.extract_jpeg_shape(data)[:2], tf.float64))


def attention_and_boxes(maps, size, threshold):
    """Maps (B, h, w) of any scale -> {"attention", "boxes"}."""
    attention = cam.min_max(cam.resized(maps, size))
    return {"attention": attention, "boxes": boxes(attention >= threshold)}


def boxes(inside):
    """Masks (B, S, S), bool -> their bounding boxes (B, 4), as fractions of the sides."""

    def ends(line):  # (B, S) -> the first true index, and the last one plus 1, (B,)
        size = line.shape[1]
        return tf.argmax(line, 1), size - tf.argmax(tf.reverse(line, [1]), 1)

    lines = [tf.cast(tf.reduce_any(inside, axis), tf.int32) for axis in (2, 1)]
    (top, bottom), (left, right) = map(ends, lines)
    box = tf.cast(tf.stack([top, left, bottom, right], 1), tf.float32) / inside.shape[1]
    return tf.where(tf.reduce_any(inside, (1, 2))[:, None], box, 0)


def image_spec(network):
    return tf.TensorSpec(network.inputs[0].shape, tf.float32, "image")


def generator(networks, size, threshold):
    """z -> image; generate: seed -> image; generate_png: seed -> png_bytes. A conditional network
    also takes a label in each.

    Self-attention adds attention (B, 4, s, s): the attention maps, each scaled to at most 1, of the
    positions in the centres of the image's quadrants. A discriminator with attention maps (ATA-GAN)
    adds attention and boxes of the generated image, and annotate, annotate_bytes: image or
    image_bytes -> scores (B, 1), the probability of "real", logits, attention, boxes. A
    generator_with_reference (RAGAN) adds generate_with_reference: seed, image -> image, attention
    (B, N, S, S), the masks of the reference.
    """
    network, discriminator = networks["generator"], networks.get("discriminator")
    latent, labels = network.inputs[0].shape[-1], [LABEL] * (len(network.inputs) - 1)
    attends = self_attention.attends(network)
    has_maps = discriminator is not None and len(discriminator.outputs) > 1
    if attends:
        maps = self_attention.attention_map(network).output
        network = keras.Model(network.inputs, [network.output, maps])

    def make(z, label=None):
        inputs = z if label is None else [z, class_index(label)]
        outputs = network(inputs, training=False)
        if attends:
            return {"image": outputs[0], "attention": quadrant_attention(outputs[1])}
        if has_maps:
            maps = discriminator(outputs, training=False)[1]
            return {"image": outputs, **attention_and_boxes(maps, size, threshold)}
        return {"image": outputs}

    def generate(seed, *label):
        return make(noise(seed, latent), *label)

    def generate_png(seed, *label):
        return {"png_bytes": to_png(generate(seed, *label)["image"])}

    def annotate(image):
        logits, maps = discriminator(image, training=False)
        scores = {"scores": tf.sigmoid(logits), "logits": logits}
        return scores | attention_and_boxes(maps, size, threshold)

    def generate_with_reference(seed, image):
        attention = reference.get_layer("attention")(image, training=False)
        inputs = [noise(seed, latent), attention["layer"]]
        generated = reference.get_layer("decoder")(inputs, training=False)
        return {"image": generated, "attention": tf.squeeze(attention["masks"], -1)}

    signatures = {
        "serving_default": (make, [tf.TensorSpec((None, latent), tf.float32, "z"), *labels]),
        "generate": (generate, [SEED, *labels]),
        "generate_png": (generate_png, [SEED, *labels]),
    }
    if has_maps:
        signatures["annotate"] = (annotate, [image_spec(discriminator)])
        signatures["annotate_bytes"] = (lambda data: annotate(pictures(data, size)), [BYTES])
    if reference := networks.get("generator_with_reference"):
        image = image_spec(reference.get_layer("attention"))
        signatures["generate_with_reference"] = (generate_with_reference, [SEED, image])
    return signatures


def quadrant_attention(maps):
    """Self-attention (B, N, M) -> (B, 4, s, s), the maps of the centres of the quadrants."""
    side, map_side = round(maps.shape[1] ** 0.5), round(maps.shape[2] ** 0.5)
    centres = (side // 4, 3 * side // 4)
    positions = [row * side + column for row in centres for column in centres]
    maps = tf.reshape(tf.gather(maps, positions, axis=1), (-1, 4, map_side, map_side))
    return maps / tf.reduce_max(maps, (2, 3), keepdims=True)


def classifier(networks, size, threshold):
    """image -> scores (B, C), the softmax of logits (B, C); with global average pooling also
    attention, the Soft-CAM, and boxes. classify_bytes: image_bytes -> the same."""
    network = networks["classifier"]
    try:
        explained, pooled = cam.explained(network), True
    except ValueError:
        explained, pooled = network, False

    def classify(image):
        outputs = explained(image, training=False)
        logits = outputs[0] if pooled else outputs
        answer = {"scores": tf.nn.softmax(logits), "logits": logits}
        return answer | attention_and_boxes(outputs[1], size, threshold) if pooled else answer

    return {
        "serving_default": (classify, [image_spec(network)]),
        "classify_bytes": (lambda data: classify(pictures(data, size)), [BYTES]),
    }


def guided(networks, size, threshold):
    """GAIN: image -> scores (B, C), the sigmoid of logits (B, C), and attention (B, C, S, S) and
    boxes (B, C, 4) of each class. classify_bytes: image_bytes -> the same."""
    network = networks["attention"]

    def classify(image):
        outputs = network(image, training=False)
        inside = tf.reshape(outputs["attention"] >= threshold, (-1, size, size))
        class_boxes = tf.reshape(boxes(inside), (-1, outputs["logits"].shape[1], 4))
        return {"scores": tf.sigmoid(outputs["logits"]), "boxes": class_boxes, **outputs}

    return {
        "serving_default": (classify, [image_spec(network)]),
        "classify_bytes": (lambda data: classify(pictures(data, size)), [BYTES]),
    }


def translator(networks, *_):
    """image -> translated; a network with masks adds attention (B, H, W), its attention to the
    foreground. translate_png: image_bytes -> png_bytes, each picture in its own size, but with at
    most AREA pixels. With both directions, translate_back and translate_back_png are b2a."""
    names = (("serving_default", "translate_png"), ("translate_back", "translate_back_png"))
    by_direction, signatures = [networks[key] for key in DIRECTIONS if key in networks], {}
    for network, (name, name_png) in zip(by_direction, names):

        def translate(image, network=network):
            outputs = network(image, training=False)
            answer = {"translated": outputs["translated"]}
            if "masks" in outputs:
                answer["attention"] = foreground(outputs["masks"])
            return answer

        def translate_png(image_bytes, translate=translate, network=network):
            def picture(data):
                image, (height, width) = padded(decoded(data), size_multiple(network))
                translated = translate(image[None])["translated"][:, :height, :width]
                return to_png(translated)[0]

            pngs = tf.map_fn(
                picture,
                image_bytes,
                fn_output_signature=tf.TensorSpec((), tf.string),
                parallel_iterations=1,
            )
            return {"png_bytes": pngs}

        signatures[name] = (translate, [image_spec(network)])
        signatures[name_png] = (translate_png, [BYTES])
    return signatures


def padded(pixels, multiple=4):
    """uint8 (H, W, 3) -> (image (h', w', 3) in [-1, 1], (h, w)).

    The picture is resized to (h, w), at most AREA pixels and sides of at least 8, then padded by
    reflection at the bottom and right to multiples of `multiple`.
    """
    sides = tf.cast(tf.shape(pixels)[:2], tf.float64)
    sides *= tf.minimum(tf.sqrt(AREA / tf.reduce_prod(sides)), 1)
    sides = tf.clip_by_value(tf.cast(sides, tf.int32), 8, AREA // max(8, multiple))
    image = scaled(resized(pixels, sides))
    for axis, side in enumerate(tf.unstack(sides)):
        period = 2 * side - 2  # a row and its reflection, without the outermost pixels twice
        place = tf.range(side + -side % multiple) % period
        image = tf.gather(image, tf.minimum(place, period - place), axis=axis)
    return image, tf.unstack(sides)


def segmenter(networks, size, _):
    """image -> labels (B, H, W) int64; segment_bytes: image_bytes -> the same."""
    network = networks["segmenter"]

    def segment(image):
        return {"labels": tf.argmax(network(image, training=False), -1)}

    return {
        "serving_default": (segment, [image_spec(network)]),
        "segment_bytes": (lambda data: segment(pictures(data, size)), [BYTES]),
    }


ROLES = {  # key of the network that is served (ModelSpec.serve): builds its signatures
    "generator": generator,
    "classifier": classifier,
    "attention": guided,
    "a2b": translator,
    "segmenter": segmenter,
}


def build(networks, role, size, threshold):
    """{signature: (function, [tf.TensorSpec])} of {name: keras.Model}.

    The graph checks shapes and that numbers are finite, since a server may not. role: a key of
    ROLES. size: the images' height and width. threshold: of boxes.
    """
    multiple = size_multiple(next(iter(networks.values()))) if role == "a2b" else 1

    def checked(function, specs):
        def answer(*inputs):
            outputs = function(*check_inputs(inputs, specs, multiple))
            return {name: check_output(name, value) for name, value in outputs.items()}

        return answer

    signatures = ROLES[role](networks, size, threshold)
    return {name: (checked(f, specs), specs) for name, (f, specs) in signatures.items()}


def check_inputs(inputs, specs, multiple=1):
    """The tensors, once they have the shapes of their specs, equal batches and finite numbers, and
    the sides of images of any size are multiples of `multiple`."""
    checked = []
    for value, spec in zip(inputs, specs):
        is_full = tf.debugging.Assert(tf.size(value) > 0, [EMPTY.format(spec.name)])
        with tf.control_dependencies([is_full]):
            value = tf.ensure_shape(tf.identity(value), spec.shape)
        if len(spec.shape) == 4 and None in spec.shape[1:3]:
            fits = tf.reduce_all(tf.shape(value)[1:3] % multiple == 0)
            problem = f"{spec.name} takes sides that are multiples of {multiple}"
            with tf.control_dependencies([tf.debugging.Assert(fits, [problem])]):
                value = tf.identity(value)
        if value.dtype.is_floating:
            value = tf.debugging.check_numerics(value, f"{spec.name} must be finite numbers")
        checked.append(value)
    counts = [tf.shape(value)[0] for value in checked]
    names = " and ".join(spec.name for spec in specs)
    agree = [tf.debugging.Assert(n == counts[0], [f"{names} differ in length"]) for n in counts[1:]]
    with tf.control_dependencies(agree):
        return [tf.identity(value) for value in checked]


def check_output(name, value):
    """An output, once its numbers are finite."""
    if not value.dtype.is_floating:
        return value
    message = f"{name} of the answer is not finite: send smaller numbers"
    return tf.debugging.check_numerics(value, message)
