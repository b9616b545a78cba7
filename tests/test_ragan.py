"""What RAGAN's Letter leaves open: X, a bottleneck in E, lambda's rate, dropout of regions."""

import dataclasses
import itertools
import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from attention_zoo import zoo
from attention_zoo.common.errors import UsageError
from attention_zoo.experiments import precision as ways
from attention_zoo.experiments import run_directory as run
from attention_zoo.experiments.config import RunConfig
from attention_zoo.studies import comparison
from attention_zoo.studies.base import StudyRuns
from attention_zoo.tests.helpers import gap, images, resumed, shared, weights_of
from attention_zoo.tools.scale import set_epsilon
from attention_zoo.trainers import augment, base, ragan
from attention_zoo.zoo.layers import dropout

ONE = tf.distribute.get_strategy()
TINY = {"image_size": 32, "width": 4, "encoder_width": 4}


def make(loss="dcgan", options=None, **hp):
    keras.utils.set_random_seed(0)
    make_hparams, cls = ragan.VARIANTS[loss]
    networks = (zoo.create("ragan", **TINY, **(options or {})) for _ in range(2))
    return cls(*networks, make_hparams(**hp), seed=3)


def lambdas(trainer):
    return trainer.networks["attention"].get_layer("attention_layer").weight


def with_references(trainer, kind):
    object.__setattr__(trainer, "hp", dataclasses.replace(trainer.hp, reference_images=kind))
    return trainer


def seen(trainer, batch):
    """(the discriminator's real images, [X of each pass]) of a step, which updates nothing."""
    references, real = [], []

    def fake(z, x):
        references.append(x.numpy())
        return tf.zeros_like(x)

    def D(x, training):
        real.extend([x.numpy()] if x.numpy().any() else [])
        return tf.zeros((len(x), 1))

    stubs = {"fake": fake, "discriminator": D, "update": lambda *_: None, "constrain": list}
    for name, stub in stubs.items():
        object.__setattr__(trainer, name, stub)
    trainer.train_step({"image": tf.constant(batch)})
    return np.concatenate(real), references


@pytest.mark.parametrize("loss", ragan.VARIANTS)
def test_x_is_what_reference_images_says(loss):
    count = 2 if loss == "wgan" else 1  # of batches, 3 images each
    trainer = make(loss, **({"n_critic": 2} if loss == "wgan" else {}))
    x = images(6 * count)
    own = x[: 3 * count]
    for kind in ragan.REFERENCE_IMAGES:
        twice = 2 if kind == "other" else 1
        assert with_references(trainer, kind).batches_per_step == count * twice
        real, references = seen(trainer, x if kind == "other" else own)
        assert np.array_equal(real, own)
        assert len(references) == (3 if loss == "wgan" else 1)
        if loss == "wgan":  # the generator's own pass sees the last X
            assert np.array_equal(references.pop(), references[-1])
        if kind == "augmented":
            transforms = augment.chosen("color,translation,cutout")
            numbers = [trainer.key(2000 + t) for t in range(count)]
            parts = zip(np.split(own, count), numbers)
            expected = np.concatenate([augment.T(x, transforms, key) for x, key in parts])
            assert gap([expected], [own]) > 0.5
        else:
            expected = {"own": own, "mirrored": own[:, :, ::-1], "other": x[3 * count :]}[kind]
        assert np.array_equal(np.concatenate(references), expected), kind


@pytest.mark.parametrize("kind", ["other", "augmented"])
def test_replicas_have_their_part_of_each_batch_of_x(kind, mirrored):
    trainer = with_references(make("wgan", n_critic=2), kind)
    batches = trainer.batches_per_step
    x = images(4 * batches)
    whole = trainer.images_and_references(x)
    parts = mirrored.run(
        lambda batch: trainer.images_and_references(batch["image"]),
        args=(shared(mirrored, {"image": x}, batches),),
    )
    for one, two in zip(whole, parts, strict=True):
        halves = [v.numpy() for v in mirrored.experimental_local_results(two)]
        pieces = [half[2 * t :][:2] for t in range(2) for half in halves]  # batch by batch
        assert np.array_equal(one, np.concatenate(pieces))


def test_a_bottleneck_bounds_the_rank_of_what_e_tells():
    ranks = {}
    for channels in (0, 1, 3):
        keras.utils.set_random_seed(0)
        dae = zoo.create("ragan", **TINY, bottleneck=channels)["attention"]
        features = dae.get_layer("encoder").predict_on_batch(images(4))  # biases are 0
        ranks[channels] = np.linalg.matrix_rank(features.reshape(-1, 8), tol=1e-4)
        assert ("bottleneck" in [v.path.split("/")[-2] for v in dae.variables]) == (channels > 0)
    assert ranks == {0: 8, 1: 1, 3: 3}


def test_dropout_with_a_noise_shape_drops_what_shares_a_number():
    layer = dropout.Dropout(0.5, noise_shape=(None, None, 1))
    x = np.ones((2, 2, 3), "float32")
    assert np.array_equal(layer(x), x)
    seen = []
    with dropout.noise(lambda shape: seen.append(shape) or tf.constant([[[0.2], [0.5]]] * 2)):
        assert np.asarray(layer(x)).tolist() == [[[0.0] * 3, [2.0] * 3]] * 2
    assert seen == [(2, 2, 1)]
    again = dropout.Dropout.from_config(json.loads(json.dumps(layer.get_config())))
    assert (again.rate, again.noise_shape) == (0.5, (None, None, 1))


def test_dropout_leaves_out_whole_regions_in_training_alone():
    usual, trainer = make(), make(options={"region_dropout": 0.25})
    x, numbers = images(2), np.array([[0.1, 0.3, 0.2, 0.9], [0.25, 0.0, 0.8, 0.1]])
    kept = np.array([[0, 1, 0, 1], [1, 0, 1, 0]]) / 0.75

    def layer(trainer, value):
        lambdas(trainer).assign(value)
        return np.asarray(trainer.networks["attention"](x, training=True)["layer"])

    parts = np.stack([layer(usual, np.eye(4)[i]) for i in range(4)], 1)  # A_i
    expected = (kept[:, :, None, None, None] * parts).sum(1)
    assert gap([layer(trainer, np.ones(4))], [parts.sum(1)]) < 1e-5
    with dropout.noise(lambda shape: tf.reshape(tf.constant(numbers, "float32"), shape)):
        assert gap([layer(trainer, np.ones(4))], [expected]) < 1e-5


def test_each_pass_of_a_step_drops_regions_of_its_own(monkeypatch):
    trainer = make("wgan", {"region_dropout": 0.5}, n_critic=2, lambda_rate=0.0)
    numbers, uniform = [], base.uniform

    def noted(shape, key, *rest, **options):
        if len(shape) == 5:
            numbers.append((tuple(shape), tuple(key.numpy())))
        return uniform(shape, key, *rest, **options)

    monkeypatch.setattr(base, "uniform", noted)
    start = weights_of(trainer.generator)
    trainer.train_step({"image": tf.constant(images(6))})
    assert [shape for shape, _ in numbers] == [(3, 4, 1, 1, 1)] * 3
    assert len(set(numbers)) == 3
    trainer.sample_with_reference(trainer.noise(2).numpy(), images(2))
    assert len(numbers) == 3
    assert gap(start, weights_of(trainer.generator)) > 0
    assert not np.array(lambdas(trainer)).any()  # lambda_rate, with the Wasserstein loss too


def test_lambda_has_a_rate_of_its_own():
    moved, others = {}, {}
    for factor in (1.0, 0.1):
        trainer = make(lambda_rate=factor)
        trainer.train_step({"image": tf.constant(images(4))})
        moved[factor] = np.array(lambdas(trainer))
        variables = trainer.generator.variables
        others[factor] = [np.array(v) for v in variables if "lambda" not in v.path]
    assert abs(moved[1.0]) == pytest.approx(2e-4, rel=1e-2)  # Adam's first step
    assert moved[0.1] == pytest.approx(0.1 * moved[1.0], rel=1e-4)
    assert gap(others[1.0], others[0.1]) == 0


def test_the_discriminator_has_a_rate_of_its_own():
    trainer = make(d_rate=0.5, learning_rate=0.01)
    moved = []
    for network in (trainer.generator, trainer.discriminator):
        moved.append([np.array(v) for v in network.trainable_variables])
    trainer.train_step({"image": tf.constant(images(4))})
    for network, before, rate in zip(
        (trainer.generator, trainer.discriminator), moved, (0.01, 0.005)
    ):
        steps = [
            abs(v - b).max() for v, b in zip(map(np.array, network.trainable_variables), before)
        ]
        assert max(steps) == pytest.approx(rate, rel=1e-3)  # Adam's first step


OPTIONS = {"bottleneck": 2, "region_dropout": 0.5, "attend_at": 16}
HPARAMS = {"reference_images": "augmented", "lambda_rate": 0.5}


def test_a_run_with_all_of_them_resumes_to_the_bit():
    def trainer():
        made = make(options=OPTIONS, **HPARAMS)
        lambdas(made).assign([0.5] * 4)  # so that X counts from the first step on
        return made

    resumed(trainer, [{"image": tf.constant(images(4, seed=seed))} for seed in (1, 2)])


@pytest.mark.slow
def test_two_replicas_train_as_one(mirrored):
    found = []
    for strategy in (ONE, mirrored):
        with strategy.scope():
            trainer = make(options=OPTIONS, **HPARAMS)
        set_epsilon(trainer)
        lambdas(trainer).assign([0.5] * 4)
        batch = shared(strategy, {"image": tf.constant(images(4))}, 1)
        logs = strategy.run(
            lambda x, trainer=trainer: base.mean_over_replicas(trainer.train_step(x)), args=(batch,)
        )
        logs = {k: float(strategy.experimental_local_results(v)[0]) for k, v in logs.items()}
        found.append((logs, {k: v.numpy() for k, v in trainer.state().items()}))
    (one, state), (two, other) = found
    for name, value in one.items():
        assert abs(value - two[name]) < 1e-5 * max(1, abs(value)), name
    for key, value in state.items():
        assert abs(value - other[key]).max() < 1e-5 * max(1, abs(value).max()), key


@pytest.mark.skipif(not ways.INSTRUCTIONS & ways.instructions(), reason="no bfloat16 here")
def test_what_is_drawn_is_the_same_in_bfloat16():
    trainer = make("dcgan", {"region_dropout": 0.5}, reference_images="augmented")
    lambdas(trainer).assign([1.0] * 4)
    dae = trainer.networks["attention"]

    def step(x):
        _, references = trainer.images_and_references(x)
        with dropout.noise(lambda shape: base.uniform(shape, trainer.key(ragan.DROPOUT))):
            return references, dae(references, training=True)["layer"]

    x = tf.constant(images(4))
    plain = tf.function(step, autograph=False)(x)
    half = base.in_bfloat16(tf.function(step, autograph=False))(x)
    assert gap([plain[0].numpy()], [half[0].numpy()]) < 1e-6
    size = abs(plain[1].numpy()).max()
    assert 0 < gap([plain[1].numpy()], [half[1].numpy()]) < 0.05 * size


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"reference_images": "theirs"}, "one of own, other, mirrored, augmented, not 'theirs'"),
        ({"reference_images": "", "loss": "wgan"}, "reference_images is one of own"),
        ({"lambda_rate": -1}, r"lambda_rate must lie in \[0, inf\], not -1.0"),
    ],
)
def test_what_makes_no_sense_is_refused(settings, message):
    with pytest.raises(UsageError, match=message):
        RunConfig.resolve("ragan", settings=settings)


def test_a_run_from_before_goes_on_without_them(tmp_path):
    config = json.loads(json.dumps(RunConfig.resolve("ragan").record()))
    new = ("bottleneck", "region_dropout", "reference_images", "lambda_rate", "d_rate")
    old = {
        **config,
        "options": {k: v for k, v in config["options"].items() if k not in new},
        "hparams": {k: v for k, v in config["hparams"].items() if k not in new},
    }
    assert len(old["options"]) == 7 and len(old["hparams"]) == len(config["hparams"]) - 3
    run.Run(tmp_path, old, {}).close()
    run.check(tmp_path, config)
    changed = {**config, "hparams": config["hparams"] | {"lambda_rate": 0.1}}
    with pytest.raises(run.RunError, match="run with other values"):
        run.check(tmp_path, changed)


def test_the_readings_of_the_study_are_runs_of_their_own(tmp_path):
    runs = StudyRuns(tmp_path, settings={"width": 4}, options={"steps": 5000})
    configs = [
        runs.resolved(model, "creatures/tiny", settings).record()
        for _, model, settings in comparison.RUNS["readings"][1]
    ]
    assert [c["model"] for c in configs] == ["dcgan"] + ["ragan"] * 8
    assert all(a != b for a, b in itertools.combinations(configs, 2))
    for config in configs[1:]:
        networks = zoo.registry.networks("ragan", **config["options"], image_size=32)
        assert "attention" in networks
