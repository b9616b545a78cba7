"""The networks: counts, shapes, ranges, equations; parametrised over the registry."""

import dataclasses
import importlib.util
import json
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from attention_zoo import zoo
from attention_zoo.tests.helpers import images
from attention_zoo.zoo import sagan, weights
from attention_zoo.zoo.layers.batch_norm import BatchNorm
from attention_zoo.zoo.networks import Networks
from attention_zoo.zoo.ragan import AttentionBank, BoxMask, WeightedSum

pytestmark = pytest.mark.usefixtures("eager")

TINY = {"image_size": 32, "width": 8}


def noise(count, latent=100, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (count, latent)).astype("float32")


def parsed(setting):
    pairs = (pair.split("=") for pair in setting.split(","))
    words = {"true": True, "false": False}
    return {k: int(v) if v.isdigit() else words.get(v, v) for k, v in pairs}


GANS = [name for name in zoo.names() if zoo.get(name).serve == "generator"]
CASES = [(n, s) for n in zoo.names() for s in zoo.get(n).params]


def test_names():
    gans = ["dcgan", "wgan", "ragan", "sagan", "ata_gan"]
    translators = ["cyclegan", "attention_gan", "discogan", "dualgan", "unit", "uait"]
    translators += ["ganimorph", "ra"]
    classifiers = ["resnet9", "resnet18", "squeezenet", "vgg16", "efficientnet_lite0"]
    assert zoo.names() == [*gans, *translators, *classifiers, "gain", "deeplab"]


def test_the_kind_of_a_model_names_the_network_that_is_served():
    kinds = {name: (zoo.get(name).kind, zoo.get(name).serve) for name in zoo.names()}
    assert kinds["ragan"] == ("generation", "generator")
    assert kinds["cyclegan"] == kinds["attention_gan"] == ("translation", "a2b")
    assert kinds["vgg16"] == ("classification", "classifier")
    assert kinds["gain"] == ("guided", "attention")
    assert kinds["deeplab"] == ("segmentation", "segmenter")
    with pytest.raises(ValueError, match="kind must be one of generation, classification"):
        dataclasses.replace(zoo.get("ragan"), kind="painting")


def test_the_default_weights_are_those_of_the_paper_s_data_set_or_the_first():
    tags = {name: zoo.get(name).default_tag for name in zoo.names()}
    assert tags["ragan"] == tags["resnet9"] == tags["dcgan"] == "cifar10"
    assert (tags["sagan"], tags["gain"], tags["resnet18"]) == ("creatures", "many", "cells")
    assert tags["attention_gan"] == "plain2striped"
    assert tags["vgg16"] is None


def registry_of(folder, monkeypatch):
    """The registry as it is imported where its manifest is the one in folder/pretrained."""
    path = folder / "registry.py"
    path.write_text(Path(zoo.registry.__file__).read_text())
    spec = importlib.util.spec_from_file_location("attention_zoo.zoo.another", path)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


def test_a_broken_row_of_the_manifest_costs_its_tag_alone(tmp_path, monkeypatch):
    manifest = tmp_path / "pretrained" / "manifest.json"
    manifest.parent.mkdir()
    rows = json.loads((zoo.registry.PRETRAINED / "manifest.json").read_text())
    del rows["ragan"]["creatures"]["sha256"]
    rows["ragan"]["cifar10-wgan"]["probe"] = "0.5"
    rows["dcgan"] = [1]
    rows["unknown"] = {"tag": {}}
    manifest.write_text(json.dumps(rows))
    registry = registry_of(tmp_path, monkeypatch)
    assert list(registry.get("ragan").weights) == ["cifar10"]
    assert list(registry.get("sagan").weights) == ["creatures"]
    assert registry.get("dcgan").weights == {} and registry.get("dcgan").default_tag is None
    monkeypatch.setattr(weights, "registry", registry)
    for name, tag, why in (
        ("ragan", "creatures", "ragan:creatures cannot be read: missing 1 required .*'sha256'"),
        ("ragan", "cifar10-wgan", "cannot be read: probe must be of type list"),
        ("dcgan", "cifar10", "dcgan:cifar10 cannot be read: the file is damaged"),
        ("ragan", "cells", "ragan has no weights 'cells': it has cifar10"),
    ):
        with pytest.raises(zoo.WeightsError, match=why):
            weights.find(name, tag)
    assert weights.find("ragan", "cifar10")[1].dataset == "cifar10"

    manifest.write_text('{"ragan": ')
    registry = registry_of(tmp_path, monkeypatch)
    assert registry.get("ragan").weights == {}
    monkeypatch.setattr(weights, "registry", registry)
    with pytest.raises(zoo.WeightsError, match="manifest.json: ragan:cifar10 cannot be read"):
        weights.find("ragan", "cifar10")


FAST = ("dcgan", "ragan", "cyclegan", "gain")


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] * (name not in FAST)) for name in zoo.names()],
)
def test_networks_are_built_one_by_one_with_the_weights_of_all(name, monkeypatch):
    made, init = [], keras.Layer.__init__

    def counting(self, *args, **kwargs):
        init(self, *args, **kwargs)
        if isinstance(self, keras.Model):
            made.append(self.name)

    monkeypatch.setattr(keras.Layer, "__init__", counting)
    networks = zoo.registry.networks(name, **TINY)
    assert made == [] and networks.built == ()
    served = networks[zoo.get(name).serve]
    parts = {"ragan": ["decoder"], "gain": ["classifier"]}.get(name, [])
    assert made == [*parts, served.name]
    assert networks[zoo.get(name).serve] is served

    keras.utils.set_random_seed(0)
    by_hand = zoo.registry.networks(name, **TINY)
    lazily = {key: by_hand[key] for key in by_hand}
    keras.utils.set_random_seed(0)
    at_once = zoo.create(name, **TINY)
    assert at_once.built[-1] == list(at_once)[-1] == list(lazily)[-1]
    for key in lazily:
        pairs = zip(lazily[key].variables, at_once[key].variables, strict=True)
        assert all(np.array_equal(a, b) for a, b in pairs)


def test_networks_are_a_mapping_of_makers():
    made = []
    networks = Networks(
        {"a": lambda: made.append("a") or 1, "b": lambda: networks["c"] + 1},
        optional={"c": lambda: made.append("c") or 2},
    )
    assert list(networks) == ["a", "b"] and len(networks) == 2
    assert "c" in networks and "d" not in networks and made == []
    assert networks["b"] == 3 and networks.built == ("c", "b")
    assert dict(networks) == {"a": 1, "b": 3} and made == ["c", "a"]
    assert networks.get("d") is None and not networks.load_start_weights()
    assert repr(networks) == "Networks(a, b; built: c, b, a)"
    with pytest.raises(KeyError):
        networks["d"]
    with pytest.raises(ValueError, match="start takes MODEL:TAG, not 'vgg16'"):
        Networks({}, start="vgg16")


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("dcgan", {"latent": 0}),
        ("wgan", {"width": 0}),
        ("ragan", {"encoder_width": 0}),
        ("sagan", {"attention_variant": "fast"}),
        ("ata_gan", {"image_size": 48}),
        ("cyclegan", {"blocks": 0}),
        ("attention_gan", {"scheme": 3}),
        ("unit", {"shared": 5}),
        ("uait", {"image_size": 30}),
        ("ganimorph", {"image_size": 40}),
        ("ra", {"levels": 4, "image_size": 64}),
        ("discogan", {"image_size": 48}),
        ("dualgan", {"critic": "dense"}),
        ("resnet9", {"stages": 1}),
        ("resnet18", {"normalise": "caffe"}),
        ("squeezenet", {"head": "fc"}),
        ("vgg16", {"classes": 1}),
        ("gain", {"backbone": "resnet9", "stages": 1}),
        ("deeplab", {"normalise": "caffe"}),
        ("dcgan", {"size": 32}),
    ],
)
def test_wrong_options_are_refused_before_anything_is_built(name, wrong):
    with pytest.raises((ValueError, TypeError), match="must|takes|unknown|at least|unexpected"):
        zoo.registry.networks(name, **wrong)


def test_unknown_name_names_the_closest_and_all():
    with pytest.raises(zoo.UnknownModel, match="did you mean 'ragan'.*dcgan, wgan, ragan"):
        zoo.get("ragn")


@pytest.mark.parametrize(("name", "setting"), CASES)
def test_parameter_counts(name, setting):
    expected = zoo.get(name).params[setting]
    assert zoo.registry.counts(name, expected, **parsed(setting)) == expected


def test_counting_takes_no_memory_and_leaves_nothing_to_fill():
    (count,) = zoo.registry.counts("dcgan", ["generator"], width=40_000).values()
    assert count > 2**37
    made = zoo.create("attention_gan", image_size=32, width=2, blocks=1)["a2b"](
        np.zeros((1, 8, 8, 3))
    )
    assert made["translated"].shape == (1, 8, 8, 3)


def test_dcgan_counts_by_hand():
    # 100*4096 + 4*256 | 16*256*128 + 4*128 | 16*128*64 + 4*64 | 16*64*3 + 3
    generator = 409_600 + 1_024 + 524_288 + 512 + 131_072 + 256 + 3_075
    # 16*3*64 + 64 | 16*64*128 + 4*128 | 16*128*256 + 4*256 | 4096 + 1
    discriminator = 3_136 + 131_072 + 512 + 524_288 + 1_024 + 4_097
    assert zoo.get("dcgan").params["image_size=32"] == {
        "generator": generator,
        "discriminator": discriminator,
    }


@pytest.mark.parametrize("name", GANS)
@pytest.mark.parametrize("size", [32, 64, 128])
def test_shapes_and_ranges(name, size):
    networks = zoo.create(name, image_size=size, width=4)
    made = networks[zoo.get(name).serve].predict_on_batch(noise(2, zoo.options(name)["latent"]))
    assert made.shape == (2, size, size, 3)
    assert abs(made).max() <= 1
    judged = keras.tree.flatten(networks["discriminator"].predict_on_batch(made))
    assert judged[0].shape == (2, 1)


@pytest.mark.parametrize("size", [0, 16, 48])
def test_a_size_that_is_no_power_of_two_from_32_is_refused(size):
    with pytest.raises(ValueError, match="power of two"):
        zoo.create("dcgan", image_size=size)


@pytest.mark.parametrize("name", zoo.names())
def test_save_and_load(name, tmp_path):
    network = zoo.registry.networks(name, **TINY)[zoo.get(name).serve]
    for i, v in enumerate(network.variables):
        v.assign(np.random.default_rng(i).uniform(0.1, 1, v.shape))
    network.save(tmp_path / "network.keras")
    again = keras.saving.load_model(tmp_path / "network.keras")
    shape = network.input_shape
    x = noise(3, shape[-1]) if len(shape) == 2 else images(3)
    made, expected = (keras.tree.flatten(n.predict_on_batch(x)) for n in (again, network))
    assert len(made) == len(expected) and all(map(np.array_equal, made, expected))


def test_every_option_of_ragan_changes_the_attention():
    def layer(**options):
        keras.utils.set_random_seed(0)
        dae = zoo.create("ragan", **{**TINY, **options})["attention"]
        dae.get_layer("attention_layer").weight.assign(
            np.linspace(0.5, 1, dae.get_layer("attention_layer").weight.shape[0])
        )
        return dae.predict_on_batch(images(2))["layer"]

    usual = layer()
    assert usual.shape == (2, 8, 8, 16)
    changed = {"regions": 2, "mask_size": 0.25, "sharpness": 1.0, "encoder_width": 8}
    changed["bottleneck"] = 4
    for option, value in changed.items():
        assert abs(layer(**{option: value}) - usual).max() > 1e-3, option
    assert layer(attend_at=16).shape == (2, 16, 16, 8)


@pytest.mark.parametrize(
    "wrong",
    [
        {"regions": 0},
        {"mask_size": 1.5},
        {"attend_at": 32},
        {"bottleneck": -1},
        {"bottleneck": 128},
        {"region_dropout": 1.0},
        {"region_dropout": -0.1},
    ],
)
def test_ragan_refuses_options_without_meaning(wrong):
    with pytest.raises(ValueError, match="must (be|lie in)") as refused:
        zoo.create("ragan", **wrong)
    assert all(name in str(refused.value) for name in wrong)


def test_box_mask_against_a_loop():
    centres = np.array([[[5.3, 9.0], [8.0, 8.0]], [[4.0, 12.0], [10.7, 4.1]]])
    masks = np.asarray(BoxMask(16, side=6.0, sharpness=2.0)(centres.astype("float32")))

    def h(u):
        return 1 / (1 + np.exp(-2.0 * u))

    assert masks.shape == (2, 2, 16, 16, 1)
    for b in range(2):
        for n in range(2):
            cy, cx = centres[b, n]
            for i in range(16):
                for j in range(16):
                    y, x = i + 0.5, j + 0.5
                    rows = h(y - (cy - 3)) - h(y - (cy + 3))
                    columns = h(x - (cx - 3)) - h(x - (cx + 3))
                    assert abs(masks[b, n, i, j, 0] - rows * columns) < 1e-6
    assert masks[0, 1, 7, 7, 0] > 0.98
    assert abs(masks[0, 1, 0, 0, 0] - 1.5226e-8) < 1e-11  # h(-4.5)^2


def test_centres_start_on_a_grid_and_boxes_stay_inside():
    dae = zoo.create("ragan", image_size=32)["attention"]
    start = dae.predict_on_batch(np.zeros((1, 32, 32, 3), "float32"))["centres"][0]
    assert abs(start - [[12, 12], [12, 20], [20, 12], [20, 20]]).max() < 1e-4
    dae.get_layer("localise").kernel.assign_add(np.ones((8 * 8 * 128, 8)) * 10)
    for sign in (1, -1):
        centres = dae.predict_on_batch(sign * images(4))["centres"]
        assert centres.min() >= 8
        assert centres.max() <= 24


def test_weighted_sum_is_equation_2():
    codes = np.arange(2 * 3 * 2 * 2 * 1, dtype="float32").reshape(2, 3, 2, 2, 1)
    layer = WeightedSum()
    assert abs(np.asarray(layer(codes))).max() == 0
    layer.weight.assign([1.0, -2.0, 0.5])
    expected = codes[:, 0] - 2 * codes[:, 1] + 0.5 * codes[:, 2]
    assert np.array_equal(np.asarray(layer(codes)), expected)


def test_output_is_exactly_g_while_lambda_is_zero():
    networks = zoo.create("ragan", **TINY)
    generator = networks["generator_with_reference"]
    inputs = [{"noise": noise(3), "image": images(3, seed=s)} for s in (1, 2)]
    first, second = (generator.predict_on_batch(x) for x in inputs)
    assert np.array_equal(first, second)
    assert np.array_equal(first, networks["generator"].predict_on_batch(noise(3)))
    networks["attention"].get_layer("attention_layer").weight.assign([1.0, 1.0, 1.0, 1.0])
    first, second = (generator.predict_on_batch(x) for x in inputs)
    assert abs(first - second).max() > 1e-3


def test_bank_is_picked_by_the_first_coordinate_of_z():
    bank = AttentionBank((8, 8, 128))
    z = np.zeros((6, 5), "float32")
    z[:, 0] = [-1, -0.999, -1 + 2 / 256, 0, 0.999, 1]
    assert abs(np.asarray(bank(z))).max() == 0
    assert bank.entries == 256
    assert bank.bank.shape == (256, 8, 8, 128)
    assert np.prod(bank.bank.shape) * 2 < 5e6
    bank.bank.assign(np.broadcast_to(np.arange(256.0)[:, None, None, None], bank.bank.shape))
    picked = np.asarray(bank(z))[:, 0, 0, 0]
    assert picked.tolist() == [0, 0, 1, 128, 255, 255]
    assert AttentionBank((16, 16, 256)).entries == 32


def test_batch_norm_against_numpy():
    x = images(6)
    layer = BatchNorm()
    y = np.asarray(layer(x, training=True))
    mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
    assert abs(y - (x - mean) / np.sqrt(variance + 1e-5)).max() < 1e-5
    assert abs(np.asarray(layer.moving_mean) - 0.1 * mean).max() < 1e-6
    assert abs(np.asarray(layer.moving_variance) - (0.9 + 0.1 * variance)).max() < 1e-6
    still = np.asarray(layer(x, training=False))
    moved = (x - 0.1 * mean) / np.sqrt(0.9 + 0.1 * variance + 1e-5)
    assert abs(still - moved).max() < 1e-5


def test_wgan_gp_critic_scores_each_image_on_its_own():
    critic = zoo.create("wgan", loss="wgan_gp", **TINY)["discriminator"]
    x = images(4)
    alone = np.asarray(critic(x[:1], training=True))
    assert abs(alone - np.asarray(critic(x, training=True))[:1]).max() < 1e-5
    with pytest.raises(ValueError, match="wgan has wgan, wgan_gp"):
        zoo.create("wgan", loss="hinge")


def answer(network, *inputs):
    """The network's output at inference, an array."""
    return np.asarray(network(list(inputs) if len(inputs) > 1 else inputs[0], training=False))


def test_sagan_at_128_by_hand():
    def conv(side, a, b):
        return (side * side * a + 2) * b  # kernel, bias and u

    def norm(c):
        return 4 * c

    def attention(c):
        return 1 + 2 * (c + 1) * (c // 8) + (c + 1) * c

    widths = [8, 8, 4, 2, 1, 0.5]  # of 4, 8, 16, ... at width 1/2
    g = [int(64 * c) for c in widths]
    blocks = sum(
        norm(a) + conv(3, a, b) + norm(b) + conv(3, b, b) + conv(1, a, b) for a, b in zip(g, g[1:])
    )
    generator = 130 * 16 * g[0] + blocks + attention(g[3]) + norm(g[5]) + conv(3, g[5], 3)
    d = [3, 32, 64, 128, 256, 512]
    blocks = sum(conv(3, a, b) + conv(3, b, b) + conv(1, a, b) for a, b in zip(d, d[1:]))
    discriminator = blocks + 2 * conv(3, 512, 512) + attention(64) + conv(1, 512, 1)
    networks = zoo.create("sagan", image_size=128)
    assert networks["generator"].count_params() == generator
    assert networks["discriminator"].count_params() == discriminator


def test_every_option_of_sagan_changes_its_networks():
    def built(**options):
        networks = zoo.create("sagan", **{**TINY, **options})
        return {k: {v.path: tuple(v.shape) for v in m.variables} for k, m in networks.items()}

    by_class = built(conditional=True, classes=3, latent=7, attend_at=8)
    assert by_class["generator"]["project/kernel"] == (7, 1024)
    assert by_class["generator"]["up8_bn1_gamma/embeddings"] == (3, 64)
    assert by_class["generator"]["attention/value/kernel"] == (1, 1, 32, 32)
    assert by_class["discriminator"]["project/embeddings"] == (3, 32)
    official = built(attention_variant="official", width=16)
    assert official["generator"]["attention/out/kernel"] == (1, 1, 16, 32)
    for attention, g, d in (("generator", 1, 0), ("discriminator", 0, 1), ("none", 0, 0)):
        found = built(attention=attention)
        attended = {k: "attention/gamma" in paths for k, paths in found.items()}
        assert attended == {"generator": g, "discriminator": d, **({"attention": 1} if d else {})}


@pytest.mark.parametrize(
    ("options", "shape"),
    [
        ({}, (256, 256)),
        ({"attend_at": 8, "attention_variant": "official"}, (64, 16)),
        ({"image_size": 128, "width": 2}, (1024, 1024)),
    ],
)
def test_the_map_of_sagan_is_n_by_m(options, shape):
    network = zoo.create("sagan", **{**TINY, **options})["attention"]
    beta = answer(network, images(2, options.get("image_size", 32)))
    assert beta.shape == (2, *shape)
    assert abs(beta.sum(-1) - 1).max() < 1e-5


@pytest.mark.parametrize(
    "wrong", [{"attend_at": 32}, {"attention": "some"}, {"latent": 0}, {"classes": 0}]
)
def test_sagan_refuses_options_without_meaning(wrong):
    with pytest.raises(ValueError, match="must be"):
        zoo.create("sagan", **wrong)


def test_sagan_is_its_network_without_attention_while_gamma_is_0():
    plain = zoo.create("sagan", attention="none", **TINY)
    networks = zoo.create("sagan", **TINY)
    for name, x in {"generator": noise(2, 128), "discriminator": images(2)}.items():
        held = {v.path: v for v in networks[name].variables}
        for v in plain[name].variables:
            held[v.path].assign(v)
        expected = answer(plain[name], x)
        assert np.array_equal(answer(networks[name], x), expected)
        networks[name].get_layer("attention").gamma.assign(1.0)
        assert abs(answer(networks[name], x) - expected).max() > 1e-6


def test_conditional_sagan_looks_at_the_label_and_saves(tmp_path):
    networks = zoo.create("sagan", conditional=True, classes=3, **TINY)
    for name, x in {"generator": noise(2, 128), "discriminator": images(2)}.items():
        for i, v in enumerate(networks[name].variables):
            if v.name == "embeddings":
                v.assign(np.random.default_rng(i).normal(size=v.shape))
        made = [answer(networks[name], x, np.full(2, y, "int32")) for y in range(3)]
        assert all(abs(a - b).max() > 1e-4 for a, b in zip(made, made[1:]))
        networks[name].save(tmp_path / "network.keras")
        again = keras.saving.load_model(tmp_path / "network.keras")
        assert np.array_equal(answer(again, x, np.full(2, 2, "int32")), made[2])


def test_conditional_batch_norm_against_numpy():
    x, y = images(6), np.array([0, 1, 2, 2, 1, 0], "int32")
    inputs, label = keras.Input((32, 32, 3)), keras.Input((), dtype="int32")
    model = keras.Model([inputs, label], sagan.norm(inputs, "bn", label, classes=3))
    gamma, beta = (np.random.default_rng(i).normal(size=(3, 3)) for i in range(2))
    model.get_layer("bn_gamma").embeddings.assign(gamma)
    model.get_layer("bn_beta").embeddings.assign(beta)
    normal = (x - x.mean((0, 1, 2))) / np.sqrt(x.var((0, 1, 2)) + 1e-5)
    expected = normal * gamma[y][:, None, None] + beta[y][:, None, None]
    assert abs(np.asarray(model([x, y], training=True)) - expected).max() < 1e-4


def test_projection_adds_the_class_s_product_with_the_summed_features():
    networks = zoo.create("sagan", conditional=True, classes=3, **TINY)
    D, x, y = networks["discriminator"], images(2), np.array([2, 0], "int32")
    inner = keras.Model(D.input, [D.get_layer("last_out_relu").output, D.output])
    features, logit = (np.asarray(part) for part in inner([x, y], training=False))
    h = features.sum((1, 2))
    layer = D.get_layer("project")
    e = np.asarray(layer.normalised(layer.embeddings, training=False))[y]
    dense = D.get_layer("logit")
    plain = h @ np.asarray(dense.normalised(dense.kernel, training=False))
    expected = plain + (e * h).sum(1, keepdims=True)
    assert abs(logit - expected).max() < 1e-4 * abs(expected).max()
    assert abs(logit - plain).max() > 1e-3


@pytest.mark.parametrize("name", ["dcgan", "wgan"])
def test_self_attention_is_an_addition_that_starts_as_nothing(name):
    made = []
    for options in ({}, {"self_attention": False}, {"self_attention": True}):
        keras.utils.set_random_seed(0)
        made.append(zoo.create(name, **TINY, **options)["generator"])
    plain, off, on = made
    assert [v.path for v in plain.variables] == [v.path for v in off.variables]
    assert all(np.array_equal(a.numpy(), b.numpy()) for a, b in zip(plain.variables, off.variables))
    names = ("gamma", "query/kernel", "key/kernel", "value/kernel")
    more = {v.path for v in on.variables} - {v.path for v in plain.variables}
    assert more == {f"attention/{name}" for name in names}
    held = {v.path: v for v in on.variables}
    for v in plain.variables:
        held[v.path].assign(v)
    expected = answer(plain, noise(2))
    assert np.array_equal(answer(on, noise(2)), expected)
    assert on.get_layer("attention").input.shape == (None, 8, 8, 16)
    on.get_layer("attention").gamma.assign(1.0)
    assert abs(answer(on, noise(2)) - expected).max() > 1e-5
