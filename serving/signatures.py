"""What an exported network answers: functions of named tensors, batch first, that give dicts.

`of(networks, role, size, threshold)` -> {signature: (function, [tf.TensorSpec])}

Images are float32 (B, S, S, 3) in [-1, 1]. `attention` (B, S, S) is from 0 to 1 in each image, and
`boxes` (B, 4) hold all of {attention >= threshold}: top, left, bottom, right as shares of the
image's sides, zeros where there is nothing. `image_bytes` (B,) are PNGs or JPEGs of any size, each
stretched to the network's where not said otherwise (with no eye for EXIF's orientation).
"""

import keras
import tensorflow as tf

from ..common.images import scaled, unscaled
from ..zoo.layers import cam, self_attention

PIXELS = 25e6  # of an encoded picture; more are refused before they are decoded
AREA = 2**18  # pixels of a picture that is translated
AHEAD = ("a2b", "b2a")  # the directions of translators; the first that is there is the default
SEED = tf.TensorSpec((None,), tf.int64, "seed")
LABEL = tf.TensorSpec((None,), tf.int64, "label")
BYTES = tf.TensorSpec((None,), tf.string, "image_bytes")


def noise(seed, latent):
    """Seeds (B,) int64 -> z (B, latent), uniform in [-1, 1], each row a function of its seed."""

    def draw(one):
        key = tf.stack([one, tf.zeros_like(one)])
        return tf.random.stateless_uniform((latent,), key, -1, 1, alg="philox")

    return tf.map_fn(draw, seed, fn_output_signature=tf.TensorSpec((latent,), tf.float32))


def to_uint8(images):
    """Images in [-1, 1] -> uint8 of the same shape."""
    return tf.cast(tf.clip_by_value(tf.round(unscaled(images)), 0, 255), tf.uint8)


def to_png(images):
    """Images (B, H, W, 3) in [-1, 1] -> PNGs (B,)."""
    return tf.io.encode_png(to_uint8(images))


def pictures(image_bytes, size):
    """PNGs or JPEGs (B,) -> images (B, size, size, 3) in [-1, 1], one decoded at a time."""

    def picture(data):
        return scaled(resized(decoded(data), (size, size)))

    one = tf.TensorSpec((size, size, 3), tf.float32)
    return tf.map_fn(picture, image_bytes, fn_output_signature=one, parallel_iterations=1)


def decoded(data):
    """A PNG or JPEG () -> uint8 (H, W, 3). What is neither, damaged, or of more than PIXELS, is an
    InvalidArgumentError; its header tells the size, so nothing large is decoded for that."""
    is_png = tf.strings.substr(data, 0, 8) == b"\x89PNG\r\n\x1a\n"
    is_jpeg = tf.strings.substr(data, 0, 3) == b"\xff\xd8\xff"
    is_any = (is_png | is_jpeg) & (tf.strings.length(data) >= 24)
    known = tf.debugging.Assert(is_any, ["image_bytes takes PNGs and JPEGs"])
    with tf.control_dependencies([known]):
        count = tf.cond(is_png, lambda: _png_pixels(data), lambda: _jpeg_pixels(data))
    small = tf.debugging.Assert(
        (count > 0) & (count <= PIXELS), [f"image_bytes takes 1 to {PIXELS:.0f} pixels, not", count]
    )
    with tf.control_dependencies([small]):
        pixels = tf.io.decode_image(tf.identity(data), channels=3, expand_animations=False)
    return tf.ensure_shape(pixels, (None, None, 3))


def resized(pixels, size):
    """uint8 (H, W, 3) -> float32 of that size, whole grey levels from 0 to 255."""
    pixels = tf.image.resize(pixels, size, "bicubic", antialias=True)
    return tf.clip_by_value(tf.round(pixels), 0, 255)


def _png_pixels(data):
    """Width times height, as the first chunk of a PNG says, four bytes each."""
    sides = tf.reshape(tf.io.decode_raw(tf.strings.substr(data, 16, 8), tf.uint8), (2, 4))
    place = tf.constant([2**24, 2**16, 2**8, 1], tf.float64)
    return tf.reduce_prod(tf.reduce_sum(tf.cast(sides, tf.float64) * place, axis=1))


def _jpeg_pixels(data):
    return tf.reduce_prod(tf.cast(tf.image.extract_jpeg_shape(data)[:2], tf.float64))


def look(maps, size, threshold):
    """Maps (B, h, w) of any scale -> {"attention", "boxes"}."""
    attention = cam.min_max(cam.resized(maps, size))
    return {"attention": attention, "boxes": boxes(attention >= threshold)}


def boxes(inside):
    """bool (B, S, S) -> boxes (B, 4) that hold all of it, as shares of the sides."""

    def ends(line):  # (B, S) -> first and one behind the last, (B,)
        size = line.shape[1]
        return tf.argmax(line, 1), size - tf.argmax(tf.reverse(line, [1]), 1)

    lines = [tf.cast(tf.reduce_any(inside, axis), tf.int32) for axis in (2, 1)]
    (top, bottom), (left, right) = map(ends, lines)
    box = tf.cast(tf.stack([top, left, bottom, right], 1), tf.float32) / inside.shape[1]
    return tf.where(tf.reduce_any(inside, (1, 2))[:, None], box, 0)


def image_spec(network):
    return tf.TensorSpec(network.inputs[0].shape, tf.float32, "image")


def generator(networks, size, threshold):
    """z -> image; generate: seed -> image, generate_png: seed -> png_bytes; a label beside each
    where the network takes one.

    With self-attention also attention (B, 4, s, s), where the places in the middle of the image's
    quarters look, each map from 0 to 1. With a discriminator that makes maps (ATA-GAN) attention
    and boxes of what is made, and annotate, annotate_bytes: image or image_bytes -> scores (B, 1),
    real or not, logits, attention, boxes. With a generator_with_reference (RAGAN)
    generate_with_reference: seed, image -> image, attention (B, N, S, S), the reference's masks.
    """
    network, critic = networks["generator"], networks.get("discriminator")
    latent, labels = network.inputs[0].shape[-1], [LABEL] * (len(network.inputs) - 1)
    attends = self_attention.attends(network)
    judges = critic is not None and len(critic.outputs) > 1
    if attends:
        maps = self_attention.attention_map(network).output
        network = keras.Model(network.inputs, [network.output, maps])

    def make(z, label=None):
        inputs = z if label is None else [z, tf.cast(label, tf.int32)]
        made = network(inputs, training=False)
        if attends:
            return {"image": made[0], "attention": quarters(made[1])}
        if judges:
            return {"image": made, **look(critic(made, training=False)[1], size, threshold)}
        return {"image": made}

    def generate(seed, *label):
        return make(noise(seed, latent), *label)

    def generate_png(seed, *label):
        return {"png_bytes": to_png(generate(seed, *label)["image"])}

    def annotate(image):
        logits, maps = critic(image, training=False)
        scores = {"scores": tf.sigmoid(logits), "logits": logits}
        return scores | look(maps, size, threshold)

    def generate_with_reference(seed, image):
        shown = reference.get_layer("attention")(image, training=False)
        parts = [noise(seed, latent), shown["layer"]]
        made = reference.get_layer("decoder")(parts, training=False)
        masks = tf.squeeze(shown["masks"], -1)
        return {"image": made, "attention": masks}

    found = {
        "serving_default": (make, [tf.TensorSpec((None, latent), tf.float32, "z"), *labels]),
        "generate": (generate, [SEED, *labels]),
        "generate_png": (generate_png, [SEED, *labels]),
    }
    if judges:
        found["annotate"] = (annotate, [image_spec(critic)])
        found["annotate_bytes"] = (lambda data: annotate(pictures(data, size)), [BYTES])
    if reference := networks.get("generator_with_reference"):
        image = image_spec(reference.get_layer("attention"))
        found["generate_with_reference"] = (generate_with_reference, [SEED, image])
    return found


def quarters(maps):
    """Self-attention (B, N, M) -> (B, 4, s, s) of the places in the middle of the quarters."""
    side, seen = round(maps.shape[1] ** 0.5), round(maps.shape[2] ** 0.5)
    middles = (side // 4, 3 * side // 4)
    places = [row * side + column for row in middles for column in middles]
    shown = tf.reshape(tf.gather(maps, places, axis=1), (-1, 4, seen, seen))
    return shown / tf.reduce_max(shown, (2, 3), keepdims=True)


def classifier(networks, size, threshold):
    """image -> scores (B, C), the softmax of logits (B, C), and with global average pooling
    attention, the Soft-CAM, and boxes; classify_bytes: image_bytes -> the same."""
    network = networks["classifier"]
    try:
        explained, pooled = cam.explained(network), True
    except ValueError:
        explained, pooled = network, False

    def classify(image):
        answer = explained(image, training=False)
        logits = answer[0] if pooled else answer
        found = {"scores": tf.nn.softmax(logits), "logits": logits}
        return found | look(answer[1], size, threshold) if pooled else found

    return {
        "serving_default": (classify, [image_spec(network)]),
        "classify_bytes": (lambda data: classify(pictures(data, size)), [BYTES]),
    }


def guided(networks, size, threshold):
    """GAIN's: image -> scores (B, C), the sigmoid of logits (B, C), attention (B, C, S, S) and
    boxes (B, C, 4) of each class; classify_bytes: image_bytes -> the same."""
    network = networks["attention"]

    def classify(image):
        made = network(image, training=False)
        inside = tf.reshape(made["attention"] >= threshold, (-1, size, size))
        found = tf.reshape(boxes(inside), (-1, made["logits"].shape[1], 4))
        return {"scores": tf.sigmoid(made["logits"]), "boxes": found, **made}

    return {
        "serving_default": (classify, [image_spec(network)]),
        "classify_bytes": (lambda data: classify(pictures(data, size)), [BYTES]),
    }


def translator(networks, *_):
    """image -> translated, and attention (B, H, W) where the network makes masks: how much of each
    pixel is new; translate_png: image_bytes -> png_bytes, each picture at its own size, of more
    than AREA pixels smaller. Of two directions b2a is translate_back, translate_back_png."""
    names = (("serving_default", "translate_png"), ("translate_back", "translate_back_png"))
    ahead, found = [networks[key] for key in AHEAD if key in networks], {}
    for network, (name, name_png) in zip(ahead, names):

        def translate(image, network=network):
            made = network(image, training=False)
            answer = {"translated": made["translated"]}
            if "masks" in made:  # the last of several is the background's
                masks = made["masks"]
                one = masks.shape[-1] == 1
                answer["attention"] = masks[..., 0] if one else 1 - masks[..., -1]
            return answer

        def translate_png(image_bytes, translate=translate):
            def picture(data):
                image, (height, width) = padded(decoded(data))
                made = translate(image[None])["translated"][:, :height, :width]
                return to_png(made)[0]

            pngs = tf.map_fn(
                picture,
                image_bytes,
                fn_output_signature=tf.TensorSpec((), tf.string),
                parallel_iterations=1,
            )
            return {"png_bytes": pngs}

        found[name] = (translate, [image_spec(network)])
        found[name_png] = (translate_png, [BYTES])
    return found


def padded(pixels):
    """uint8 (H, W, 3) -> (image (h', w', 3) in [-1, 1], (h, w)): at most AREA pixels and sides of
    at least 8, mirrored below and to the right up to multiples of 4."""
    sides = tf.cast(tf.shape(pixels)[:2], tf.float64)
    sides *= tf.minimum(tf.sqrt(AREA / tf.reduce_prod(sides)), 1)
    sides = tf.clip_by_value(tf.cast(sides, tf.int32), 8, AREA // 8)
    image = scaled(resized(pixels, sides))
    more = -sides % 4
    return tf.pad(image, [[0, more[0]], [0, more[1]], [0, 0]], "REFLECT"), tf.unstack(sides)


def segmenter(networks, size, _):
    """image -> labels (B, H, W) int64; segment_bytes: image_bytes -> the same."""
    network = networks["segmenter"]

    def segment(image):
        return {"labels": tf.argmax(network(image, training=False), -1)}

    return {
        "serving_default": (segment, [image_spec(network)]),
        "segment_bytes": (lambda data: segment(pictures(data, size)), [BYTES]),
    }


ROLES = {  # key of the network that is served (ModelSpec.serve): its signatures
    "generator": generator,
    "classifier": classifier,
    "attention": guided,
    "a2b": translator,
    "segmenter": segmenter,
}


def of(networks, role, size, threshold):
    """{signature: (function, [tf.TensorSpec])} of {name: keras.Model}, each tensor's shape checked
    in the graph, since a server need not.

    role: a key of ROLES; size: S; threshold: of boxes.
    """

    def checked(function, specs):
        def answer(*inputs):
            return function(*(tf.ensure_shape(x, s.shape) for x, s in zip(inputs, specs)))

        return answer

    found = ROLES[role](networks, size, threshold)
    return {name: (checked(f, specs), specs) for name, (f, specs) in found.items()}
