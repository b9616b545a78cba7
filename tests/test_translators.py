"""CycleGAN and AttentionGAN: networks, losses, one step of training, the pool, the bridge."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from attention_zoo import zoo
from attention_zoo.tests.helpers import Descends, gap, resumed, shaken, shared, weights_of
from attention_zoo.tests.torch_layers import convolved, enlarged, normal, rectified, reflected
from attention_zoo.trainers import attention_gan as training
from attention_zoo.trainers import cyclegan as cycle_training
from attention_zoo.trainers import losses
from attention_zoo.zoo import attention_gan, bridge, cyclegan, weights

TINY = {"image_size": 24, "width": 2, "blocks": 1}
GUIDED = {**TINY, "masks": 3, "attention_discriminators": True}


def drawn(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def pictures(count, high=24, wide=24, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (count, high, wide, 3)).astype("float32")


def answer(network, x):
    return {k: np.asarray(v) for k, v in network(x, training=False).items()}


class Descent(Descends, training.AttentionGAN):
    pass


class PlainDescent(Descends, cycle_training.CycleGAN):
    pass


def make(cls=training.AttentionGAN, hp=None):
    keras.utils.set_random_seed(0)
    guided = issubclass(cls, training.AttentionGAN)
    pair = [attention_gan.build(**GUIDED) if guided else cyclegan.build(**TINY) for _ in range(2)]
    return cls(*pair, hp or training.HParams(), seed=3)


@pytest.fixture(scope="module")
def trainer():
    """One whose hp the tests exchange, and whose weights they leave."""
    made = make()
    for seed, network in enumerate(made.networks.values()):
        shaken(network, seed)
    made.update_average()
    return made


# networks


def test_counts_at_the_papers_setting():
    assert cyclegan.generator(64, 9, "g").count_params() == 11_378_179
    assert attention_gan.generator(2, 64, 9, 10, "g").count_params() == 11_822_949
    assert attention_gan.generator(1, 64, 9, 10, "g").count_params() == 11_378_179 + 49 * 64 + 1
    assert cyclegan.discriminator(256, 64, "d").count_params() == 2_764_737
    guided = cyclegan.discriminator(256, 64, "d", 4)
    assert guided.count_params() == 2_764_737 + 16 * 64
    assert guided.output_shape == (None, 30, 30, 1)


def test_fusion_against_a_loop():
    image, contents = drawn(2, 3, 4, 3), drawn(2, 3, 4, 5, 3, seed=1)
    foreground, background = drawn(2, 3, 4, 5, seed=2), drawn(2, 3, 4, 1, seed=3)
    fused = np.asarray(attention_gan.fuse(image, foreground, background, contents))
    for b, h, w, c in np.ndindex(2, 3, 4, 3):
        expected = image[b, h, w, c] * background[b, h, w, 0]
        for i in range(5):
            expected += contents[b, h, w, i, c] * foreground[b, h, w, i]
        assert abs(fused[b, h, w, c] - expected) < 1e-5


@pytest.mark.parametrize(("scheme", "masks", "contents"), [(1, 1, 1), (2, 4, 3)])
def test_the_schemes(scheme, masks, contents, tmp_path):
    network = shaken(attention_gan.generator(scheme, 2, 1, 4, "a2b"))
    x = pictures(3, 24, 36)
    made = answer(network, x)
    assert made["translated"].shape == (3, 24, 36, 3)
    assert made["masks"].shape == (3, 24, 36, masks)
    assert made["contents"].shape == (3, 24, 36, contents, 3)
    assert 0 <= made["masks"].min() < 0.1 and 0.9 < made["masks"].max() <= 1
    assert -1 <= made["contents"].min() < -0.5 and 0.5 < made["contents"].max() <= 1
    foreground = made["masks"][..., :contents]
    if scheme == 2:
        assert abs(made["masks"].sum(-1) - 1).max() < 1e-5
    background = 1 - foreground.sum(-1, keepdims=True)
    expected = x * background
    for i in range(contents):
        expected += made["contents"][..., i, :] * foreground[..., i : i + 1]
    assert abs(made["translated"] - expected).max() < 1e-5
    alone = answer(network, x[1:2])
    assert all(abs(alone[k][0] - made[k][1]).max() < 1e-4 for k in made)
    network.save(tmp_path / "network.keras")
    again = answer(keras.saving.load_model(tmp_path / "network.keras"), x)
    assert all(np.array_equal(again[k], made[k]) for k in made)


def test_every_option_changes_the_networks():
    def shapes(**options):
        networks = attention_gan.build(**{**TINY, "masks": 3, **options})
        return {k: {v.path: tuple(v.shape) for v in m.variables} for k, m in networks.items()}

    usual = shapes()
    assert usual["b2a"] == usual["a2b"]
    assert usual["a2b"]["content/kernel"] == (7, 7, 2, 6)
    assert usual["a2b"]["mask/kernel"] == (1, 1, 2, 3)
    assert shapes(width=3)["a2b"]["stem/kernel"] == (7, 7, 3, 3)
    assert "block1_2/kernel" in shapes(blocks=2)["a2b"]
    assert shapes(masks=5)["a2b"]["mask/kernel"] == (1, 1, 2, 5)
    assert shapes(scheme=1)["a2b"]["head/kernel"] == (7, 7, 2, 4)
    more = shapes(attention_discriminators=True)
    assert more["attention_discriminator_b"]["down1/kernel"] == (4, 4, 4, 2)
    assert more.keys() - usual.keys() == {f"attention_discriminator_{side}" for side in "ab"}
    assert cyclegan.build(image_size=32, width=2, blocks=1)["discriminator_a"].output_shape[1] == 2


@pytest.mark.parametrize(
    ("option", "value"),
    [("image_size", 20), ("image_size", 30), ("width", 0), ("blocks", 0), ("scheme", 3)]
    + [("masks", 1)],
)
def test_options_without_meaning_are_refused(option, value):
    with pytest.raises(ValueError, match=f"{option}.* must be"):
        attention_gan.build(**{**TINY, option: value})


def test_a_guided_discriminator_sees_the_mask():
    D = shaken(cyclegan.discriminator(24, 2, "d", 4))
    x, mask = pictures(2), np.random.default_rng(1).uniform(size=(2, 24, 24, 1))
    empty, full = (np.asarray(D(np.concatenate([m, x], -1))) for m in (0 * mask, mask))
    assert empty.shape == (2, 1, 1, 1)
    assert abs(empty - full).min() > 1e-3


# losses


def test_least_squares_by_hand():
    real, fake = np.array([[2.0], [0.0]]), np.array([[1.0], [-2.0]])
    # (1 + 1) / 2 and (1 + 4) / 2, half of each; (0 + 9) / 2
    assert float(losses.least_squares_discriminator(real=real, fake=fake)) == 0.5 + 1.25
    assert float(losses.least_squares_generator(fake=fake)) == 4.5


@pytest.mark.parametrize(
    ("loss", "other"),
    [(losses.cycle, "again"), (losses.identity, "translated"), (losses.pixel, "translated")],
)
def test_the_distances_are_means_of_differences(loss, other):
    image = np.array([[[[0.0, 1.0, -1.0]]], [[[0.5, 0.5, 0.5]]]])
    moved = np.array([[[[1.0, 1.0, 1.0]]], [[[0.5, 0.0, 0.5]]]])
    assert float(loss(image=image, **{other: moved})) == (1 + 0 + 2 + 0 + 0.5 + 0) / 6


def test_total_variation_by_hand():
    assert float(losses.total_variation(masks=np.full((2, 4, 5, 3), 0.7))) == 0
    step = np.zeros((1, 4, 5, 2))
    step[:, 1:, :, 0] = 1  # one edge along 5 columns
    step[:, :, 2:, 1] = 0.5  # half an edge along 4 rows
    assert float(losses.total_variation(masks=step)) == 5 + 2
    pair = np.concatenate([step, 0 * step])
    assert float(losses.total_variation(masks=pair)) == 3.5


TERMS = {"gan": 2.0, "attention_gan": 3.0, "cycle": 5.0, "pixel": 7.0, "tv": 11.0, "identity": 13.0}
WEIGHTS = {"lambda_gan": 2.0, "lambda_cycle": 3.0, "lambda_pixel": 5.0, "lambda_tv": 7.0}


@pytest.mark.parametrize(
    ("r", "total"), [(0.0, 2 * 5 + 7 * 11), (1.0, 3 * 5 + 5 * 7 + 13), (0.25, 65.25 + 15.75)]
)
def test_the_slides_objective(trainer, r, total):
    trainer.hp = training.HParams(r=r, lambda_identity=1.0, **WEIGHTS)
    assert float(trainer.objective(TERMS)) == pytest.approx(total, rel=1e-6)


def test_the_curriculum_and_the_rate(trainer):
    trainer.hp = training.HParams(r=0.5, r_first=0.125, r_share=0.25, decay_steps=8)
    found = []
    for step in (0, 1, 2, 3):
        trainer.first.iterations.assign(step)
        found.append(float(trainer.curriculum()))
    trainer.first.iterations.assign(0)
    assert found == [0.125, 0.125, 0.5, 0.5]
    rate = cycle_training.LinearDecay(2.0, 8, 0.5)
    assert [float(rate(t)) for t in (0, 3, 4, 6, 8, 9)] == [2.0, 2.0, 2.0, 1.0, 0.0, 0.0]
    assert [float(cycle_training.LinearDecay(2.0, 8, 1.0)(t)) for t in (0, 7)] == [2.0, 2.0]
    hp = cycle_training.HParams(decay_steps=8, pool=0)
    plain = make(cycle_training.CycleGAN, hp)
    plain.first.iterations.assign(6)
    assert float(plain.first.learning_rate) == pytest.approx(1e-4)
    assert float(plain.objective(TERMS)) == 2 + 10 * 5


def test_official_is_half_of_the_code_s_objective(trainer):
    trainer.hp = training.OfficialHParams(decay_steps=100)
    terms = {k: v for k, v in TERMS.items() if k != "attention_gan"}
    assert float(trainer.objective(terms)) == (2 + 10 * 5 + 5 * 13) / 2


@pytest.mark.parametrize(
    "wrong",
    [{"adversarial": "hinge"}, {"lambda_tv": -1.0}, {"r": 1.5}, {"pool": -1}, {"decay_from": 2.0}],
)
def test_hyper_parameters_are_checked(wrong):
    with pytest.raises(ValueError, match=f"{[*wrong][0]} (must|takes)"):
        training.HParams(**wrong)


# training


def test_crops_are_windows_drawn_by_the_key():
    x = np.arange(2 * 10 * 12, dtype="float32").reshape(2, 10, 12, 1) * np.ones(3, "float32")
    seen, mirrored = set(), 0
    for i in range(48):
        made = cycle_training.crop(x, 8, True, (0, i)).numpy()
        assert np.array_equal(made, cycle_training.crop(x, 8, True, (0, i)))
        for b in range(2):
            flip = made[b, 0, 0, 0] > made[b, 0, 1, 0]
            window = made[b, :, ::-1] if flip else made[b]
            row, column = divmod(int(window[0, 0, 0]) - 120 * b, 12)
            assert np.array_equal(window, x[b, row : row + 8, column : column + 8])
            seen.add((row, column, bool(flip)))
            mirrored += flip
    rows, columns, flips = ({place[i] for place in seen} for i in range(3))
    assert rows == {0, 1, 2} and columns == {0, 1, 2, 3, 4} and flips == {False, True}
    assert 32 < mirrored < 64  # of 96
    assert {(row, flip) for row, _, flip in seen} == set(itertools.product(rows, flips))
    assert {(column, flip) for _, column, flip in seen} == set(itertools.product(columns, flips))
    assert {(row, column) for row, column, _ in seen} == set(itertools.product(rows, columns))
    assert np.array_equal(cycle_training.crop(x[:, :, :10], 10, False, (0, 1)), x[:, :, :10])


def test_each_domain_and_minibatch_has_crops_of_its_own(monkeypatch, trainer):
    monkeypatch.setattr(type(trainer), "batches_per_step", 2)
    x = np.tile(pictures(1, 40, 40), (8, 1, 1, 1))
    drawn = [y for pair in trainer.minibatches({"image_a": x, "image_b": x}) for y in pair]
    assert [y.shape for y in drawn] == [(4, 24, 24, 3)] * 4
    assert all(abs(a - b).numpy().max() > 0.1 for a, b in itertools.combinations(drawn, 2))


def test_the_pool_keeps_cyclegan_s_rule():
    trainer = make(cycle_training.CycleGAN, cycle_training.HParams(pool=4))
    kept, swapped = [], 0
    for step in range(12):
        trainer.first.iterations.assign(step)
        numbers = [3 * step + i for i in range(3)]
        images = np.full((3, 24, 24, 3), np.reshape(numbers, (3, 1, 1, 1)), "float32")
        place, coin = np.asarray(tf.random.stateless_uniform((2, 3), trainer.key(3, shared=True)))
        expected = []
        for i, number in enumerate(numbers):
            expected.append(number)
            if len(kept) < 4:
                kept.append(number)
            elif coin[i] < 0.5:
                slot = int(place[i] * 4)
                expected[-1], kept[slot] = kept[slot], number
                swapped += 1
        found = trainer.from_history_buffer("discriminator_b", tf.constant(images)).numpy()
        assert found[:, 0, 0, 0].tolist() == expected
        assert np.ptp(found, axis=(1, 2, 3)).max() == 0
        assert np.asarray(trainer.pools["discriminator_b"])[: len(kept), 5, 7, 1].tolist() == kept
    assert kept == [27, 25, 34, 24]
    assert 8 < swapped < 24
    assert not np.asarray(trainer.pools["discriminator_a"]).any()


def test_each_discriminator_sees_its_side_and_the_mask(trainer):
    x, y = pictures(2), pictures(2, seed=1)
    to_y, to_x = (trainer.networks[k](z) for k, z in (("a2b", x), ("b2a", y)))
    found = trainer.discriminator_pairs(x, y, to_x, to_y)
    for side, real, made in (("a", x, to_x), ("b", y, to_y)):
        fake = made["translated"].numpy()
        A = made["masks"].numpy()[..., :2].sum(-1, keepdims=True)
        assert np.ptp(A) > 0.1
        assert np.array_equal(found[f"discriminator_{side}"][0], real)
        assert np.array_equal(found[f"discriminator_{side}"][1], fake)
        for seen, image in zip(found[f"attention_discriminator_{side}"], (real, fake)):
            assert abs(seen - np.concatenate([A, image], -1)).numpy().max() < 1e-6


def test_a_real_picture_is_seen_with_its_own_mask():
    trainer = make(hp=training.HParams(own_attention=True))
    for seed, network in enumerate(trainer.networks.values()):
        shaken(network, seed)
    x, y = pictures(2), pictures(2, seed=1)
    to_y, to_x = (trainer.networks[k](z) for k, z in (("a2b", x), ("b2a", y)))
    found = trainer.discriminator_pairs(x, y, to_x, to_y)
    for side, real, own, made in (("a", x, to_y, to_x), ("b", y, to_x, to_y)):
        pairs = ((own, real), (made, made["translated"].numpy()))
        for seen, (outputs, image) in zip(found[f"attention_discriminator_{side}"], pairs):
            A = outputs["masks"].numpy()[..., :2].sum(-1, keepdims=True)
            assert abs(seen - np.concatenate([A, image], -1)).numpy().max() < 1e-6
    with pytest.raises(ValueError, match="needs attention_discriminators=true"):
        plain = attention_gan.build(**TINY, masks=3)
        training.AttentionGAN(plain, plain, training.HParams(own_attention=True), seed=3)


def test_the_attention_s_saturation_is_told(trainer):
    masks = np.full((1, 2, 2, 3), 0.3, "float32")
    masks[0, 0] = [[0.01, 0.02, 0.97], [0.5, 0.47, 0.03]]
    made = {"masks": tf.constant(masks), "contents": tf.zeros((1, 2, 2, 2, 3))}
    told = {k: float(v) for k, v in trainer.extra_logs(made, made).items()}
    assert told["mask_low"] == told["mask_high"] == 0.25
    assert told["mask_mean"] == pytest.approx((0.03 + 0.97 + 0.6 + 0.6) / 4)


def absolute(a, b):
    return tf.reduce_mean(tf.abs(a - b))


def variation(m):
    rows, columns = m[:, 1:] - m[:, :-1], m[:, :, 1:] - m[:, :, :-1]
    return (tf.reduce_sum(tf.abs(rows)) + tf.reduce_sum(tf.abs(columns))) / len(m)


def test_a_step_is_the_slides():
    hp = training.HParams(r=0.3, flip=False, lambda_identity=2.0, lambda_tv=1e-3)
    ours, plain = (make(Descent, hp) for _ in range(2))
    x, y = pictures(2), pictures(2, seed=1)
    G, F = plain.networks["a2b"], plain.networks["b2a"]
    D = {k: m for k, m in plain.networks.items() if "discriminator" in k}
    sums = {k: 0.0 for k in ("gan", "attention_gan", "cycle", "pixel", "tv", "identity")}
    seen = {}
    with tf.GradientTape() as tape:
        for side, there, back, image, target in (("b", G, F, x, y), ("a", F, G, y, x)):
            made = there(image)
            fake, A = made["translated"], 1 - made["masks"][..., -1:]
            seen[f"discriminator_{side}"] = target, fake
            guided = tf.concat([A, target], -1), tf.concat([A, fake], -1)
            seen[f"attention_discriminator_{side}"] = guided
            for kind in ("discriminator", "attention_discriminator"):
                judged = D[f"{kind}_{side}"](seen[f"{kind}_{side}"][1])
                term = "gan" if kind == "discriminator" else "attention_gan"
                sums[term] += tf.reduce_mean(tf.math.softplus(-judged))  # -log D
            sums["cycle"] += absolute(back(fake)["translated"], image)
            sums["identity"] += absolute(there(target)["translated"], target)
            sums["pixel"] += absolute(fake, image)
            sums["tv"] += variation(made["masks"])
        loss = 0.3 * (10 * sums["cycle"] + 2 * sums["identity"] + sums["pixel"])
        loss += 0.7 * (0.5 * (sums["gan"] + sums["attention_gan"]) + 1e-3 * sums["tv"])
    expected, players = {}, [G, F]
    found = tape.gradient(loss, [m.trainable_variables for m in players])
    for name, network, gradients in zip(("a2b", "b2a"), players, found):
        expected[name] = [v - 0.1 * g for v, g in zip(network.trainable_variables, gradients)]
    for name, network in D.items():
        with tf.GradientTape() as tape:
            real, fake = (network(tf.stop_gradient(z)) for z in seen[name])
            loss = tf.reduce_mean(tf.math.softplus(-real)) + tf.reduce_mean(tf.math.softplus(fake))
        own = network.trainable_variables
        expected[name] = [v - 0.1 * g for v, g in zip(own, tape.gradient(loss, own))]
        sums[name] = loss
    before = {k: weights_of(m) for k, m in ours.networks.items()}
    logs = ours.train_step({"image_a": tf.constant(x), "image_b": tf.constant(y)})
    assert {"r", "mask_mean", "mask_low", "mask_high"} == logs.keys() - sums.keys()
    for name, value in sums.items():
        assert float(logs[name]) == pytest.approx(float(value), rel=1e-4), name
    for name, network in ours.networks.items():
        moved = gap(before[name], weights_of(network))
        assert moved > 1e-5
        assert gap(weights_of(network), [np.asarray(w) for w in expected[name]]) < 1e-3 * moved, (
            name
        )
        if name in ours.ema_networks:
            assert gap(weights_of(network), weights_of(ours.ema_networks[name])) == 0
    assert int(ours.step) == 1


def test_state_is_all_that_a_resume_needs():
    hp = training.HParams(pool=2, decay_steps=4, ema_decay=0.9)
    batches = [
        {f"image_{k}": pictures(2, 28, 26, seed=2 * i + (k == "b")) for k in "ab"} for i in range(4)
    ]

    _, whole = resumed(lambda: make(hp=hp), batches)
    assert {k.split("/")[0] for k in whole} >= {"pool", "average", "a2b", "b2a", "a2b_optimizer"}
    assert whole["pool/attention_discriminator_a"].shape == (2, 24, 24, 4)
    for name in ("a2b", "b2a"):  # both have an average
        moved = abs(whole[f"average/{name}/stem/kernel"] - whole[f"{name}/stem/kernel"])
        assert 1e-6 < moved.max() < 0.1


def test_two_replicas_take_the_steps_of_one(mirrored):
    hp, found = cycle_training.HParams(pool=3, flip=False), []
    x, y = pictures(4), pictures(4, seed=1)
    for strategy in (tf.distribute.get_strategy(), mirrored):
        with strategy.scope():
            trainer = make(PlainDescent, hp)
        start = {k: v.numpy() for k, v in trainer.state().items()}
        batch = shared(strategy, {"image_a": x, "image_b": y})
        for _ in range(2):
            strategy.run(trainer.train_step, args=(batch,))
        found.append({k: v.numpy() for k, v in trainer.state().items() if "iter" not in k})
    one, two = found
    moved = max(abs(one[k] - start[k]).max() for k in one if "pool" not in k)
    assert moved > 1e-3
    for name, value in one.items():
        assert abs(value - two[name]).max() < 0.01 * (1 if "pool" in name else moved), name
    copies = mirrored.experimental_local_results(trainer.pools["discriminator_a"])
    assert np.array_equal(*(v.numpy() for v in copies))


def test_translation_is_the_averaged_generator_s(trainer):
    a, b = pictures(2, 16, 20), pictures(3, seed=1)
    made = trainer.translate(a, "a2b")
    expected = answer(trainer.networks["a2b"], a)
    assert made.keys() == expected.keys() == {"translated", "masks", "contents"}
    assert max(abs(made[k] - expected[k]).max() for k in made) < 1e-4
    assert abs(trainer.translate(a, "b2a")["translated"] - made["translated"]).max() > 1e-2
    shown = trainer.preview(a, b)
    assert shown["a2b"]["image"] is a and shown["b2a"]["masks"].shape == (3, 24, 24, 3)
    back = answer(trainer.networks["b2a"], made["translated"])["translated"]
    assert abs(shown["a2b"]["again"] - back).max() < 1e-3
    for side in (18, 4):
        with pytest.raises(ValueError, match="multiples of 4 from 8"):
            trainer.translate(pictures(1, 16, side), "a2b")


# the bridge


def encoded(x, state, names, blocks):
    """x (3, H, W) -> features, by PyTorch's names of the first three layers and of the blocks'."""
    x = rectified(convolved(reflected(x, 3), state, names[0]))
    for name in names[1:]:
        x = rectified(convolved(x, state, name, 2, 1))
    for first, second in blocks:
        y = rectified(convolved(reflected(x, 1), state, first))
        x = x + normal(convolved(reflected(y, 1), state, second))
    return x


def random_state(shapes):
    rng = np.random.default_rng(0)
    state = {}
    for name, (shape, out) in shapes.items():
        state[f"{name}.weight"] = rng.normal(0, 0.3, shape).astype("float32")
        state[f"{name}.bias"] = rng.normal(0, 0.3, out).astype("float32")
    return state


def conv(out, inputs, side):
    return (out, inputs, side, side), out


def transposed(inputs, out):
    return (inputs, out, 3, 3), out


def test_cyclegan_s_checkpoints_give_their_pictures():
    blocks = [(f"model.{i}.conv_block.1", f"model.{i}.conv_block.5") for i in (10, 11)]
    state = random_state(
        {"model.1": conv(3, 3, 7), "model.4": conv(6, 3, 3), "model.7": conv(12, 6, 3)}
        | {name: conv(12, 12, 3) for pair in blocks for name in pair}
        | {"model.12": transposed(12, 6), "model.15": transposed(6, 3), "model.19": conv(3, 3, 7)}
    )
    old = state | {f"model.2.running_{k}": np.ones(3) for k in ("mean", "var")}
    options = bridge.options("cyclegan", old)
    assert options == {"image_size": 256, "width": 3, "blocks": 2}
    network = cyclegan.build(**options)["a2b"]
    weights.fill(network, bridge.convert("cyclegan", old, network), "arrays")
    x = pictures(1, 12, 16)
    y = encoded(x[0].transpose(2, 0, 1), state, ("model.1", "model.4", "model.7"), blocks)
    y = rectified(enlarged(rectified(enlarged(y, state, "model.12")), state, "model.15"))
    expected = np.tanh(convolved(reflected(y, 3), state, "model.19")).transpose(1, 2, 0)
    assert expected.std() > 0.1
    assert abs(answer(network, x)["translated"][0] - expected).max() < 1e-4

    dropout = {k.replace("conv_block.5", "conv_block.6"): v for k, v in state.items()}
    other = cyclegan.build(**bridge.options("cyclegan", dropout))["a2b"]
    weights.fill(other, bridge.convert("cyclegan", dropout, other), "arrays")
    assert gap(weights_of(other), weights_of(network)) == 0

    del state["model.4.weight"]
    with pytest.raises(zoo.WeightsError, match=r"lacks model.4.weight \(our down1/kernel\)$"):
        bridge.convert("cyclegan", state, network)
    nine = [f"model.{i}.conv_block.1.weight" for i in range(10, 19)]
    names = bridge.LAYOUTS["cyclegan"](dict.fromkeys(nine)).names
    assert [names[k] for k in ("up1", "up2", "to_rgb")] == ["model.19", "model.22", "model.26"]
    assert names["block8_2"] == "model.18.conv_block.5"


@pytest.mark.parametrize(
    ("name", "module"), [("cyclegan", "model.2"), ("attention_gan", "conv1_norm")]
)
def test_batch_normalised_checkpoints_are_refused_by_that_name(name, module):
    both = {f"{module}.{leaf}": np.ones(4) for leaf in ("weight", "bias", "running_mean")}
    with pytest.raises(zoo.WeightsError, match=f"a batch-normalised .* {name}, .*: take"):
        bridge.options(name, both)
    bridge.options(name, {f"{module}.running_mean": np.ones(4)})  # of instance normalisation


def test_attention_gan_s_checkpoints_give_their_pictures():
    blocks = [(f"resnet_blocks.{i}.conv1", f"resnet_blocks.{i}.conv2") for i in (0, 1)]
    heads = {"content": conv(9, 3, 7), "attention": conv(4, 3, 1)}
    state = random_state(
        {"conv1": conv(3, 3, 7), "conv2": conv(6, 3, 3), "conv3": conv(12, 6, 3)}
        | {name: conv(12, 12, 3) for pair in blocks for name in pair}
        | {f"deconv1_{kind}": transposed(12, 6) for kind in heads}
        | {f"deconv2_{kind}": transposed(6, 3) for kind in heads}
        | {f"deconv3_{kind}": shape for kind, shape in heads.items()}
    )
    options = bridge.options("attention_gan", state)
    assert options == {"image_size": 256, "width": 3, "blocks": 2, "masks": 4}
    network = attention_gan.build(**options)["a2b"]
    weights.fill(network, bridge.convert("attention_gan", state, network), "arrays")
    x = pictures(1, 12, 16)
    image = x[0].transpose(2, 0, 1)
    y = encoded(image, state, ("conv1", "conv2", "conv3"), blocks)
    content, attention = (
        rectified(enlarged(rectified(enlarged(y, state, f"deconv1_{k}")), state, f"deconv2_{k}"))
        for k in heads
    )
    content = np.tanh(convolved(reflected(content, 3), state, "deconv3_content"))
    attention = np.exp(convolved(attention, state, "deconv3_attention"))
    attention /= attention.sum(0)
    expected = image * attention[3]
    for i in range(3):
        expected = expected + content[3 * i : 3 * i + 3] * attention[i]
    made = answer(network, x)
    assert abs(made["masks"][0] - attention.transpose(1, 2, 0)).max() < 1e-4
    assert abs(made["contents"][0, :, :, 1] - content[3:6].transpose(1, 2, 0)).max() < 1e-4
    assert abs(made["translated"][0] - expected.transpose(1, 2, 0)).max() < 1e-4
    assert attention.std() > 0.1
