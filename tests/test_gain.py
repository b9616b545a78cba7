"""GAIN: Grad-CAM and its gradient against finite differences, the losses by hand, and the step."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from attention_zoo import zoo
from attention_zoo.experiments import run_directory as run
from attention_zoo.tests.helpers import drawn, gap, resumed
from attention_zoo.trainers import gain, losses
from attention_zoo.zoo import gain as networks
from attention_zoo.zoo.layers import cam, grad_cam
from attention_zoo.zoo.layers.batch_norm import BatchNorm

RESNET9 = {"image_size": 16, "classes": 3, "width": 4, "backbone": "resnet9"}
FC = {"image_size": 64, "classes": 3, "width": 2, "head": "fc"}  # of VGG16


def tiny():
    """The networks of a classifier of two layers, one of them batch normalised: f is (4, 4, 8)."""
    x = image = keras.Input((16, 16, 3))
    for name, width in (("middle", 4), ("map", 8)):
        x = keras.layers.Conv2D(width, 3, 2, "same", name=f"{name}_conv")(x)
        x = keras.layers.ReLU(name=name)(BatchNorm(name="norm")(x) if name == "middle" else x)
    x = keras.layers.GlobalAveragePooling2D(name="features")(x)
    classifier = keras.Model(image, keras.layers.Dense(3, name="logits")(x))
    return networks.parts(lambda: classifier)


def make(loss="gain", options=None, **hp):
    keras.utils.set_random_seed(0)
    made = [networks.build(**options) if options else tiny() for _ in range(2)]
    hp = {"decay_steps": 10, "learning_rate": 0.1, **hp}
    for one in made:
        kernel = one["classifier"].get_layer("logits").kernel
        kernel.assign(3 * kernel)  # else all scores are close to a half
    return gain.VARIANTS[loss][1](*made, gain.VARIANTS[loss][0](**hp), seed=3)


def examples(count=6, seed=1, size=16):
    """A batch of images with one, two or no classes of three, and the class of each pixel."""
    rng = np.random.default_rng(seed)
    n, one = np.arange(count), np.eye(3, dtype="float32")
    labels = np.maximum(one[n % 3], one[n // 2 % 3])
    labels[0] = 0
    numbers = rng.integers(0, 5, (count, size, size, 1))
    return {
        "image": drawn(count, size, size, 3, seed=seed),
        "labels": labels,
        "classes": np.where(numbers == 4, 255, numbers).astype("uint8"),
    }


def step_of(trainer, batch):
    held = {k: tf.constant(v) for k, v in batch.items()}  # no graph, whose making takes longer
    return {k: float(v) for k, v in trainer.train_step(held).items()}


def values(variables):
    return [np.array(v) for v in variables]


# The parts, by hand


def test_the_soft_mask_at_literal_values():
    at = np.array([0.0, 0.4, 0.5, 0.6, 1.0])
    expected = [0.0066928509, 0.26894142, 0.5, 0.73105858, 0.99330715]
    assert abs(np.asarray(grad_cam.soft_mask(at, 10.0, 0.5)) - expected).max() < 1e-7
    expected = [0.19781611, 0.35434369, 0.40131234, 0.450166, 0.64565631]
    assert abs(np.asarray(grad_cam.soft_mask(at, 2.0, 0.7)) - expected).max() < 1e-7


def test_a_masked_image_is_grey_where_the_mask_is_one():
    image = np.array([[[[0.5, -1.0, 1.0], [0.8, 0.4, -0.2]]]])
    masks = np.array([[[[0.0, 1.0]], [[0.25, 0.5]]]])
    found = np.asarray(grad_cam.masked(image, masks))
    assert found.shape == (1, 2, 1, 2, 3)
    first = [[0.5, -1.0, 1.0], [0.0, 0.0, 0.0]]
    second = [[0.375, -0.75, 0.75], [0.4, 0.2, -0.1]]
    assert abs(found[0, :, 0] - [first, second]).max() < 1e-6


def test_a_joint_mask_is_the_union_of_those_of_the_classes_that_are_there():
    masks = np.array([[[[0.25, 0.0]], [[0.75, 0.5]], [[1.0, 1.0]]]])
    found = np.asarray(gain.joint(masks, np.array([[1.0, 1.0, 0.0]])))
    assert found.tolist() == [[[[0.75, 0.5]]]]


def test_grad_cam_against_a_loop():
    f, g = drawn(2, 3, 4, 5), drawn(2, 3, 4, 5, seed=2)
    found = np.asarray(grad_cam.grad_cam(f, g))
    zeros = 0
    for n in range(2):
        w = [sum(g[n, i, j, k] for i in range(3) for j in range(4)) / 12 for k in range(5)]
        for i in range(3):
            for j in range(4):
                a = max(0, sum(w[k] * f[n, i, j, k] for k in range(5)))
                assert abs(found[n, i, j] - a) < 1e-6
                zeros += a == 0
    assert 0 < zeros < 24


def test_the_losses_by_hand():
    logits, label = np.array([[0.0, np.log(3.0)], [-np.log(3.0), 0.0]]), np.array([[1, 0], [0, 1]])
    entropy = losses.sigmoid_cross_entropy(logits=logits, label=label)
    assert float(entropy) == pytest.approx((2 * np.log(2) + np.log(4) + np.log(4 / 3)) / 2)
    # (0.9 + 0.7) / 2, 0.6 and an image without any of the classes
    score = np.array([[0.9, 0.2, 0.7], [0.4, 0.6, 0.5], [0.3, 0.3, 0.3]])
    here = np.array([[1.0, 0, 1], [0, 1, 0], [0, 0, 0]])
    mined = losses.attention_mining(score=score, present=here)
    assert float(mined) == pytest.approx((0.8 + 0.6 + 0) / 3)
    # image 1, class 1: gaps 1/2, 1, of pixels 1 and 2; image 2: class 2 alone, all three pixels
    A = np.array([[[[0.5, 1.0, 0.2]], [[1.0, 1.0, 1.0]]], [[[0.0, 0.0, 0.0]], [[0.1, 0.2, 0.3]]]])
    H = np.array([[[[1, 0, 1]], [[1, 0, 1]]], [[[1, 1, 1]], [[0, 0, 0]]]])
    known = np.array([[[True, True, False]], [[True, True, True]]])
    loss = losses.attention_supervision(
        attention=A, mask=H, known=known, present=np.array([[1.0, 0], [0, 1]])
    )
    assert float(loss) == pytest.approx(((0.25 + 1) / 2 + (0.01 + 0.04 + 0.09) / 3) / 2)
    loss = losses.attention_supervision(
        attention=A, mask=H, known=known, present=np.array([[1.0, 1], [0, 0]])
    )
    assert float(loss) == pytest.approx(((0.25 + 1) / 2 + (0 + 1) / 2) / 2 / 2)


# The network


@pytest.mark.parametrize("wrong", ["backbone", "layer", "head", "start", "stages"])
def test_a_network_that_cannot_be_built_is_refused(wrong):
    told = {"backbone": "takes one of resnet9", "layer": "takes one of map, middle"}
    told |= {"head": "resnet9 has no option head: leave it at gap", "start": "takes MODEL:TAG"}
    told |= {"stages": "stages takes 2 or 3"}
    with pytest.raises(ValueError, match=told[wrong]):
        networks.build(**{**RESNET9, wrong: "dcgan"})


@pytest.mark.parametrize("options", [None, {**FC, "head": "gap"}])
def test_with_an_average_attention_needs_no_gradient(options, tmp_path):
    trainer = make(options=options)
    for i, v in enumerate(trainer.ema_networks["classifier"].trainable_variables):
        v.assign_add(0.1 * drawn(*v.shape, seed=i))
    size = trainer.networks["classifier"].input_shape[1]
    x = drawn(3, size, size, 3)
    network = trainer.ema_networks["attention"]
    found = network.predict_on_batch(x)
    logits, maps = trainer.explain(x, batch=2)
    assert abs(found["logits"] - logits).max() < 1e-5 * abs(logits).max()
    assert maps.shape == (3, 3, *x.shape[1:3])
    assert (maps.max((2, 3)) > 0.99).sum() > 3  # of 9; those that the ReLU leaves nothing are zero
    assert abs(found["attention"] - maps).max() < 1e-3
    network.save(tmp_path / "network.keras")
    again = keras.saving.load_model(tmp_path / "network.keras").predict_on_batch(x)
    assert np.array_equal(again["attention"], found["attention"])
    assert len(network.variables) == len(trainer.ema_networks["classifier"].variables)

    f = trainer.ema_networks["features"](x)
    head, dense = (
        trainer.ema_networks["head"],
        trainer.ema_networks["classifier"].get_layer("logits"),
    )
    with tf.GradientTape() as tape:
        tape.watch(f)
        s = head(f)[:, 1]
    expected = np.asarray(grad_cam.grad_cam(f, tape.gradient(s, f)))
    plain = np.asarray(grad_cam.of_average(cam.class_maps(f, dense)))
    assert plain.shape == (3, 3, *f.shape[1:3])
    assert abs(plain[:, 1] - expected).max() < 1e-5 * expected.max()


def test_the_parts_are_the_classifier_s_and_share_its_weights():
    for options in (FC, {**RESNET9, "layer": "middle"}):
        made = networks.build(**options)
        assert list(made) == ["classifier", "features", "head"]
        held = {id(v) for v in made["classifier"].variables}
        parts = [v for k in ("features", "head") for v in made[k].variables]
        assert {id(v) for v in parts} == held
        assert len(parts) == len(held)
        x = drawn(2, options["image_size"], options["image_size"], 3)
        made["classifier"].get_layer("logits").bias.assign([1.0, 2.0, 3.0])
        whole = np.asarray(made["classifier"](x))
        assert abs(np.asarray(made["head"](made["features"](x))) - whole).max() < 1e-6
        size = {"vgg16": 4, "resnet9": 4}[options.get("backbone", "vgg16")]
        assert made["features"].output_shape[1:3] == (size, size)


def test_a_run_begins_with_the_weights_it_is_told_to():
    options = {**RESNET9, "image_size": 64, "width": 16, "start": "resnet9:creatures"}
    trainer = make(options=options)
    published = zoo.load("resnet9", "creatures")
    trainer.prepare(iter([]))  # no whitening: it came with the weights
    for network in (trainer.networks["classifier"], trainer.ema_networks["classifier"]):
        held = {v.path: np.array(v) for v in network.variables}
        for v in published.variables:
            if not v.path.startswith("logits"):
                assert np.array_equal(v, held[v.path])
        assert held["logits/kernel"].shape == (64, 3)
    for start, line in (
        ("resnet9:cifar10", "does not fit the backbone"),
        ("vgg16:no", "import such weights"),
    ):
        with pytest.raises(zoo.WeightsError, match=line):
            networks.build(**{**options, "start": start}).load_start_weights()


# Grad-CAM and L_am against finite differences


@pytest.fixture
def precise():
    """Networks of float64 within the test."""
    before = keras.config.floatx()
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_floatx(before)
    keras.config.set_dtype_policy(before)


def lively(options):
    """A trainer whose attention is not the zero of a network that has learnt nothing."""
    trainer = make(options=options)
    for i, v in enumerate(trainer.networks["classifier"].trainable_variables):
        v.assign_add(0.3 * np.random.default_rng(i).normal(size=v.shape) * np.array(v).std())
    return trainer


def test_grad_cam_equals_finite_differences(precise):
    trainer = lively(FC)
    features, head = trainer.networks["features"], trainer.networks["head"]
    f = np.asarray(features(drawn(2, 64, 64, 3).astype("float64")))  # (2, 4, 4, 16)
    e, (_, h, w, K) = 1e-6, f.shape
    classes = np.array([[0, 1, 2]] * 2)
    found = np.asarray(trainer.attend(head, tf.constant(f), tf.constant(classes), h))
    seen = 0
    for n in range(2):
        for c in range(3):
            weight = np.zeros(K)
            for k in range(K):  # GAP of the gradient: the channel moved as a whole
                more, less = f[n : n + 1].copy(), f[n : n + 1].copy()
                more[..., k] += e
                less[..., k] -= e
                up, down = np.asarray(head(np.concatenate([more, less])))[:, c]
                weight[k] = (up - down) / (2 * e) / (h * w)
            A = np.maximum(f[n] @ weight, 0)
            A = (A - A.min()) / (np.ptp(A) + 1e-6)
            assert abs(found[n, c] - A).max() < 1e-5
            seen += A.max() > 0.9
    assert seen >= 2


def mining_loss(trainer, x, present):
    """L_am of a trainer whose first stream has no batch normalisation."""
    f = trainer.networks["features"](x, training=True)
    classes, here = trainer.chosen(present, single=False)
    A = trainer.attend(trainer.networks["head"], f, classes, x.shape[1])
    T = grad_cam.soft_mask(A, 10.0, 0.5)
    return losses.attention_mining(score=trainer.masked_scores(x, T, classes), present=here)


@pytest.mark.parametrize("options", [FC, {**FC, "head": "gap"}])
def test_the_gradient_of_the_mining_loss_is_its_numerical_derivative(precise, options, monkeypatch):
    trainer = lively(options)
    x = tf.constant(drawn(2, 64, 64, 3).astype("float64"))
    present = tf.constant([[1.0, 1.0, 1.0], [1.0, 0.0, 1.0]], tf.float64)
    weights = trainer.networks["classifier"].trainable_variables
    ways = [0.1 * np.random.default_rng(i).normal(size=v.shape) for i, v in enumerate(weights)]

    def slope():
        with tf.GradientTape() as tape:
            loss = mining_loss(trainer, x, present)
        found = tape.gradient(loss, weights)
        return float(loss), sum((np.asarray(g) * way).sum() for g, way in zip(found, ways))

    def moved(by):
        for v, way in zip(weights, ways):
            v.assign_add(by * way)
        loss = float(mining_loss(trainer, x, present))
        for v, way in zip(weights, ways):
            v.assign_sub(by * way)
        return loss

    loss, whole = slope()
    e = 1e-7
    numerical = (moved(e) - moved(-e)) / (2 * e)
    assert 0.01 < loss < 0.99
    assert abs(numerical) > 1e-3
    assert whole == pytest.approx(numerical, rel=1e-4)

    usual = grad_cam.grad_cam
    cut = lambda f, g: usual(f, tf.stop_gradient(g))  # noqa: E731
    monkeypatch.setattr(grad_cam, "grad_cam", cut)
    same, without = slope()
    assert same == loss
    assert abs(without - numerical) > 1e-4 * abs(numerical) + 9 * abs(whole - numerical)


# The step


def test_the_masked_pass_leaves_the_batch_statistics_alone():
    options = {**RESNET9, "layer": "middle"}  # batch normalisation before and behind f
    ours, plain = (make(options=options) for _ in range(2))
    batch = examples()
    still = [v for v in ours.networks["classifier"].non_trainable_variables if "moving" in v.path]
    start = values(still)
    masks = tf.constant(abs(drawn(6, 2, 16, 16)))
    ours.masked_scores(batch["image"], masks, tf.constant([[0, 1]] * 6))
    assert gap(values(still), start) == 0
    terms = ours.loss_terms(batch["image"], tf.constant(batch["labels"]))
    assert float(terms["am_loss"]) > 0
    plain.networks["classifier"](batch["image"], training=True)
    once = [v for v in plain.networks["classifier"].non_trainable_variables if "moving" in v.path]
    assert len(still) == 18
    assert gap(values(still), values(once)) == 0
    assert gap(values(still), start) > 1e-3


def test_a_judge_of_averaged_weights_learns_nothing_from_what_it_judges():
    trainer = make(judge="average")
    network, average = (n["classifier"] for n in (trainer.networks, trainer.ema_networks))
    x, here = tf.constant(drawn(4, 16, 16, 3)), tf.constant([[0, 1]] * 4)
    masks = tf.constant(abs(drawn(4, 2, 16, 16, seed=2)))
    for i, v in enumerate(average.trainable_variables):
        v.assign_add(0.1 * drawn(*v.shape, seed=i))
    with tf.GradientTape() as tape:
        tape.watch(masks)
        scores = trainer.masked_scores(x, masks, here)
    star = tf.reshape(grad_cam.masked(x, masks), (-1, 16, 16, 3))
    expected = tf.sigmoid(average(star, training=False)).numpy().reshape(4, 2, 3)
    expected = np.stack([expected[:, 0, 0], expected[:, 1, 1]], 1)
    assert abs(scores.numpy() - expected).max() < 1e-6
    by_mask, *by_weight = tape.gradient(scores, [masks, *network.trainable_variables])
    assert abs(by_mask.numpy()).max() > 1e-4
    assert all(g is None for g in by_weight)


def test_the_terms_are_those_of_the_paper():
    """One masked image a class, by explicit loops over images and classes."""
    trainer = make(max_classes=2)
    batch = examples()
    x, labels, numbers = batch["image"], batch["labels"], batch["classes"][-2:, ..., 0]
    network, head = trainer.networks["classifier"], trainer.networks["head"]
    f = trainer.networks["features"](x, training=True)
    logits = np.asarray(head(f))
    s = 1 / (1 + np.exp(-logits))
    entropy = -np.sum(labels * np.log(s) + (1 - labels) * np.log(1 - s)) / 6
    mined, taught, covered, joint = [], [], [], []
    for n in range(6):
        classes = np.flatnonzero(labels[n])
        scores, gaps, masks = [], [], []
        for c in classes:
            with tf.GradientTape() as tape:
                tape.watch(f)
                score = head(f)[n, c]
            A = grad_cam.grad_cam(f[n : n + 1], tape.gradient(score, f)[n : n + 1])
            A = np.asarray(cam.min_max(cam.resized(A, 16)))[0]
            T = 1 / (1 + np.exp(-10 * (A - 0.5)))
            star = x[n] - T[..., None] * x[n]
            scores.append(1 / (1 + np.exp(-np.asarray(network(star[None]))[0, c])))
            masks.append(T)
            if n >= 4:
                known = numbers[n - 4] != 255
                gaps.append(((A - (numbers[n - 4] == c + 1)) ** 2)[known].mean())
        mined.append(np.mean(scores) if len(classes) else 0)
        covered.append(np.mean(masks) if len(classes) else 0)
        T = np.max(masks, axis=0) if len(classes) else np.zeros((16, 16))
        alone = 1 / (1 + np.exp(-np.asarray(network((x[n] * (1 - T[..., None]))[None]))[0]))
        joint.append(alone[classes].mean() if len(classes) else 0)
        taught += [np.mean(gaps)] if n >= 4 else []
    expected = {"loss": entropy, "am_loss": np.mean(mined), "e_loss": np.mean(taught)}
    expected["mask"] = np.mean(covered)

    def found(**hp):
        fresh = make(max_classes=2, **hp)
        numbers_ = tf.constant(numbers.astype("float32"))
        return fresh.loss_terms(tf.constant(x), tf.constant(labels), pixels=numbers_)

    ours = {k: pytest.approx(float(v), rel=1e-4) for k, v in found().items()}
    assert expected == ours
    other = found(masking="joint")
    assert float(other["am_loss"]) == pytest.approx(np.mean(joint), rel=1e-4)
    assert abs(np.mean(joint) / expected["am_loss"] - 1) > 1e-3
    assert float(other["e_loss"]) == pytest.approx(expected["e_loss"], rel=1e-4)


def test_every_class_that_is_there_is_looked_at_or_as_many_as_asked_for():
    present = tf.constant([[0.0, 1, 0, 1, 0], [1, 1, 1, 1, 0], [0, 0, 0, 0, 0]])
    trainer = make(max_classes=2)
    seen = set()
    for step in range(20):
        trainer.first.iterations.assign(step)
        classes, here = (np.asarray(v) for v in trainer.chosen(present, single=False))
        assert sorted(classes[0]) == [1, 3]
        assert classes[1, 0] != classes[1, 1]
        assert here.tolist() == [[1, 1], [1, 1], [0, 0]]
        seen.update(classes[1])
    assert seen == {0, 1, 2, 3}
    assert trainer.chosen(present, single=True)[0].shape == (3, 1)


def test_a_number_is_a_label_like_another():
    batch = examples()
    y = np.arange(6) % 3
    known = {"image": batch["image"], "labels": np.eye(3, dtype="float32")[y]}
    single = {"image": batch["image"], "label": y.astype("int32")}
    several, one = (step_of(make(max_classes=1), held) for held in (known, single))
    assert several == one
    assert one["am_loss"] > 0


def test_without_alpha_it_is_a_plain_classifier():
    batch = examples()
    trainer, guided = make("classifier"), make("classifier", alpha=1.0)
    assert list(step_of(trainer, batch)) == ["loss"]
    assert list(step_of(guided, batch)) == ["loss", "am_loss", "mask"]
    plain = make(alpha=0.0)
    step_of(plain, batch)
    mine, theirs = ({k: v.numpy() for k, v in t.state().items()} for t in (trainer, plain))
    assert all(mine[k].tobytes() == theirs[k].tobytes() for k in mine)


def test_known_masks_join_the_batch_in_turn_and_move_with_their_image():
    trainer = make("gain_ext", masks=5, mask_batch=3, crop=2)
    batches = [examples(4, seed) for seed in (1, 2, 3)]
    for batch in batches:  # the images tell their pixels' numbers
        batch["image"] = np.repeat(batch["classes"] / np.float32(127.5) - 1, 3, axis=-1)
    trainer.prepare(iter(batches))
    labels = np.concatenate([b["labels"] for b in batches])[:5]
    for step, turn in enumerate([[0, 1, 2], [3, 4, 0], [1, 2, 3]]):
        trainer.first.iterations.assign(step)
        x, present, numbers = (np.asarray(v) for v in trainer.masked_batch())
        assert present.tolist() == labels[turn].tolist()
        assert numbers.shape == (3, 16, 16)
        grey = np.rint((x + 1) * 127.5)
        inside = x[..., 0] != 0  # zeros come in at the rim of an image
        assert np.array_equal(grey[inside][:, 0], numbers[inside])
        assert (numbers[~inside] == 0).all()
        assert inside.mean() > 0.7
    assert trainer.mask_set["image"].dtype == "uint8"


@pytest.mark.parametrize("count", [1, 2])
def test_mining_begins_at_its_step_however_many_a_call_takes(count):
    """Steps 0 to 5, of which the first three have no L_am: `fit` is the steps one by one."""
    one, many = (make(delay=0.3) for _ in range(2))
    many.steps_per_execution = count
    assert [many.phase(step) for step in (0, 2, 3, 4)] == [False, False, True, True]
    batch = examples()
    del batch["classes"]
    expected = [step_of(one, batch)["am_loss"] for _ in range(6)]
    assert [value == 0 for value in expected] == [True] * 3 + [False] * 3
    found = []
    many.fit(
        tf.data.Dataset.from_tensors(batch).repeat(6),
        verbose=0,
        callbacks=[
            keras.callbacks.LambdaCallback(
                on_train_batch_end=lambda _, logs: found.append(float(logs["am_loss"]))
            )
        ],
    )
    assert found == pytest.approx(expected[count - 1 :: count], rel=1e-3)
    gaps = [gap([a], [b]) for a, b in zip(*(values(t.state().values()) for t in (one, many)))]
    assert max(gaps) < 1e-4


OPTIONS = {
    "alpha": 2.0,
    "omega": 1.0,
    "steepness": 5.0,
    "sigma": 0.3,
    "delay": 0.5,
    "masking": "joint",
    "judge": "average",
    "max_classes": 3,
    "masks": 3,
    "mask_batch": 3,
    "smoothing": 0.2,
    "crop": 1,
    "flip": False,
    "scale_min": 0.5,
    "scale_max": 1.5,
    "weight_decay": 0.1,
}


def test_every_hyper_parameter_acts():
    usual = {"masks": 4, "max_classes": 2, "mask_batch": 2, "decay_steps": 10, "learning_rate": 0.1}
    batch = examples()
    batch["labels"][2] = 1  # more classes than are looked at
    trainer = make("gain_ext", **usual)
    trainer.prepare(iter([batch]))
    trainer.first.iterations.assign(1)  # the images 2 and 3 of four, 2 and 0 of three
    start = {k: v.numpy() for k, v in trainer.state().items()}

    def after(**hp):
        run.assign(trainer.state(), start, "start")
        trainer.hp = gain.ExtHParams(**{**usual, **hp})
        step_of(trainer, batch)
        return values(trainer.networks["classifier"].trainable_variables)

    expected = after()
    assert gap(after(), expected) == 0
    for name, value in OPTIONS.items():
        assert gap(after(**{name: value}), expected) > 1e-6, name


def test_hyper_parameters_without_meaning_are_refused():
    for wrong in ({"sigma": 2.0}, {"alpha": -1.0}, {"max_classes": 0}, {"mask_batch": 0}):
        with pytest.raises(ValueError, match=f"{[*wrong][0]} must lie in"):
            gain.HParams(**wrong)
    with pytest.raises(ValueError, match="masking takes one of each, joint, not 'all'"):
        gain.HParams(masking="all")
    with pytest.raises(ValueError, match="judge takes one of shared, average, not 'none'"):
        gain.HParams(judge="none")


def prepared(**hp):
    trainer = make("gain_ext", masks=5, **hp)
    held = [examples(4, seed) for seed in (4, 5)]
    trainer.prepare(iter(held))
    return trainer


def test_compiled_terms_and_gradients_are_the_same():
    trainer, batch = make("gain_ext", max_classes=2), examples(4)
    x, present = tf.constant(batch["image"]), tf.constant(batch["labels"])
    numbers = tf.constant(batch["classes"][-2:, ..., 0].astype("float32"))
    weights = trainer.networks["classifier"].trainable_variables

    def gradients():
        with tf.GradientTape() as tape:
            terms = trainer.loss_terms(x, present, pixels=numbers)
            total = terms["loss"] + terms["am_loss"] + 10 * terms["e_loss"]
        return terms, tape.gradient(total, weights)

    start = {k: v.numpy() for k, v in trainer.state().items()}
    expected, plain = gradients()
    run.assign(trainer.state(), start, "start")  # the statistics as they were
    found, compiled = tf.function(gradients, jit_compile=True)()
    assert list(expected) == ["loss", "am_loss", "mask", "e_loss"]
    for name, value in expected.items():
        assert float(found[name]) == pytest.approx(float(value), rel=1e-4)
    for ours, theirs in zip(compiled, plain):
        assert abs(ours - theirs).numpy().max() < 1e-3 * abs(theirs).numpy().max()


@pytest.mark.slow
def test_state_is_all_that_a_resume_needs():
    batches = [{k: tf.constant(v) for k, v in examples(seed=i).items()} for i in range(4)]
    resumed(lambda: prepared(max_classes=1, scale_min=0.5, scale_max=1.5), batches)


@pytest.mark.slow
def test_two_replicas_take_the_step_of_one(mirrored):
    batch = {k: v for k, v in examples(8).items() if k != "classes"}
    data, found = tf.data.Dataset.from_tensors(batch).repeat(), []
    for strategy in (tf.distribute.get_strategy(), mirrored):
        with strategy.scope():
            trainer = prepared(crop=0, flip=False)
        start = values(trainer.networks["classifier"].variables)
        trainer.fit(data, steps_per_epoch=1, verbose=0, shuffle=False)
        found.append(values(trainer.networks["classifier"].variables))
    moved = gap(start, found[0])
    assert moved > 1e-3
    assert gap(*found) < 0.01 * moved


def test_the_report_shows_the_likeliest_classes():
    trainer = make()
    images = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), "uint8")
    shown, masks, places, labels = trainer.attention(images, None)
    assert shown is images and not places
    assert masks.shape == (5, 2, 16, 16) and labels == ("likeliest class", "second class")
    logits, maps = trainer.explain(images.astype("float32") / 127.5 - 1)
    for n in range(5):
        first, second = np.argsort(-logits[n])[:2]
        for i, c in enumerate((first, second)):
            expected = maps[n, c] / (1 + np.exp(-logits[n, c]))
            assert abs(masks[n, i] - expected).max() < 1e-6
