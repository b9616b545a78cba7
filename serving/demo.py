"""The demo page, on Gradio: samples, translations and attention maps, computed by the exported
functions (serving.signatures).

The functions before `page` take the inputs of a browser and return pictures, uint8 (H, W, 3). They
raise Refused for an invalid input, and the page shows its message. `served` is a Served
(serving.export).
"""

import functools
import html
import math
import re

import numpy as np
import tensorflow as tf
from PIL import Image, ImageDraw

from ..common import interpolation
from ..common.images import foreground, heat, image_grid, scaled, with_scale
from ..zoo.layers import labels, self_attention
from ..zoo.layers.convolution import size_multiple
from . import signatures

MIN_SIDE = 512  # of the longer side of a picture on the page, in pixels
MAX_SIDE = 1024  # of a picture to explain
MAX_SAMPLES = 64
MAX_CLASSES = 3  # classes whose maps are shown
RED = (255, 0, 0)
CSS = """
.pixels img, .given img {image-rendering: pixelated; width: 100%; object-fit: contain}
.pixels .image-frame img {height: auto}
.given img, .pixels .grid-container img {height: 100%}
.pixels .grid-wrap {min-height: 0 !important; max-height: none !important}
"""


class Refused(ValueError):
    """The input is invalid; the message says what to do instead."""


def integer(value, low, high, name):
    """The integer that a user has typed; Refused if it is none, or outside [low, high]."""
    text = str(value).strip()
    if not re.fullmatch("[0-9]{1,20}", text) or not low <= int(text) <= high:
        raise Refused(f"{name} takes a whole number from {low} to {high}, not {text[:20]!r}")
    return int(text)


def samples(served, seed, count, reference=None):
    """(images (count, S, S, 3), masks) of the seeds from `seed` on; each image depends on its seed
    alone.

    reference: a picture whose attention RAGAN uses; masks are then its masks (N, S, S), else None.
    """
    seeds = tf.range(seed, seed + count, dtype=tf.int64)
    if reference is None:
        outputs = _answer(served, "serving_default", *_inputs(served, seeds))
        return _pixels(outputs["image"]), None
    image = tf.repeat(_square(reference, served.size)[None], count, 0)
    outputs = _answer(served, "generate_with_reference", seeds, image)
    return _pixels(outputs["image"]), outputs["attention"][0].numpy()


def explain_sample(served, seed, image, row, column):
    """(picture, caption) of a sample (S, S, 3): the heat map of the self-attention of one pixel,
    which is marked in red; else that of the discriminator's attention with its box, if it has maps;
    else the sample."""
    if self_attention.attends(served.networks["generator"]):
        maps = self_attention.attention_map(served.networks["generator"])
        z, *label = _inputs(served, tf.constant([seed], tf.int64))
        beta = np.asarray(maps([z, *label] if label else z, training=False)[0])  # (N, M)
        side, map_side = (round(n**0.5) for n in beta.shape)
        cell = served.size // side
        mask = beta[row // cell * side + column // cell].reshape(map_side, map_side)
        times = served.size // map_side
        picture = heat(image, (mask / mask.max()).repeat(times, 0).repeat(times, 1))
        picture[row, column] = RED
        caption = f"seed {seed}: where the red pixel looks; click another"
        return with_scale(enlarged(picture)), caption
    if has_discriminator_maps(served):
        ((picture, _),), _ = explain(served, image)
        return picture, f"seed {seed}: where the discriminator looks"
    return enlarged(image), f"seed {seed}"


def has_discriminator_maps(served):
    """Does its discriminator have attention maps, as ATA-GAN's does?"""
    return len(getattr(served.networks.get("discriminator"), "outputs", ())) > 1


def explain(served, pixels):
    """([(picture, caption)], {class: score}) by a classifier, GAIN or ATA-GAN's discriminator.

    Each picture is the heat map of an attention map with its box and the scale of the colours; GAIN
    has a map for each of the most likely classes. A classifier without maps returns only the
    picture.
    """
    has_critic = has_discriminator_maps(served)
    signature = "annotate" if has_critic else "serving_default"
    outputs = _answer(served, signature, _square(pixels, served.size)[None])
    scores = outputs["scores"][0].numpy()
    names = ["real"] if has_critic else served.about.get("classes", ())
    if len(names) != len(scores):
        names = [f"class {i}" for i in range(len(scores))]
    by_class = dict(zip(names, scores.tolist()))
    pixels = enlarged(pixels if max(pixels.shape) <= MAX_SIDE else _smaller(pixels))
    if "attention" not in outputs:
        return [(pixels, "this network has no attention map")], by_class
    maps, boxes = outputs["attention"][0], outputs["boxes"][0]
    if len(maps.shape) == 2:
        caption = f"the box encloses attention >= {served.threshold:.2g}"
        return [(boxed_heat(pixels, maps, boxes), caption)], by_class
    best = np.argsort(-scores)[:MAX_CLASSES]
    pictures = [
        (boxed_heat(pixels, maps[i], boxes[i]), f"{names[i]}: {scores[i]:.2f}") for i in best
    ]
    return pictures, by_class


def directions(served):
    """The directions that a translator has networks for."""
    return [name for name in signatures.DIRECTIONS if name in served.networks]


def translations(served, direction, pixels):
    """[(picture, caption)]: the translation of a picture; for networks with attention also the
    share of each pixel that is new, the masks and the contents; for those with a latent space the
    reconstruction and where the code says something. Large pictures are reduced."""
    if direction not in directions(served):
        raise Refused(f"these weights translate {' and '.join(directions(served))} only")
    network = served.networks[direction]
    image, (height, width) = signatures.padded(tf.constant(pixels), size_multiple(network))
    outputs = network(image[None], training=False)
    outputs = {key: np.asarray(value)[0, :height, :width] for key, value in outputs.items()}
    pictures = [(_pixels(outputs["translated"]), "translation")]
    if "masks" in outputs:
        name = "attention: what is new" if "contents" in outputs else "attention"
        pictures.append((_grey(foreground(outputs["masks"])), name))
        masks = np.moveaxis(outputs["masks"], -1, 0)
        if len(masks) > 1:
            names = [f"mask {k}" for k in range(1, len(masks))] + ["mask of the background"]
            pictures += [(_grey(mask), name) for mask, name in zip(masks, names)]
    if "contents" in outputs:
        contents = np.moveaxis(outputs["contents"], -2, 0)
        pictures += [(_pixels(content), f"content {k}") for k, content in enumerate(contents, 1)]
    if "latent" in outputs:
        pictures.append((_pixels(outputs["reconstructed"]), "reconstruction"))
        pictures.append((_grey(outputs["latent"][..., 0]), "latent: where the code says something"))
    return [(enlarged(picture), name) for picture, name in pictures]


def grid(images):
    """uint8 (N, S, S, 3) -> one enlarged picture, as square as possible, white at the end."""
    return enlarged(image_grid(scaled(images), math.ceil(len(images) ** 0.5)), 2 * MIN_SIDE)


def grid_position(x, y, images):
    """A pixel of `grid(images)` -> (index of the image, row, column); None after the last image."""
    columns, size = math.ceil(len(images) ** 0.5), images.shape[1]
    scale = grid(images).shape[1] // (columns * size)
    (down, row), (across, column) = divmod(y // scale, size), divmod(x // scale, size)
    index = down * columns + across
    return (index, row, column) if index < len(images) else None


def enlarged(pixels, side=MIN_SIDE):
    """Repeats each pixel so that the longer side has at least `side` pixels."""
    times = math.ceil(side / max(pixels.shape[:2]))
    return pixels.repeat(times, 0).repeat(times, 1)


def boxed_heat(pixels, attention, box):
    """The heat map of attention (h, w) over a picture, with a box and the scale of the colours."""
    attention = interpolation.resized(attention, *pixels.shape[:2])
    return with_scale(boxed(heat(pixels, attention), box))


def boxed(pixels, box):
    """A picture with a red box: top, left, bottom, right as fractions of its sides."""
    height, width = pixels.shape[:2]
    top, left, bottom, right = np.asarray(box) * (height, width, height, width)
    drawn = Image.fromarray(pixels)
    if bottom > top and right > left:
        line = max(2, max(height, width) // 200)
        corners = (left, top, max(left, right - 1), max(top, bottom - 1))  # of one pixel at least
        ImageDraw.Draw(drawn).rectangle(corners, outline=RED, width=line)
    return np.asarray(drawn)


def _answer(served, name, *inputs):
    functions = signatures.build(served.networks, served.role, served.size, served.threshold)
    function, _ = functions[name]
    return function(*inputs)


def _inputs(served, seeds):
    """Seeds -> [z], or [z, labels] if the network takes labels."""
    network = served.networks["generator"]
    z = signatures.noise(seeds, network.inputs[0].shape[-1])
    if len(network.inputs) == 1:
        return [z]
    return [z, tf.constant(labels.labels(z.numpy(), served.about["options"]["classes"]))]


def _square(pixels, size):
    return scaled(signatures.resized(tf.constant(pixels), (size, size)))


def _smaller(pixels):
    height, width = pixels.shape[:2]
    scale = MAX_SIDE / max(height, width)
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    return np.uint8(signatures.resized(tf.constant(pixels), size))


def _pixels(images):
    return signatures.to_uint8(images).numpy()


def _grey(mask):
    return _pixels(2 * mask - 1)[..., None].repeat(3, -1)


def page(samplers, translators, explainers, load, read, examples):
    """gradio.Blocks with a tab for each list of models' names that is not empty.

    load: function, name -> Served. read: function, path -> picture. Both may raise Refused.
    examples: paths of example pictures.
    """
    import gradio as gr

    def show_refusal(function):
        """Shows the message of Refused on the page."""

        @functools.wraps(function)
        def call(*inputs):
            try:
                return function(*inputs)
            except Refused as error:
                raise gr.Error(html.escape(str(error)), print_exception=False) from None

        return call

    plain = {"format": "png", "interactive": False, "elem_classes": "pixels"}
    plain |= {"show_label": False, "buttons": []}  # nothing covers the pixels
    output_image = functools.partial(gr.Image, **plain)
    plain |= {"columns": 5, "object_fit": "contain", "height": "auto"}
    gallery = functools.partial(gr.Gallery, **plain)

    upload = {"sources": ["upload", "clipboard"], "format": "png", "elem_classes": "given"}
    input_image = functools.partial(gr.Image, **upload, height=320, buttons=[])
    # Gradio decodes no upload; if several changes are waiting, only the last one is processed
    raw = {"preprocess": False, "trigger_mode": "always_last"}

    def read_upload(upload):
        """The picture that an image component sends."""
        return read(upload and upload["path"])

    def connect(function, inputs, outputs, button, *events):
        """Calls function when the button is clicked, and at events if the picture, the second
        input, is not empty."""
        button.click(show_refusal(function), inputs, outputs, preprocess=False)
        empty = [None] * len(outputs)
        if_picture = show_refusal(lambda *values: function(*values) if values[1] else empty)
        gr.on(events, if_picture, inputs, outputs, **raw)

    def draw(name, seed, count, upload):
        served, first = load(name), integer(seed, 0, 2**32 - 1, "the seed")
        count = integer(count, 1, MAX_SAMPLES, "how many")
        takes_reference = "generator_with_reference" in served.networks
        reference = read_upload(upload) if takes_reference and upload else None
        images, masks = samples(served, first, count, reference)
        if masks is None:
            middle = served.size // 2
            picture, caption = explain_sample(served, first, images[0], middle, middle)
        else:
            image = np.uint8(signatures.resized(tf.constant(reference), (served.size,) * 2))
            picture = with_scale(grid(np.stack([heat(image, mask) for mask in masks])))
            caption = "where the reference is looked at"
        state = (name, first, images, 0)
        return grid(images), picture, caption, state, gr.Image(visible=takes_reference)

    def select_sample(state, event: gr.SelectData):
        name, first, images, _ = state
        position = grid_position(*event.index, images)
        if position is None:
            return gr.skip(), gr.skip(), state
        index, row, column = position
        picture, caption = explain_sample(load(name), first + index, images[index], row, column)
        return picture, caption, (name, first, images, index)

    def send_sample(state):
        """Copies the selected sample into the tab "Look"."""
        if not state:
            raise Refused("draw samples first")
        return state[2][state[3]], gr.Tabs(selected="look")

    def update_directions(name, direction):
        available = directions(load(name))
        return gr.Radio(available, value=direction if direction in available else available[0])

    def translate(name, upload, direction):
        served = load(name)
        available = directions(served)  # `direction` may still be that of the previous model
        direction = direction if direction in available else available[0]
        (translated, _), *parts = translations(served, direction, read_upload(upload))
        return translated, gr.Gallery(parts, visible=bool(parts))

    def look(name, upload):
        ((picture, caption), *others), scores = explain(load(name), read_upload(upload))
        return picture, caption, gr.Gallery(others, visible=bool(others)), scores

    with gr.Blocks(title="attention zoo", analytics_enabled=False) as blocks:
        gr.Markdown("# attention zoo")
        with gr.Tabs() as tabs:
            if samplers:
                with gr.Tab("Sample"), gr.Row():
                    with gr.Column(scale=2):
                        model = gr.Dropdown(samplers, label="Model and weights")
                        seed = gr.Textbox("0", label="Seed")
                        count = gr.Slider(1, MAX_SAMPLES, 16, step=1, label="How many")
                        reference = input_image(label="Reference", visible=False)
                        button = gr.Button("Draw", variant="primary")
                    with gr.Column(scale=4):
                        gr.Markdown("Click a sample.")
                        all_samples = output_image(alt_text="samples")
                    with gr.Column(scale=3):
                        caption, state = gr.Markdown(), gr.State()
                        sample = output_image(alt_text="the sample that was clicked")
                        send = gr.Button("Look at this sample", visible=bool(explainers))
                inputs = [model, seed, count, reference]
                outputs = [all_samples, sample, caption, state, reference]
                events = [blocks.load, button.click, model.change, seed.submit, count.release]
                events.append(reference.change)
                gr.on(events, show_refusal(draw), inputs, outputs, **raw)
                all_samples.select(show_refusal(select_sample), [state], [sample, caption, state])
            if translators:
                with gr.Tab("Translate") as tab:
                    with gr.Row():
                        with gr.Column():
                            model = gr.Dropdown(translators, label="Model and weights")
                            direction = gr.Radio(["a2b"], value="a2b", label="Direction")
                            picture = input_image(label="Picture")
                            gr.Examples(examples, picture, label="Pictures at hand")
                            button = gr.Button("Translate", variant="primary")
                        with gr.Column():
                            translated = output_image(alt_text="translation")
                    parts = gallery(visible=False)
                events = [tab.select, model.change]
                gr.on(events, show_refusal(update_directions), [model, direction], direction, **raw)
                inputs, outputs = [model, picture, direction], [translated, parts]
                events = [model.change, picture.change, direction.change]
                connect(translate, inputs, outputs, button, *events)
            if explainers:
                with gr.Tab("Look", id="look"), gr.Row():
                    with gr.Column(scale=3):
                        model = gr.Dropdown(explainers, label="Model and weights")
                        picture = input_image(label="Picture")
                        gr.Examples(examples, picture, label="Pictures at hand")
                        button = gr.Button("Look", variant="primary")
                    with gr.Column(scale=4):
                        caption, explanation = (
                            gr.Markdown(),
                            output_image(alt_text="where it looks"),
                        )
                        others = gallery(visible=False)
                    with gr.Column(scale=2):
                        scores = gr.Label(label="Scores", num_top_classes=5)
                outputs = [explanation, caption, others, scores]
                connect(look, [model, picture], outputs, button, model.change, picture.change)
                if samplers:
                    send.click(show_refusal(send_sample), [state], [picture, tabs])
    return blocks


def launch(blocks, port):
    """Serves a page to this machine only, until it is stopped; Refused if the port is in use."""
    try:
        _, address, _ = blocks.launch(
            server_name="127.0.0.1",
            server_port=port,
            share=False,
            ssr_mode=False,
            quiet=True,
            prevent_thread_lock=True,
            max_file_size="64mb",
            footer_links=[],
            css=CSS,
        )
    except OSError:
        raise Refused(f"port {port} is taken: give another --port") from None
    print(f"demo: {address} (Ctrl-C ends it)", flush=True)
    blocks.block_thread()
