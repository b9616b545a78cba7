"""A page to play with, on Gradio: samples, translations, and where networks look, by the functions
that are exported too (serving.signatures).

What stands before `page` takes what a browser sends, and gives pictures, uint8 (H, W, 3); what
cannot be answered raises Refused, and the page shows its message. Networks come as `Served`
(serving.export).
"""

import functools
import html
import math

import numpy as np
import tensorflow as tf
from PIL import Image, ImageDraw

from ..common import interpolation
from ..common.images import lit as darkened
from ..common.images import scaled
from ..zoo.layers import labels, self_attention
from . import signatures

SIDE = 512  # pixels of what is shown, at least
LARGEST = 1024  # of a picture that is looked at
MOST = 64  # samples
SEEN = 3  # maps of classes
RED = (255, 0, 0)
CSS = """
.pixels img, .given img {image-rendering: pixelated; width: 100%; object-fit: contain}
.pixels .image-frame img {height: auto}
.given img, .pixels .grid-container img {height: 100%}
.pixels .grid-wrap {min-height: 0 !important; max-height: none !important}
"""


class Refused(ValueError):
    """What cannot be answered; the message says what to do instead."""


def whole(value, low, high, name):
    """What was typed as a whole number; else Refused."""
    text = str(value).strip()
    if not (text.isascii() and text.isdecimal()) or not low <= int(text) <= high:
        raise Refused(f"{name} takes a whole number from {low} to {high}, not {text!r}")
    return int(text)


def samples(served, seed, count, reference=None):
    """The images (count, S, S, 3) of the seeds from `seed` on, each a function of its seed alone;
    with a reference, a picture, RAGAN's with its attention, and its masks (N, S, S), else None."""
    seeds = tf.range(seed, seed + count, dtype=tf.int64)
    if reference is None:
        made = _answer(served, "serving_default", *_inputs(served, seeds))
        return _pixels(made["image"]), None
    image = tf.repeat(_square(reference, served.size)[None], count, 0)
    made = _answer(served, "generate_with_reference", seeds, image)
    return _pixels(made["image"]), made["attention"][0].numpy()


def gaze(served, seed, image, row, column):
    """(picture, what it shows) of a sample (S, S, 3): by self-attention, where its pixel, red,
    looks; else where the discriminator does, if it makes maps, with the box."""
    if self_attention.attends(served.networks["generator"]):
        maps = self_attention.attention_map(served.networks["generator"])
        z, *label = _inputs(served, tf.constant([seed], tf.int64))
        beta = np.asarray(maps([z, *label] if label else z, training=False)[0])  # (N, M)
        side, seen = (round(n**0.5) for n in beta.shape)
        cell = served.size // side
        mask = beta[row // cell * side + column // cell].reshape(seen, seen)
        times = served.size // seen
        made = lit(image, (mask / mask.max()).repeat(times, 0).repeat(times, 1))
        made[row, column] = RED
        return enlarged(made), f"seed {seed}: where the red pixel looks; click another"
    if judges(served):
        ((made, _),), _ = looks(served, image)
        return made, f"seed {seed}: where the discriminator looks"
    return enlarged(image), f"seed {seed}"


def judges(served):
    """Has it a discriminator that makes maps (ATA-GAN's)?"""
    return len(getattr(served.networks.get("discriminator"), "outputs", ())) > 1


def looks(served, pixels):
    """([(the picture lit by a map, with its box, what it is of)], {class: score}) by a classifier,
    GAIN, whose likeliest classes have a map each, or ATA-GAN's discriminator. A classifier without
    maps gives the picture alone."""
    signature = "annotate" if judges(served) else "serving_default"
    made = _answer(served, signature, _square(pixels, served.size)[None])
    scores = made["scores"][0].numpy()
    names = ["real"] if judges(served) else served.about.get("classes", ())
    if len(names) != len(scores):
        names = [f"class {i}" for i in range(len(scores))]
    told = dict(zip(names, scores.tolist()))
    pixels = enlarged(pixels if max(pixels.shape) <= LARGEST else _smaller(pixels))
    if "attention" not in made:
        return [(pixels, "this network makes no map")], told
    maps, boxes = made["attention"][0], made["boxes"][0]
    if len(maps.shape) == 2:
        what = f"the box holds all of map >= {served.threshold:.2g}"
        return [(boxed(lit(pixels, maps), boxes), what)], told
    best = np.argsort(-scores)[:SEEN]
    shown = [boxed(lit(pixels, maps[i]), boxes[i]) for i in best]
    return [(one, f"{names[i]}: {scores[i]:.2f}") for one, i in zip(shown, best)], told


def directions(served):
    """Those a translator has weights for."""
    return [name for name in signatures.AHEAD if name in served.networks]


def translations(served, direction, pixels):
    """[(picture, what it is)]: a picture's translation, and of networks with attention how much of
    each pixel is new, the masks and contents; of large pictures at a smaller size."""
    if direction not in directions(served):
        raise Refused(f"these weights translate {' and '.join(directions(served))} only")
    image, (height, width) = signatures.padded(tf.constant(pixels))
    made = served.networks[direction](image[None], training=False)
    made = {key: np.asarray(value)[0, :height, :width] for key, value in made.items()}
    shown = [(_pixels(made["translated"]), "translation")]
    if "masks" in made:
        masks = np.moveaxis(made["masks"], -1, 0)
        last = len(masks) - 1
        fresh = 1 - masks[-1] if last else masks[0]
        shown.append((_grey(fresh), "attention: what is new"))
        if last:
            names = [f"mask {k}" for k in range(1, last + 1)] + ["mask of the background"]
            shown += [(_grey(mask), name) for mask, name in zip(masks, names)]
        contents = np.moveaxis(made["contents"], -2, 0)
        shown += [(_pixels(one), f"content {k}") for k, one in enumerate(contents, 1)]
    return [(enlarged(picture), name) for picture, name in shown]


def grid(images):
    """Images (N, S, S, 3) -> one, as good as square, white at the end, enlarged."""
    columns = math.ceil(len(images) ** 0.5)
    rows = math.ceil(len(images) / columns)
    cells = np.full((rows * columns, *images.shape[1:]), 255, np.uint8)
    cells[: len(images)] = images
    cells = cells.reshape(rows, columns, *images.shape[1:]).swapaxes(1, 2)
    return enlarged(cells.reshape(rows * cells.shape[1], -1, 3), 2 * SIDE)


def place(x, y, images):
    """A pixel of their `grid` -> (which image, row, column); beside the last image None."""
    columns, size = math.ceil(len(images) ** 0.5), images.shape[1]
    scale = grid(images).shape[1] // (columns * size)
    (down, row), (across, column) = divmod(y // scale, size), divmod(x // scale, size)
    index = down * columns + across
    return (index, row, column) if index < len(images) else None


def enlarged(pixels, side=SIDE):
    """Each pixel as a square of pixels, so that the longer side has at least `side`."""
    times = math.ceil(side / max(pixels.shape[:2]))
    return pixels.repeat(times, 0).repeat(times, 1)


def lit(pixels, attention):
    """A picture darkened where attention (h, w), brought to its size, is below 1."""
    return np.uint8(darkened(pixels, interpolation.resized(attention, *pixels.shape[:2])))


def boxed(pixels, box):
    """A picture with a red box: top, left, bottom, right as shares of its sides."""
    height, width = pixels.shape[:2]
    top, left, bottom, right = np.asarray(box) * (height, width, height, width)
    drawn = Image.fromarray(pixels)
    if bottom > top and right > left:
        line = max(2, max(height, width) // 200)
        ImageDraw.Draw(drawn).rectangle((left, top, right - 1, bottom - 1), outline=RED, width=line)
    return np.asarray(drawn)


def _answer(served, name, *inputs):
    function, _ = signatures.of(served.networks, served.role, served.size, served.threshold)[name]
    return function(*inputs)


def _inputs(served, seeds):
    """Seeds -> [z], and a label each where the network takes one."""
    network = served.networks["generator"]
    z = signatures.noise(seeds, network.inputs[0].shape[-1])
    if len(network.inputs) == 1:
        return [z]
    return [z, tf.constant(labels.labels(z.numpy(), served.about["options"]["classes"]))]


def _square(pixels, size):
    return scaled(signatures.resized(tf.constant(pixels), (size, size)))


def _smaller(pixels):
    height, width = pixels.shape[:2]
    share = LARGEST / max(height, width)
    size = (max(1, round(height * share)), max(1, round(width * share)))
    return np.uint8(signatures.resized(tf.constant(pixels), size))


def _pixels(images):
    return signatures.to_uint8(images).numpy()


def _grey(mask):
    return _pixels(2 * mask - 1)[..., None].repeat(3, -1)


def page(samplers, translators, lookers, load, read, examples):
    """gradio.Blocks, a tab for each list of names that is not empty.

    load: name -> Served, read: path -> picture; both may raise Refused. examples: paths of
    pictures to begin with.
    """
    import gradio as gr

    def told(function):
        @functools.wraps(function)
        def call(*given):
            try:
                return function(*given)
            except Refused as error:
                raise gr.Error(html.escape(str(error)), print_exception=False) from None

        return call

    plain = {"format": "png", "interactive": False, "elem_classes": "pixels"}
    plain |= {"show_label": False, "buttons": []}  # nothing lies over the pixels
    shown = functools.partial(gr.Image, **plain)
    plain |= {"columns": 5, "object_fit": "contain", "height": "auto"}
    gallery = functools.partial(gr.Gallery, **plain)

    given_as = {"sources": ["upload", "clipboard"], "format": "png", "elem_classes": "given"}
    picture = functools.partial(gr.Image, **given_as, height=320, buttons=[])
    # no component decodes what comes, and of many changes the last one counts
    given_as_sent = {"preprocess": False, "trigger_mode": "always_last"}

    def opened(sent):
        """What a picture's component sends."""
        return read(sent and sent["path"])

    def tried(function, inputs, outputs, button, *others):
        """Calls it by the button, and where others happen while there is a picture (the second)."""
        button.click(told(function), inputs, outputs, preprocess=False)
        empty = [None] * len(outputs)
        quiet = told(lambda *given: function(*given) if given[1] else empty)
        gr.on(others, quiet, inputs, outputs, **given_as_sent)

    def draw(name, seed, count, sent):
        served, first = load(name), whole(seed, 0, 2**32 - 1, "the seed")
        count = whole(count, 1, MOST, "how many")
        takes = "generator_with_reference" in served.networks
        reference = opened(sent) if takes and sent else None
        images, masks = samples(served, first, count, reference)
        if masks is None:
            middle = served.size // 2
            seen, what = gaze(served, first, images[0], middle, middle)
        else:
            image = np.uint8(signatures.resized(tf.constant(reference), (served.size,) * 2))
            seen = grid(np.stack([lit(image, mask) for mask in masks]))
            what = "where the reference is looked at"
        drawn = (name, first, images, 0)
        return grid(images), seen, what, drawn, gr.Image(visible=takes)

    def click(drawn, event: gr.SelectData):
        name, first, images, _ = drawn
        found = place(*event.index, images)
        if found is None:
            return gr.skip(), gr.skip(), drawn
        index, row, column = found
        seen, what = gaze(load(name), first + index, images[index], row, column)
        return seen, what, (name, first, images, index)

    def chosen(drawn):
        if not drawn:
            raise Refused("draw samples first")
        return drawn[2][drawn[3]], gr.Tabs(selected="look")

    def offered(name, direction):
        ways = directions(load(name))
        return gr.Radio(ways, value=direction if direction in ways else ways[0])

    def translate(name, sent, direction):
        served = load(name)
        ways = directions(served)  # of another network than before, maybe, not offered yet
        direction = direction if direction in ways else ways[0]
        (made, _), *parts = translations(served, direction, opened(sent))
        return made, gr.Gallery(parts, visible=bool(parts))

    def look(name, sent):
        ((seen, what), *others), scores = looks(load(name), opened(sent))
        return seen, what, gr.Gallery(others, visible=bool(others)), scores

    with gr.Blocks(title="attention zoo", analytics_enabled=False) as blocks:
        gr.Markdown("# attention zoo")
        with gr.Tabs() as tabs:
            if samplers:
                with gr.Tab("Sample"), gr.Row():
                    with gr.Column(scale=2):
                        model = gr.Dropdown(samplers, label="Model and weights")
                        seed = gr.Textbox("0", label="Seed")
                        count = gr.Slider(1, MOST, 16, step=1, label="How many")
                        reference = picture(label="Reference", visible=False)
                        button = gr.Button("Draw", variant="primary")
                    with gr.Column(scale=4):
                        gr.Markdown("Click a sample.")
                        many = shown(alt_text="samples")
                    with gr.Column(scale=3):
                        what, drawn = gr.Markdown(), gr.State()
                        closer = shown(alt_text="the sample that was clicked")
                        take = gr.Button("Look at this sample", visible=bool(lookers))
                inputs = [model, seed, count, reference]
                outputs = [many, closer, what, drawn, reference]
                often = [blocks.load, button.click, model.change, seed.submit, count.release]
                often.append(reference.change)
                gr.on(often, told(draw), inputs, outputs, **given_as_sent)
                many.select(told(click), [drawn], [closer, what, drawn])
            if translators:
                with gr.Tab("Translate") as tab:
                    with gr.Row():
                        with gr.Column():
                            model = gr.Dropdown(translators, label="Model and weights")
                            direction = gr.Radio(["a2b"], value="a2b", label="Direction")
                            given = picture(label="Picture")
                            gr.Examples(examples, given, label="Pictures at hand")
                            button = gr.Button("Translate", variant="primary")
                        with gr.Column():
                            made = shown(alt_text="translation")
                    parts = gallery(visible=False)
                often = [tab.select, model.change]
                gr.on(often, told(offered), [model, direction], direction, **given_as_sent)
                inputs, outputs = [model, given, direction], [made, parts]
                often = [model.change, given.change, direction.change]
                tried(translate, inputs, outputs, button, *often)
            if lookers:
                with gr.Tab("Look", id="look"), gr.Row():
                    with gr.Column(scale=3):
                        model = gr.Dropdown(lookers, label="Model and weights")
                        given = picture(label="Picture")
                        gr.Examples(examples, given, label="Pictures at hand")
                        button = gr.Button("Look", variant="primary")
                    with gr.Column(scale=4):
                        what, seen = gr.Markdown(), shown(alt_text="where it looks")
                        others = gallery(visible=False)
                    with gr.Column(scale=2):
                        scores = gr.Label(label="Scores", num_top_classes=5)
                outputs = [seen, what, others, scores]
                tried(look, [model, given], outputs, button, model.change, given.change)
                if samplers:
                    take.click(told(chosen), [drawn], [given, tabs])
    return blocks


def launch(blocks, port):
    """Serves a page on this machine alone until it is stopped; a port that is taken is Refused."""
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
