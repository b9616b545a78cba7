"""From images to recorded scores: blocks, the cache, names, comparisons, stopping, distortions."""

import numpy as np
import pytest

from attention_zoo.evaluate import (
    coverage,
    features,
    fid,
    inception_score,
    kid,
    prdc,
    protocol,
    spatial,
    two_stage,
)
from attention_zoo.evaluate.scorer import Scorer, ScorerSpec
from attention_zoo.reports import comparison


def pictures(count, seed=0, size=16):
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3)).astype(np.uint8)


def extractor(seen=None):
    """Pixels, projected: three kinds of features that need no network."""
    rng = np.random.default_rng(0)
    to = {"features": rng.normal(size=(768, 6)), "logits": rng.normal(size=(768, 4)) / 20}
    to["spatial"] = rng.normal(size=(768, 5))

    def run(images):
        if seen is not None:
            seen.append(len(images))
        flat = images.reshape(len(images), -1) / 255
        return {kind: (flat @ matrix).astype(np.float32) for kind, matrix in to.items()}

    return features.Extractor("pixels", "0123abcd", run)


def cut(images, size):
    return lambda: (images[i : i + size] for i in range(0, len(images), size))


def test_the_network_always_sees_blocks_of_one_size():
    seen, images = [], pictures(250)
    found = features.Features(cut(images, 7), extractor(seen)).rows("features")
    assert seen == [100, 100, 100]
    assert found.shape == (250, 6)
    blocks = list(features.blocks(cut(images, 33)()))
    assert [count for _, count in blocks] == [100, 100, 50]
    assert np.array_equal(np.concatenate([b[:n] for b, n in blocks]), images)
    assert blocks[-1][0][50:].max() == 0


def test_features_at_hand_have_the_same_moments():
    images = pictures(250)
    whole = features.Features(cut(images, 50), extractor())
    at_hand = features.RowFeatures(whole.rows("features"))
    theirs = whole.moments("features")
    assert all(np.array_equal(v, theirs[k]) for k, v in at_hand.moments("features").items())
    scores = [
        protocol.measure(("fid", "kid"), side, at_hand)[i][2][0]
        for side in (whole, at_hand)
        for i in (0, 1)
    ]
    assert scores[:2] == scores[2:]


def test_breeds_need_imagenet_s_classes():
    with pytest.raises(protocol.ScoreError, match="extractor=zoo:efficientnet_lite0-imagenet"):
        protocol.check(("fid", "breeds"), 100, 100, 10)
    protocol.check(("fid", "breeds"), 100, 100, 1000)


@pytest.mark.parametrize("size", [1, 99, 250])
def test_no_batch_size_changes_a_bit(size):
    images = pictures(250)
    for form in ("rows", "moments"):
        usual = features.Features(cut(images, 100), extractor())
        other = features.Features(cut(images, size), extractor())
        for one in (usual, other):
            one.prepare({(form, "features")})
        ours, theirs = (one.computed[form, "features"] for one in (usual, other))
        assert all(ours[k].tobytes() == theirs[k].tobytes() for k in ours)


def test_one_pass_gives_all_that_is_wanted():
    seen = []
    found = features.Features(cut(pictures(150), 50), extractor(seen))
    found.prepare({("rows", "features"), ("rows", "logits"), ("moments", "spatial")})
    assert len(seen) == 2
    assert int(found.moments("spatial")["count"]) == 150
    assert len(seen) == 2


def test_images_that_are_not_uint8_are_refused():
    with pytest.raises(ValueError, match="metrics are of uint8 images, not float32"):
        features.Features(lambda: [np.zeros((1, 8, 8, 3), np.float32)], extractor()).rows("logits")


def test_what_was_computed_of_real_images_is_kept(tmp_path, caplog):
    seen, images = [], pictures(120)

    def rows():
        found = features.Features(cut(images, 50), extractor(seen), tmp_path / "kept" / "key")
        return found.rows("features")

    first = rows()
    assert len(seen) == 2
    assert np.array_equal(rows(), first)
    assert len(seen) == 2
    (path,) = (tmp_path / "kept").iterdir()
    assert path.name == "key-rows-features-v1.npz"
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    for damage in (whole[:200], bytes(flipped), b""):
        path.write_bytes(damage)
        seen.clear(), caplog.clear()
        assert np.array_equal(rows(), first)
        assert len(seen) == 2
        assert "key-rows-features-v1.npz is damaged" in caplog.text
        assert path.read_bytes() == whole
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def float32_rounded():
    """Whether TensorFlow may round float32 products to TensorFloat-32."""
    import tensorflow as tf

    return tf.config.experimental.tensor_float_32_execution_enabled()


def test_float32_products_are_exact_while_an_extractor_runs_and_no_longer():
    seen = []

    class Network:
        def predict_on_batch(self, images):
            seen.append(float32_rounded())
            if images.max() > 9:
                raise RuntimeError
            return {"features": np.zeros((len(images), 2), np.float32)}

    assert float32_rounded()
    run = features.of_inception(Network(), "0").run
    run(np.zeros((1, 8, 8, 3), np.uint8))
    assert float32_rounded()
    with pytest.raises(RuntimeError):
        run(np.full((1, 8, 8, 3), 10, np.uint8))
    assert float32_rounded()
    with features.float32_products:
        run(np.zeros((1, 8, 8, 3), np.uint8))  # one of two that run at a time
        assert not float32_rounded()
    assert float32_rounded()
    assert seen == [False] * 3


def test_a_classifier_s_float32_products_are_exact_too():
    import keras

    seen = []

    class Pooling(keras.layers.GlobalAveragePooling2D):
        def call(self, x):
            seen.append(float32_rounded())
            return super().call(x)

    image = keras.Input((8, 8, 3))
    middle = keras.layers.Conv2D(9, 3, name="middle")(image)
    pooled = Pooling(name="features")(middle)
    network = keras.Model(image, keras.layers.Dense(4, name="logits")(pooled))
    extract = features.of_classifier(network, "x", "0")
    seen.clear()
    found = extract.run(np.zeros((2, 12, 12, 3), np.uint8))
    assert {k: v.shape for k, v in found.items()} == {
        "features": (2, 9),
        "logits": (2, 4),
        "spatial": (2, 6 * 6 * 7),
    }
    assert seen and not any(seen) and float32_rounded()


@pytest.mark.parametrize("size", [40, 7])
def test_large_images_are_resized_a_few_at_a_time_to_the_same_features(size, monkeypatch):
    import keras

    from attention_zoo.evaluate.inception import Resize

    image = keras.Input((None, None, 3), dtype="uint8")
    x = Resize(16, dtype="float32", name="resize")(image)
    x = keras.layers.Conv2D(4, 3, name="middle")(x)
    inception = keras.Model(image, {"features": keras.layers.GlobalAveragePooling2D()(x)})
    image = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(9, 3, name="middle")(image)
    x = keras.layers.GlobalAveragePooling2D(name="features")(x)
    classifier = keras.Model(image, keras.layers.Dense(3, name="logits")(x))
    block, most = pictures(features.BLOCK, size=size), []
    runs = [features.of_inception(inception, "0").run]
    runs.append(features.of_classifier(classifier, "x", "0").run)
    whole = [run(block)["features"] for run in runs]
    in_steps = features.in_steps
    monkeypatch.setattr(
        features,
        "in_steps",
        lambda f, x: in_steps(lambda part: most.append(len(part)) or f(part), x),
    )
    monkeypatch.setattr(features, "STEP", 30 * size**2)
    for run, expected in zip(runs, whole):
        assert np.array_equal(run(block)["features"], expected)
    assert most == [30, 30, 30, 10] * 2


def make(images, metrics, count, tmp_path, split="test", seen=None):
    about = {"dataset": "d", "data": "d-1", "split": split}
    spec = ScorerSpec(metrics=metrics, count=count)
    return Scorer(images, about, extractor(seen), spec, tmp_path / "cache")


ALL = tuple(name for name in protocol.METRICS if name != "breeds")


def test_a_row_says_what_was_compared(tmp_path):
    real, fake = pictures(120), pictures(100, 1)
    scorer = make(real, ALL, 100, tmp_path)
    rows = {score.metric: score.row() for score in scorer.scores(cut(fake, 10))}
    assert list(rows) == [
        "fid_pixels_100_test",
        "sfid_pixels_100_test",
        "kid_pixels_100_test",
        "kid_blocks10_pixels_100_test",
        "is_pixels_100",
        "classes_pixels_100",
        "entropy_pixels_100",
        "precision_pixels_100_test",
        "recall_pixels_100_test",
        "density_pixels_100_test",
        "coverage_pixels_100_test",
    ]
    assert scorer.first == "fid_pixels_100_test"
    assert rows["fid_pixels_100_test"]["real_count"] == 120
    assert rows["fid_pixels_100_test"]["digest"] == "0123abcd"
    assert "deviation" in rows["kid_pixels_100_test"]
    assert "deviation" not in rows["fid_pixels_100_test"]


class Held:
    """Features at hand, rows of each kind."""

    def __init__(self, **rows):
        self.rows = rows.get

    def prepare(self, wanted):
        pass

    def moments(self, kind):
        return dict(zip(("mean", "cov"), fid.moments(self.rows(kind))))


def test_each_metric_is_of_its_own_features():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(60, 4)), 0.6 * rng.normal(size=(50, 4)) + 0.3
    c, d = rng.normal(size=(60, 3)), 2 * rng.normal(size=(50, 3))
    logits = 4 * rng.normal(size=(50, 5)) - 50 * np.eye(5)[0]  # the first class is not there
    pairs = {"real": a, "fake": b}
    expected = {
        "fid": fid.frechet_distance(*fid.moments(a), *fid.moments(b)),
        "sfid": fid.frechet_distance(*fid.moments(c), *fid.moments(d)),
        "kid": kid.kid(**pairs, subset_size=50)[0],
        "kid_blocks10": kid.kid_blocks(**pairs)[0],
        "is": inception_score.inception_score(logits)[0],
        **dict(zip(("classes", "entropy"), coverage.class_coverage(logits))),
        **dict(zip(("precision", "recall"), prdc.precision_recall(**pairs))),
        **dict(zip(("density", "coverage"), prdc.density_coverage(**pairs))),
    }
    real, fake = Held(features=a, spatial=c), Held(features=b, spatial=d, logits=logits)
    found = {name: value for name, _, (value, _) in protocol.measure(ALL, real, fake)}
    assert list(found) == list(expected) and found == pytest.approx(expected)
    assert min(np.diff(sorted(expected.values()))) > 1e-3
    dogs = Held(logits=np.eye(1000)[[151] * 30 + [0] * 20])
    found = {name: value for name, _, (value, _) in protocol.measure(("breeds",), None, dogs)}
    assert found == {"breeds": pytest.approx(1 / 118), "dogs": 0.6}


def test_thousands_are_written_short():
    assert [protocol.short(n) for n in (999, 1000, 1500, 50_000)] == ["999", "1k", "1500", "50k"]


def test_real_against_real_is_best_and_one_image_repeated_is_bad(tmp_path):
    """Smooth pictures of eight kinds, so that features tell kinds apart."""

    def kinds(count, seed):
        rng = np.random.default_rng(seed)
        colour = np.random.default_rng(9).integers(30, 220, (8, 1, 1, 3))
        noise = rng.normal(0, 12, (count, 16, 16, 3)) + rng.normal(0, 9, (count, 1, 1, 3))
        return np.clip(colour[rng.integers(0, 8, count)] + noise, 0, 255).astype(np.uint8)

    real, same = kinds(400, 0), kinds(400, 1)
    sets = {"same": same, "one": same[:1].repeat(400, 0), "dark": pictures(400, 2) // 20}
    scorer, scores = make(real, ALL, 400, tmp_path), {}
    for name, images in sets.items():
        found = scorer.scores(cut(images, 100))
        scores[name] = {score.metric.split("_")[0]: score.value for score in found}
    for metric in ("fid", "sfid", "kid"):
        assert scores["same"][metric] < 0.05 * scores["one"][metric]
        assert scores["same"][metric] < 0.05 * scores["dark"][metric]
    for metric in ("recall", "coverage"):
        assert scores["same"][metric] > 0.8
        assert scores["one"][metric] < 0.1
        assert scores["dark"][metric] < 0.1
    for metric in ("precision", "density"):
        assert scores["same"][metric] > 0.8
        assert scores["dark"][metric] < 0.1
    assert scores["one"]["is"] == pytest.approx(1)
    assert scores["same"]["is"] > scores["one"]["is"]


def test_too_few_images_are_refused(tmp_path):
    with pytest.raises(protocol.ScoreError, match="of each side, not 120 real and 9 to score"):
        make(pictures(120), ("fid",), 9, tmp_path)
    with pytest.raises(protocol.ScoreError, match="blocks of 10, not 120 real and 20"):
        make(pictures(120), ("kid_blocks10",), 20, tmp_path)
    with pytest.raises(protocol.ScoreError, match="is needs 20 .* 10 splits, not 19: take more"):
        make(pictures(120), ("fid", "is"), 19, tmp_path)
    (score,) = make(pictures(120), ("is",), 20, tmp_path).scores(cut(pictures(20, 1), 10))
    assert score.value > 1


def test_an_unknown_deviation_is_none(tmp_path):
    scorer = make(pictures(10), ("kid_blocks10", "kid"), 10, tmp_path)
    one_block, whole_sets = scorer.scores(cut(pictures(10, 1), 10))
    assert one_block.deviation is None and "deviation" not in one_block.row()
    assert whole_sets.deviation is None and "deviation" not in whole_sets.row()


def test_a_singular_covariance_is_logged(tmp_path, caplog):
    scorer = make(pictures(120), ("fid",), 10, tmp_path)
    scorer.metrics = ("fid", "kid")
    scorer.warn()
    assert caplog.messages == []
    scorer.count = 6
    scorer.warn()
    (line,) = caplog.messages
    assert "biased upwards: 6 images, real or generated, are too few for 6 features" in line
    assert "KID" in line


def test_few_samples_are_warned_of_once(tmp_path, caplog):
    scorer = make(pictures(120), ("sfid", "fid", "kid"), 10, tmp_path)
    scorer.count = 5
    scorer.warn()
    (line,) = caplog.messages
    assert "5 images, real or generated, are too few for 6 features" in line
    few = features.RowFeatures(np.random.default_rng(0).normal(size=(5, 6)))  # real images
    assert ": 5 images" in protocol.warning(("fid",), few, 120)
    assert protocol.warning(("kid",), few, 120) is None


ROW = {"metric": "fid_x_1k_test", "value": 3.0, "dataset": "a", "digest": "0", "real_count": 5}


def test_like_scores_are_paired():
    ours = [ROW, {**ROW, "metric": "is_x_1k"}]
    assert protocol.compare(ours, [{**ROW, "value": 4.0}]) == [(ROW, {**ROW, "value": 4.0})]


@pytest.mark.parametrize(
    "key", ["dataset", "data", "split", "image_size", "real_count", "count", "digest"]
)
def test_unlike_scores_are_not_compared(key):
    with pytest.raises(protocol.ScoreError, match=f"fid_x_1k_test is of {key} .* do not compare"):
        protocol.compare([ROW], [{**ROW, key: "other"}])


def test_scores_of_other_weights_of_the_extractor_say_what_to_do():
    with pytest.raises(protocol.ScoreError) as caught:
        protocol.compare([{**ROW, "digest": "new"}], [{**ROW, "digest": "old"}])
    assert str(caught.value) == (
        "fid_x_1k_test is of digest 'new' here and 'old' in the earlier score, so they do not "
        "compare: measure one of them again with the extractor's weights of the other"
    )


def test_scores_of_other_names_are_not_compared():
    with pytest.raises(protocol.ScoreError, match="no metric in common: fid_x_1k_test and fid_y"):
        protocol.compare([ROW], [{**ROW, "metric": "fid_y_1k_test"}])


def test_rest_is_reached_after_a_window_without_improvement():
    assert two_stage.rest([5, 4, 3, 3, 3], 2, 0.0) == (2, 4)
    assert two_stage.rest([5, 4, 3, 3, 2], 2, 0.0) is None
    assert two_stage.rest([100, 99.5, 99.2, 90], 2, 0.01) == (0, 2)
    assert two_stage.rest([100, 99.5, 99.2, 90], 3, 0.01) is None
    assert two_stage.rest([-1, -2, -2, -2], 2, 0.1) == (1, 3)
    assert two_stage.rest([], 1, 0.0) is None


def test_the_loss_is_waited_for_once_the_score_rests():
    """FID improves until 300, the loss until 500: as the document tells it."""
    rows = []
    for step in range(50, 1050, 50):
        rows.append({"step": step, "d_loss": max(10 - step / 100, 5) + step % 100 / 1e6})
        if step % 100 == 0:
            rows.append({"step": step, "fid": max(40 - step / 10, 10)})
    found = two_stage.stages(rows, "fid", 3, 0.01)
    assert found == two_stage.Stages(300, 600, 600, 900)
    assert two_stage.stages(rows[:18], "fid", 3, 0.01) == two_stage.Stages(300, 600)
    assert two_stage.stages(rows[:15], "fid", 3, 0.01) == two_stage.Stages()
    higher = [{**row, "is": -row["fid"]} if "fid" in row else row for row in rows]
    assert two_stage.stages(higher, "is", 3, 0.01, higher=True) == found
    rested = [{**row, "d_loss": 5.0} if "d_loss" in row else row for row in rows]
    assert two_stage.stages(rested, "fid", 3, 0.01) == two_stage.Stages(300, 600, 300, 600)


def test_distortions_by_a_loop():
    images = np.arange(2 * 8 * 8 * 3).reshape(2, 8, 8, 3).astype(np.uint8)
    swapped = spatial.swap_quadrants(images)
    halves = spatial.mirror_halves(images)
    for y in range(8):
        for x in range(8):
            assert (swapped[:, y, x] == images[:, (y + 4) % 8, (x + 4) % 8]).all()
            assert (halves[:, y, x] == images[:, y, 3 - x if x < 4 else 11 - x]).all()
    shuffled = spatial.shuffle_patches(images, 4, seed=1)
    for before, after in zip(images, shuffled):
        cells = [[a[i : i + 4, j : j + 4] for i in (0, 4) for j in (0, 4)] for a in (before, after)]
        assert sorted(c.tobytes() for c in cells[0]) == sorted(c.tobytes() for c in cells[1])
    assert not np.array_equal(shuffled, images)
    with pytest.raises(ValueError, match="patches of 3 do not fill 8 pixels"):
        spatial.shuffle_patches(images, 3)


def test_blur_keeps_the_mean_and_spreads_a_point():
    point = np.zeros((1, 17, 17, 3), np.uint8)
    point[0, 8, 8] = 255
    found = spatial.blur(point, 1.0)[0, ..., 0]
    expected = 255 / (2 * np.pi)  # the density of a normal distribution at its mean
    assert abs(int(found[8, 8]) - expected) < 1
    assert abs(int(found[8, 9]) - expected * np.exp(-0.5)) < 1
    flat = np.full((1, 8, 8, 3), 77, np.uint8)
    assert np.array_equal(spatial.blur(flat, 2.0), flat)


def test_the_study_has_its_table_and_picture():
    train, test = pictures(20), pictures(20, 1)
    found = spatial.conditions(train, test)
    assert list(found)[:3] == ["other real images (train)", "the same images", "halves mirrored"]
    assert list(found)[-2:] == ["one image repeated", "noise"]
    whole = {name: images(slice(0, 20)) for name, images in found.items()}
    assert all(images.shape == test.shape for images in whole.values())
    assert len({images.tobytes() for images in whole.values()}) == len(whole)
    rows = [{"images": n, "fid_x_20_test": 1.0 + i, "is_x_20": 2.0} for i, n in enumerate(found)]
    table = spatial.markdown(rows)
    assert table.startswith("| images | fid | is |\n|---|---|---|\n| other real images (train)")
    shown = [images(slice(0, 8)) for images in found.values()]
    rows = [row | {"kid_x_20_test": -0.5 * i} for i, row in enumerate(rows)]
    assert comparison.distortions(rows, shown).startswith(b"\x89PNG")
