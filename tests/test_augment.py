"""Training with few pictures: each transform against numbers made by hand, the penalty against a
closed form, what off means, replicas, resume, XLA and bfloat16."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from attention_zoo import UsageError, zoo
from attention_zoo.experiments import precision as ways
from attention_zoo.experiments.config import RunConfig
from attention_zoo.tests.helpers import drawn, gap, images, resumed, weights_of
from attention_zoo.tools.scale import make_training, set_epsilon
from attention_zoo.trainers import ata_gan, augment, base, dcgan, losses, ragan, sagan, wgan
from attention_zoo.zoo.layers import batch_norm, self_attention
from attention_zoo.zoo.layers.batch_norm import BatchNorm

ALL = "color,translation,cutout"
EVERY = ",".join(augment.TRANSFORMS)
ONE = tf.distribute.get_strategy()
KEY = (3, 4)


def make(cls, hp, model, **options):
    keras.utils.set_random_seed(0)
    options = {"image_size": 32, "width": 4, **options}
    return cls(zoo.create(model, **options), zoo.create(model, **options), hp, seed=3)


def numbers(*values):
    """Random numbers (B, 1, 1, 1) of a transform."""
    return tf.constant(values, tf.float32)[:, None, None, None]


def rows(x):
    """The first channel of the only image, as lists."""
    return np.asarray(x)[0, :, :, 0].tolist()


def test_colours_are_those_of_the_formulas():
    x = tf.constant([[[[0.0, 0.5, 1.0], [-1.0, 0.0, 1.0]]]] * 2)  # two images of 1 x 2 pixels
    a = numbers(0.75, 0.0)
    brighter = augment.brightness(x, a, None).numpy()
    assert brighter[0].tolist() == [[[0.25, 0.75, 1.25], [-0.75, 0.25, 1.25]]]
    assert brighter[1].tolist() == [[[-0.5, 0.0, 0.5], [-1.5, -0.5, 0.5]]]
    saturated = augment.saturation(x, a, None).numpy()
    assert saturated[0].tolist() == [[[-0.25, 0.5, 1.25], [-1.5, 0.0, 1.5]]]
    assert saturated[1].tolist() == [[[0.5] * 3, [0.0] * 3]]  # grey
    contrasted = augment.contrast(x, a, None).numpy()  # the mean of the image is 0.25
    assert contrasted[0].tolist() == [[[-0.0625, 0.5625, 1.1875], [-1.3125, -0.0625, 1.1875]]]
    assert contrasted[1].tolist() == [[[0.125, 0.375, 0.625], [-0.375, 0.125, 0.625]]]


@pytest.mark.parametrize(
    ("a", "b", "down", "right"),
    [(0.0, 0.5, -1, 0), (0.5, 0.99, 0, 1), (0.9, 0.1, 1, -1), (0.34, 0.34, 0, 0)],
)
def test_a_translation_moves_an_image_and_lets_zeros_in(a, b, down, right):
    x = 1 + np.arange(64, dtype="float32").reshape(1, 8, 8, 1)  # up to 8 / 8 pixels
    expected = np.zeros((10, 10), "float32")
    expected[1 + down : 9 + down, 1 + right : 9 + right] = x[0, :, :, 0]
    moved = augment.translation(tf.constant(x), numbers(a), numbers(b))
    assert rows(moved) == expected[1:-1, 1:-1].tolist()


def test_rotation_and_scale_reflect_the_image_at_its_edges():
    x = np.arange(2 * 5 * 5 * 3, dtype="float32").reshape(2, 5, 5, 3)
    turned = augment.rotation(x, numbers(0.25, 0.0), None).numpy()
    assert abs(turned - [np.rot90(x[0], -1), x[1]]).max() < 1e-4
    half = augment.turned(x, numbers(0, 0), numbers(0.5, 2)).numpy()
    line = [2, 0, 2, 4, 2]  # places -2, 0, 2, 4 and 6
    assert abs(half[0] - x[0][line][:, line]).max() < 1e-4
    assert rows(half[1:])[0] == [93.0, 94.5, 96.0, 97.5, 99.0]  # places 1, 1.5, 2, 2.5 and 3
    larger, same = augment.scale(x, numbers(0, 0.5), None).numpy()
    assert abs(same - x[1]).max() < 1e-4
    assert larger[2, 3, 0] == pytest.approx(x[0, 2, 2, 0] + 3 * 2**0.5, rel=1e-4)


@pytest.mark.parametrize(
    ("a", "b", "down", "right"),
    [
        (0.5, 0.0, slice(0, 2), slice(0, 1)),  # centres 2 of 0 ... 4, and 0: clipped to one column
        (0.3, 0.99, slice(0, 2), slice(3, 4)),
        (0.7, 0.5, slice(2, 4), slice(1, 3)),
    ],
)
def test_a_cutout_is_a_square_that_the_rim_clips(a, b, down, right):
    expected = np.ones((4, 4), "float32")
    expected[{0.5: slice(1, 3)}.get(a, down), right] = 0
    cut = augment.cutout(tf.ones((1, 4, 4, 1)), numbers(a), numbers(b))
    assert rows(cut) == expected.tolist()


def test_the_ranges_are_those_of_the_paper():
    """At 32 pixels: shifts of -4 to 4, squares of 16 with a centre in 0 to 32."""
    u = np.arange(0, 1, 1 / 4096, dtype="float32")
    assert set(augment.whole(numbers(*u), -4, 9).numpy()[:, 0]) == set(range(-4, 5))
    x = tf.ones((len(u), 32, 32, 1))
    shifted = augment.translation(x, numbers(*u), numbers(*(0 * u + 0.5))).numpy()
    assert {int(s) for s in shifted[:, :, 16, 0].sum(1)} == set(range(28, 33))
    cut = augment.cutout(x, numbers(*u), numbers(*(0 * u + 0.5))).numpy()
    assert {int(s) for s in 32 - cut[:, :, 16, 0].sum(1)} == set(range(8, 17))


def test_each_image_has_numbers_of_its_own_and_p_is_their_share():
    x = tf.ones((400, 4, 4, 3))
    one = augment.chosen("color")[:1]
    always, half, never = (augment.T(x, one, KEY, p).numpy()[:, 0, 0, 0] for p in (None, 0.5, 0.0))
    assert len(set(always.tolist())) > 390
    assert np.array_equal(never, np.ones(400))
    changed = half != 1
    assert 0.4 < changed.mean() < 0.6
    assert np.array_equal(half[changed], always[changed])
    twice = augment.chosen("color")
    assert len(twice) == 3 and augment.chosen("") == []
    assert augment.chosen("cutout,color") == [*twice, augment.cutout]


def test_gradients_flow_through_all_transforms():
    x = tf.constant(images(3, 8))
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = tf.reduce_sum(augment.T(x, augment.chosen("translation,cutout"), KEY) * 2)
    gradient = tape.gradient(y, x).numpy()
    seen = augment.T(1 + 0 * x, augment.chosen("translation,cutout"), KEY).numpy()
    assert set(np.unique(gradient)) == {0.0, 2.0}
    assert gradient.sum() == 2 * seen.sum() > 0
    direction = tf.constant(drawn(*x.shape, seed=5))
    whole = augment.chosen(EVERY)  # affine in x: a difference is a derivative
    difference = tf.reduce_sum(augment.T(x + direction, whole, KEY) - augment.T(x, whole, KEY))
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = tf.reduce_sum(augment.T(x, whole, KEY))
    along = tf.reduce_sum(tape.gradient(y, x) * direction)
    assert float(along) == pytest.approx(float(difference), rel=1e-3)


@pytest.mark.parametrize("p", [None, 0.5])
def test_xla_and_replicas_change_images_as_one_device_does(p, mirrored):
    x, transforms = tf.constant(images(6, 8)), augment.chosen(EVERY)
    one = augment.T(x, transforms, KEY, p).numpy()
    compiled = tf.function(lambda x: augment.T(x, transforms, KEY, p), jit_compile=True)
    assert gap([one], [compiled(x).numpy()]) < 1e-6

    def part():
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        return augment.T(x[replica * 3 :][:3], transforms, KEY, p)

    two = mirrored.experimental_local_results(mirrored.run(part))
    assert np.array_equal(one, np.concatenate([t.numpy() for t in two]))


def test_the_penalty_of_a_linear_network_is_half_its_squared_norm():
    hp = dcgan.HParams(r1=3.0, r1_every=1)
    trainer, x = make(dcgan.DCGAN, hp, "dcgan"), tf.constant(images(4))
    image = keras.Input((32, 32, 3))
    logit = keras.layers.Dense(1, use_bias=False)(keras.layers.Flatten()(image))
    trainer.discriminator = D = keras.Model(image, logit)  # grad D = w
    w = np.zeros((3072, 1), "float32")
    w[:4] = 1.5  # |w|^2 = 9
    D.layers[-1].kernel.assign(w)
    with tf.GradientTape() as tape:
        penalty = trainer.r1(x)
    assert float(penalty) == pytest.approx(3 / 2 * 9)
    assert gap([tape.gradient(penalty, D.layers[-1].kernel).numpy()], [3 * w]) < 1e-6
    gradient = tf.constant([[[3.0, 0.0], [4.0, 0.0]], [[0.0, 1.0], [0.0, 0.0]]])
    assert float(losses.r1(gradient=gradient)) == 0.5 * (25 + 1) / 2


def test_the_penalty_takes_batch_statistics_for_constants():
    """D(x) = w BN(v x): grad D = w v / s with the standard deviation s of v x, whatever v is."""
    hp = dcgan.HParams(r1=2.0, r1_every=1)
    trainer, x = make(dcgan.DCGAN, hp, "dcgan"), tf.constant(images(16, 1))
    image = keras.Input((1, 1, 3))
    conv = keras.layers.Conv2D(1, 1, use_bias=False)
    norm, dense = BatchNorm(epsilon=0.0), keras.layers.Dense(1, use_bias=False)
    trainer.discriminator = keras.Model(image, dense(keras.layers.Flatten()(norm(conv(image)))))
    v, w = np.float32([1.0, -2.0, 0.5]), 3.0
    conv.kernel.assign(v.reshape(1, 1, 3, 1))
    dense.kernel.assign([[w]])
    before = weights_of(norm)
    with tf.GradientTape() as tape:
        penalty = trainer.r1(x)
    deviation = (x.numpy()[:, 0, 0] @ v).std()
    assert float(penalty) == pytest.approx(w**2 * (v @ v) / deviation**2, rel=1e-4)
    by_v, by_w = (
        np.asarray(g).ravel() for g in tape.gradient(penalty, [conv.kernel, dense.kernel])
    )
    assert abs(by_v @ v) < 1e-4 * float(penalty) < abs(by_v).max()
    assert by_w[0] == pytest.approx(2 * float(penalty) / w, rel=1e-4)
    assert gap(before, weights_of(norm)) == 0


def test_constant_statistics_are_those_of_training(mirrored):
    x, layer = tf.constant(drawn(8, 2, 2, 3)), BatchNorm()
    layer.build(x.shape)
    layer.gamma.assign([1.0, 2.0, 3.0])
    usual = layer(x, training=True).numpy()
    with tf.GradientTape() as tape, batch_norm.constant_statistics(tape):
        penalised = layer(x).numpy()
    assert gap([usual], [penalised]) < 1e-5
    assert gap([layer(x).numpy()], [penalised]) > 0.1  # outside it the averages count again
    with mirrored.scope():
        layer = BatchNorm()
        layer.build(x.shape)
        layer.gamma.assign([1.0, 2.0, 3.0])

    def part():
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        with tf.GradientTape() as tape, batch_norm.constant_statistics(tape):
            return layer(x[4 * replica :][:4])

    two = mirrored.experimental_local_results(mirrored.run(part))
    assert gap([usual], [np.concatenate([t.numpy() for t in two])]) < 1e-5


TRAINERS = {
    "dcgan": (dcgan.DCGAN, dcgan.HParams, {}),
    "ragan": (ragan.RAGAN, ragan.HParams, {"encoder_width": 4}),
    "sagan": (sagan.SAGAN, sagan.HParams, {"attend_at": 8, "conditional": True, "classes": 3}),
    "ata_gan": (ata_gan.ATAGAN, ata_gan.HParams, {}),
    "wgan": (wgan.WGAN, wgan.HParams, {}),
    "wgan_gp": (wgan.WGANGP, wgan.PenaltyHParams, {"loss": "wgan_gp"}),
}
CRITICS = ("wgan", "wgan_gp")


def trainer_of(name, **hp):
    cls, make_hparams, options = TRAINERS[name]
    model = "wgan" if name in CRITICS else name
    hp |= {"n_critic": 2} if name in CRITICS else {}
    return make(cls, make_hparams(**hp), model, **options)


def batch_of(trainer, count=4):
    count *= trainer.batches_per_step
    return {"image": tf.constant(images(count)), "label": tf.range(count) % 3}


class Seen:
    """Stands for a network and records the images that it is called with."""

    def __init__(self, network):
        self.network, self.images = network, []

    def __getattr__(self, name):
        return getattr(self.network, name)

    def __call__(self, x, **options):
        self.images.append(tf.nest.flatten(x)[0])
        return self.network(x, **options)


@pytest.mark.parametrize("name", TRAINERS)
def test_the_discriminator_sees_augmented_images_and_the_generator_none(name, monkeypatch):
    trainer = trainer_of(name, augment="cutout", **({} if name in CRITICS else {"r1": 1.0}))
    made, keys, apply = [], set(), augment.T

    def T(x, transforms, key, p):
        made.append((x, apply(x, transforms, key, p)))
        keys.add(tuple(key.numpy()))
        return made[-1][1]

    monkeypatch.setattr(augment, "T", T)
    D = Seen(trainer.discriminator)
    object.__setattr__(trainer, "discriminator", D)
    batch = batch_of(trainer)
    if name == "ragan":  # X is the image as it is
        fake = trainer.fake
        object.__setattr__(trainer, "fake", lambda z, x: D.references.append(x) or fake(z, x))
        D.references = []
    if name == "ata_gan":
        trainer.networks["teacher"] = teacher = Seen(trainer.networks["teacher"])
    start = weights_of(trainer.generator)
    trainer.train_step(batch)
    assert gap(start, weights_of(trainer.generator)) > 0
    calls = {"wgan": 5, "wgan_gp": 5}.get(name, 3)
    assert len(made) == len(keys) == calls  # random numbers of its own for each call
    shown = {id(y) for _, y in made}
    others = [x for x in D.images if id(x) not in shown]
    assert len(others) == (2 if name == "wgan_gp" else 0)  # between real and fake, once a batch
    if name not in CRITICS:
        (real, seen), (still, _), (fake, _) = made
        assert real is batch["image"] and np.array_equal(still, fake)
        assert [x is seen for x in D.images] == [True, False, True, False]  # R_1 is the third
    if name == "ragan":
        assert [x is batch["image"] for x in D.references] == [True]
    if name == "ata_gan":
        assert [id(x) for x in teacher.images] == [id(y) for _, y in made[:2]]


@pytest.mark.parametrize("name", [n for n in TRAINERS if n not in CRITICS])
def test_the_penalty_joins_every_second_loss_and_changes_no_state(name):
    trainer = trainer_of(name, r1=5.0, r1_every=2)
    batch, totals, penalties = batch_of(trainer), [], []
    update, r1, D = trainer.update, trainer.r1, trainer.discriminator

    def noted_update(tape, loss, network, optimizer):
        if network is D:
            totals.append(float(loss))
        update(tape, loss, network, optimizer)

    def noted_r1(*inputs):
        before = weights_of(D)
        value = r1(*inputs)
        assert gap(before, weights_of(D)) == 0
        penalties.append(float(value))
        return value

    object.__setattr__(trainer, "update", noted_update)
    object.__setattr__(trainer, "r1", noted_r1)
    for step in range(2):
        logs = trainer.train_step(batch)
        total = float(logs["d_loss"] + logs.get("attention_loss", 0.0)) + penalties[step]
        assert totals[step] == pytest.approx(total, rel=1e-5)
    assert penalties[0] > 1e-5 and penalties[1] == 0
    assert [trainer.phase(step) for step in range(4)] == [True, False, True, False]


def test_a_step_behind_a_fit_has_its_own_phase(without_graphs):
    trainer = trainer_of("dcgan", r1=5.0, r1_every=2)
    trainer.fit(tf.data.Dataset.from_tensors({"image": images(4)}).repeat(2), verbose=0)
    assert float(trainer.r1(tf.constant(images(4)))) > 0  # that of step 2; step 1 had none


@pytest.mark.slow
def test_a_fit_is_the_steps_one_by_one_and_has_the_penalty_in_a_graph_of_its_own():
    hp = {"r1": 5.0, "r1_every": 3, "augment": ALL, "augment_target": 0.6}
    one, many = (trainer_of("dcgan", **hp) for _ in range(2))
    many.steps_per_execution = 4  # as many calls as graphs: steps 0, 1 to 2, 3; 4 to 5, 6, 7
    data = tf.data.Dataset.from_tensors({"image": images(4)}).repeat(8)
    for batch in data:
        one.train_step(batch)
    many.fit(data, verbose=0)
    for key, value in one.state().items():
        assert abs(many.state()[key].numpy() - value.numpy()).max() < 1e-4, key
    ops, compiled = {}, many.train_function.compiled
    for phase in (True, False):
        graph = compiled.get_concrete_function(iter(data), phase, tf.constant(1)).graph
        ops[phase] = [n.op for f in graph.as_graph_def().library.function for n in f.node_def]
    assert len(ops[True]) > len(ops[False]) + 100
    assert not {"If", "StatelessIf"} & {*ops[True], *ops[False]}
    assert compiled.experimental_get_tracing_count() == 2


def test_a_run_resumes_to_the_bit_with_p_in_its_state():
    def make():
        trainer = trainer_of("dcgan", augment=ALL, augment_target=0.6, r1=1.0, r1_every=4)
        trainer.p.assign(0.5)
        return trainer

    _, whole = resumed(make, [{"image": tf.constant(images(4, seed=i))} for i in range(5)])
    assert whole["augment_p"] != 0.5 and whole["augment_signs"] != 0
    assert not any("augment" in k for k in trainer_of("dcgan", augment=ALL).state())


def test_p_follows_the_signs_of_the_logits():
    """Each fourth step p moves by 4 B / 500,000, and stays within [0, 1]."""
    trainer = trainer_of("dcgan", augment=ALL, augment_target=0.5)
    logits = {1: [3.0, 1.0, 0.1, 9.0], 0.5: [1.0, 1.0, 1.0, -1.0], 0: [-1.0, 1.0, -2.0, 5.0]}
    found = []
    for step, r_t in enumerate((1, 1, 1, 1, 1, 0, 0, 0, 0.5, 0.5, 0.5, 0.5, 1, 1, 1, 0.5), 1):
        trainer.first.iterations.assign(step)
        logs = trainer.adapt(tf.constant(logits[r_t])[:, None])
        assert float(logs["r_t"]) == r_t
        assert float(logs["augment_p"]) == float(trainer.p)
        found.append(round(float(trainer.p) * 500_000 / 16))
    assert found == [0] * 3 + [1] * 4 + [0] * 8 + [1]  # r_t of four steps: 1, 1/4, 1/2, 7/8
    trainer.p.assign(0.99999)
    for step in range(17, 21):
        trainer.first.iterations.assign(step)
        trainer.adapt(tf.ones((4, 1)))
    assert float(trainer.p) == 1
    trainer.p.assign(0.25)
    assert float(trainer.signs) == 0
    x = tf.ones((200, 8, 8, 3))
    cut = augment.T(x, augment.chosen("cutout"), KEY, trainer.p).numpy()
    assert 0.15 < (cut.min((1, 2, 3)) == 0).mean() < 0.35


@pytest.mark.slow
def test_two_replicas_train_as_one(mirrored):
    flags = (f"--set=augment={ALL}", "--set=augment_target=0.6", "--set=r1=1", "--set=r1_every=2")
    found = []
    for strategy in (ONE, mirrored):
        trainer, data = make_training("dcgan", strategy, *flags)
        set_epsilon(trainer)
        trainer.p.assign(0.5)
        trainer.first.iterations.assign(2)  # steps 3 with the penalty, and 4, at which p moves
        batches = iter(data)
        for _ in range(2):
            logs = strategy.run(
                lambda x, trainer=trainer: base.mean_over_replicas(trainer.train_step(x)),
                args=(next(batches),),
            )
        copies = [strategy.experimental_local_results(v) for v in (trainer.p, trainer.signs)]
        assert all(len({float(v) for v in copy}) == 1 for copy in copies)
        logs = {k: float(strategy.experimental_local_results(v)[0]) for k, v in logs.items()}
        found.append((logs, {k: v.numpy() for k, v in trainer.state().items()}))
    (one, state), (two, other) = found
    assert one["augment_p"] != 0.5
    for loss, value in one.items():
        assert abs(value - two[loss]) < 1e-4 * max(1, abs(value)), loss
    for key, value in state.items():
        assert abs(value - other[key]).max() < 1e-4 * max(1, abs(value).max()), key


def derivatives(trainer, x):
    """The penalty of T(x), and the gradients of it and of D(T(x)) with respect to D's weights and
    to x."""
    weights = trainer.discriminator.trainable_variables[:-1]  # the bias has none in the penalty
    with tf.GradientTape() as tape:
        tape.watch(x)
        seen = trainer.augmented(x, 0)
        penalty = trainer.r1(seen)
        loss = tf.reduce_sum(trainer.discriminator(seen, training=False)) + penalty
    return [penalty, seen, *map(tf.convert_to_tensor, tape.gradient(loss, [x, *weights]))]


@pytest.mark.slow
def test_xla_compiles_all_derivatives():
    trainer = trainer_of("dcgan", augment=ALL, r1=1.0, r1_every=1)
    x = tf.constant(images(4))
    compiled = tf.function(lambda x: derivatives(trainer, x), jit_compile=True, autograph=False)
    for plain, fast in zip(derivatives(trainer, x), compiled(x), strict=True):
        assert gap([plain.numpy()], [fast.numpy()]) < 1e-3 * max(1e-2, abs(plain.numpy()).max())


@pytest.mark.skipif(not ways.INSTRUCTIONS & ways.instructions(), reason="no bfloat16 here")
def test_images_and_penalty_stay_float32_in_bfloat16():
    trainer = trainer_of("dcgan", augment=ALL, r1=1.0, r1_every=1)
    x = tf.constant(images(4))
    half = base.in_bfloat16(tf.function(lambda x: derivatives(trainer, x), autograph=False))(x)
    plain = derivatives(trainer, x)
    assert gap([plain[1].numpy()], [half[1].numpy()]) < 1e-6
    assert float(half[0]) == pytest.approx(float(plain[0]), rel=0.05)
    assert float(half[0]) != float(tf.cast(half[0], tf.bfloat16))
    for exact, rounded in zip(plain[2:], half[2:], strict=True):
        assert rounded.dtype == "float32"
        assert gap([exact.numpy()], [rounded.numpy()]) < 0.2 * abs(exact.numpy()).max()


@pytest.mark.parametrize("name", ["dcgan", "sagan"])
def test_the_penalty_has_the_precision_of_the_weights(name):
    """Under a policy of half precision too, also that of the convolutions of self-attention."""
    found = {}
    for policy in ("float32", "mixed_bfloat16"):
        keras.config.set_dtype_policy(policy)
        try:
            trainer = trainer_of(name, r1=1.0, r1_every=1)
        finally:
            keras.config.set_dtype_policy("float32")
        x, y = batch_of(trainer).values()
        if name == "sagan":
            trainer.discriminator.get_layer("attention").gamma.assign(2.0)
        found[policy] = float(trainer.r1(x, y if name == "sagan" else None))
    assert found["mixed_bfloat16"] == pytest.approx(found["float32"], rel=1e-4)


def test_the_penalty_goes_with_self_attention_by_blocks(monkeypatch):
    trainer = trainer_of("sagan", r1=1.0, r1_every=1)
    attention, found = trainer.discriminator.get_layer("attention"), []
    attention.gamma.assign(2.0)
    x, y = batch_of(trainer).values()
    for entries in (self_attention.BLOCK, 2**10):  # the map has 2^12
        monkeypatch.setattr(self_attention, "BLOCK", entries)
        with tf.GradientTape() as tape:
            penalty = trainer.r1(x, y)
        found.append(tape.gradient(penalty, attention.query.kernel.value).numpy())
    assert gap(found[:1], found[1:]) < 1e-3 * abs(found[0]).max()


def test_replicas_enter_full_precision_together(mirrored):
    """Both have the penalty of one device, and the layers have their policy again."""
    x = tf.constant(images(4))
    expected = float(trainer_of("dcgan", r1=1.0, r1_every=1).r1(x))
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        with mirrored.scope():
            trainer = trainer_of("dcgan", r1=1.0, r1_every=1)
    finally:
        keras.config.set_dtype_policy("float32")
    found = mirrored.run(lambda: trainer.r1(x))
    for penalty in mirrored.experimental_local_results(found):
        assert float(penalty) == pytest.approx(expected, rel=1e-4)
    *inner, _ = (layer.dtype_policy.name for layer in trainer.discriminator.layers)
    assert set(inner) == {"mixed_bfloat16"}


@pytest.mark.parametrize(
    ("model", "settings", "message"),
    [
        ("dcgan", {"augment": "colour"}, f"words of {EVERY}, .* not 'colour'"),
        ("sagan", {"augment": "color,"}, "not ''"),
        ("ragan", {"r1": -1.0}, r"r1 must lie in \[0, inf\], not -1.0"),
        ("ata_gan", {"r1_every": 0}, "r1_every must lie in"),
        ("dcgan", {"augment_target": 0.6}, "augment_target needs augment, such as augment=color"),
        ("wgan", {"r1": 1.0}, "r1 does not go with a Wasserstein loss"),
        ("wgan", {"r1": 1.0, "loss": "wgan_gp"}, "leave r1 out"),
        ("ragan", {"loss": "wgan", "augment": ALL, "augment_target": 0.6}, "leave augment_target"),
        ("cyclegan", {"augment": ALL}, "there are"),
    ],
)
def test_what_makes_no_sense_is_refused(model, settings, message):
    data = "creatures/plain2striped" if model == "cyclegan" else "creatures"
    with pytest.raises(UsageError, match=message):
        RunConfig.resolve(model, data, settings=settings)
    config = RunConfig.resolve("ragan", settings={"augment": ALL, "loss": "wgan"})
    assert config.hparams["augment"] == ALL and config.hparams["r1"] == 0
