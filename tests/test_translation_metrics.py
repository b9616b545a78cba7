"""What is measured of translated pictures, and of masks: literal values, and plain loops."""

import math

import numpy as np
import pytest

from attention_zoo.evaluate import localization, mask_health, translation


def grey(values):
    """A picture (1, H, W, 1) of lines of values."""
    return np.array(values, np.float64)[None, ..., None]


def test_psnr_and_l1_by_hand():
    a, b = grey([[0, 10], [20, 30]]), grey([[0, 20], [20, 10]])
    assert translation.mse(a, b).tolist() == [125]
    assert abs(translation.psnr(a, b)[0] - 10 * math.log10(255**2 / 125)) < 1e-12
    assert abs(translation.psnr(a, b, data_range=2)[0] - 10 * math.log10(4 / 125)) < 1e-12
    assert abs(translation.l1(a, b)[0] - 30 / 4 / 255) < 1e-12
    where = np.array([[[True, True], [False, False]]])
    assert translation.mse(a, b, where).tolist() == [50]
    assert abs(translation.l1(a, b, where, data_range=20)[0] - 0.25) < 1e-12
    assert np.isinf(translation.psnr(a, b, where & [True, False])[0])
    bytes_of = [x.astype(np.uint8) for x in (a, b)]  # no difference wraps around
    assert translation.mse(*bytes_of).tolist() == [125]


def literal_ssim(a, b, where, data_range):
    """The mean over windows and channels of one pair of pictures (H, W, C), number by number."""
    height, width, channels = a.shape
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    values = []
    for channel in range(channels):
        for y in range(5, height - 5):
            for x in range(5, width - 5):
                if not where[y, x]:
                    continue
                w, p, q = [], [], []
                for i in range(-5, 6):
                    for j in range(-5, 6):
                        if where[y + i, x + j]:
                            w.append(math.exp(-(i * i + j * j) / (2 * 1.5**2)))
                            p.append(float(a[y + i, x + j, channel]))
                            q.append(float(b[y + i, x + j, channel]))
                w = np.array(w) / sum(w)
                p, q = np.array(p), np.array(q)
                mu_p, mu_q = (w * p).sum(), (w * q).sum()
                s_pp, s_qq = (w * (p - mu_p) ** 2).sum(), (w * (q - mu_q) ** 2).sum()
                s_pq = (w * (p - mu_p) * (q - mu_q)).sum()
                values.append(
                    (2 * mu_p * mu_q + c1)
                    * (2 * s_pq + c2)
                    / ((mu_p**2 + mu_q**2 + c1) * (s_pp + s_qq + c2))
                )
    return np.mean(values)


@pytest.fixture
def noisy():
    rng = np.random.default_rng(0)
    a = rng.integers(0, 256, (2, 15, 18, 3)).astype(np.uint8)
    b = np.clip(a + rng.normal(0, 40, a.shape), 0, 255).astype(np.uint8)
    where = np.ones((2, 15, 18), bool)
    where[0, 4:9, 6:11] = where[1, :, :7] = False
    return a, b, where


def test_ssim_is_its_equation(noisy):
    a, b, where = noisy
    for given in (None, where):
        for data_range in (255, 400):
            found = translation.ssim(a, b, given, data_range)
            used = np.ones_like(where) if given is None else given
            expected = [literal_ssim(*each, data_range) for each in zip(a, b, used)]
            assert abs(found - expected).max() < 1e-12
    assert abs(translation.ssim(a, b) - translation.ssim(a, b, where)).min() > 1e-4
    assert abs(translation.ssim(a, a) - 1).max() < 1e-12


def test_ssim_of_two_even_pictures_by_hand():
    a, b = np.full((1, 11, 11, 1), 100), np.full((1, 11, 11, 1), 50)
    c1 = 2.55**2
    assert abs(translation.ssim(a, b)[0] - (10000 + c1) / (12500 + c1)) < 1e-9


def test_what_lies_outside_of_where_changes_nothing(noisy):
    a, b, where = noisy
    other = np.where(where[..., None], b, 255 - b)
    for measure in (translation.mse, translation.l1, translation.psnr, translation.ssim):
        assert abs(measure(a, b, where) - measure(a, other, where)).max() < 1e-12
        assert abs(measure(a, b) - measure(a, other)).min() > 1e-4


def test_the_background_leaves_a_rim_of_one_pixel():
    masks = np.zeros((2, 5, 6), bool)  # the object of one picture has no rim in the next
    masks[0, 1, 1] = masks[0, 4, 5] = True
    expected = [
        [0, 0, 0, 1, 1, 1],
        [0, 0, 0, 1, 1, 1],
        [0, 0, 0, 1, 1, 1],
        [1, 1, 1, 1, 0, 0],
        [1, 1, 1, 1, 0, 0],
    ]
    first, second = translation.background(masks)
    assert first.astype(int).tolist() == expected and second.all()


def test_attention_iou_at_a_half_and_at_the_best_threshold_of_all():
    maps = np.array([[[0.9, 0.6], [0.3, 0.0]], [[0.4995, 0.2], [0.2, 0.1]]])
    masks = np.array([[[1, 1], [0, 0]], [[1, 0], [0, 0]]], bool)
    # at 0.5: 1 and 0; above 0.3 up to 0.4995: 1 and 1; one threshold for both
    half, best, threshold = translation.attention_iou(maps, masks)
    assert (half, best) == (0.5, 1.0)
    assert 0.3 < threshold < 0.5
    assert localization.THRESHOLDS[500] == 0.5


def test_scores_of_one_direction():
    rng = np.random.default_rng(1)
    images = rng.integers(0, 200, (2, 16, 16, 3)).astype(np.uint8)
    masks = np.zeros((2, 16, 16), bool)
    masks[:, 5:9, 6:12] = True
    truths = np.where(masks[..., None], images + 40, images).astype(np.uint8)
    maps = np.where(masks, 0.4, 0.1)

    def found(results, attention=None):
        parts = {"images": images, "truths": truths, "masks": masks, "attention": attention}
        return {n: (v, m) for n, v, m in translation.scores(results=results, **parts)}

    perfect = found(truths, maps)
    assert perfect["l1_truth"] == perfect["l1_truth_object"] == (0, {})
    assert np.isinf(perfect["background_psnr"][0])
    assert abs(perfect["background_ssim"][0] - 1) < 1e-12
    assert perfect["attention_iou"] == (0, {"threshold": 0.5})
    assert perfect["attention_iou_best"] == (1, {"threshold": 0.101})

    # one picture kept, the other brighter by 10 all over: half the error, and not the mean of PSNRs
    results = images.copy()
    results[1] += 10
    scored = found(results)
    assert "attention_iou" not in scored
    assert abs(scored["background_psnr"][0] - 10 * math.log10(255**2 / 50)) < 1e-12
    assert 0.9 < scored["background_ssim"][0] < 1
    share = masks[0].mean()
    expected = (40 * share + 30 * share + 10 * (1 - share)) / 2 / 255
    assert abs(scored["l1_truth"][0] - expected) < 1e-12
    assert abs(scored["l1_truth_object"][0] - 35 / 255) < 1e-12


@pytest.mark.parametrize("size", [8, 16])
def test_pictures_without_a_window_have_no_ssim(size):
    masks = np.zeros((2, size, size), bool)
    masks[:, 3:-3, 3:-3] = True  # and no middle of a window is beside it
    images = np.zeros((2, size, size, 3), np.uint8)
    rows = translation.scores(images=images, results=images + 1, truths=images, masks=masks)
    assert [name for name, *_ in rows] == ["background_psnr", "l1_truth", "l1_truth_object"]


@pytest.mark.parametrize(
    "call",
    [
        lambda a, m: translation.mse(a, a[:1]),
        lambda a, m: translation.psnr(a[0], a[0]),
        lambda a, m: translation.l1(a, a, m & False),
        lambda a, m: translation.mse(a, a, m.astype(float)),
        lambda a, m: translation.ssim(a[:, :10], a[:, :10]),
        lambda a, m: translation.ssim(a, a, m & (np.arange(12) < 5)),
        lambda a, m: mask_health.health(a[..., :1], softmax=True),
        lambda a, m: mask_health.health(a + 1, softmax=False),
        lambda a, m: mask_health.health(a[0], softmax=False),
    ],
)
def test_what_does_not_fit_is_refused(call):
    with pytest.raises(ValueError):
        call(np.full((2, 12, 12, 3), 0.5), np.ones((2, 12, 12), bool))


def test_health_of_a_sigmoid_mask_by_hand():
    found = mask_health.health(grey([[0.0, 0.5], [1.0, 0.25]]), softmax=False)
    entropy = (0 + 1 + 0 + (0.25 * 2 + 0.75 * math.log2(4 / 3))) / 4
    assert found["mask1_mean"] == found["foreground_mean"] == 0.4375
    assert found["mask1_low"] == found["foreground_low"] == 0.25
    assert found["mask1_high"] == found["foreground_high"] == 0.25
    assert abs(found["mask1_entropy"] - entropy) < 1e-12
    assert abs(found["entropy"] - entropy) < 1e-12


def test_health_of_softmax_masks_by_hand():
    """Two pixels, three masks: an even one, and one that is all background."""
    masks = np.array([[[[1 / 3, 1 / 3, 1 / 3], [0, 0, 1]]]])
    found = mask_health.health(masks, softmax=True)
    assert abs(found["entropy"] - 0.5) < 1e-12  # (1 + 0) / 2
    assert abs(found["foreground_mean"] - 1 / 3) < 1e-12  # 1 less the last
    assert (found["foreground_low"], found["foreground_high"]) == (0.5, 0)
    assert (found["mask1_low"], found["mask3_low"], found["mask3_high"]) == (0.5, 0, 0.5)
    assert abs(found["mask3_mean"] - 2 / 3) < 1e-12
    binary = math.log2(3) - 2 / 3  # of a third
    assert abs(found["mask2_entropy"] - binary / 2) < 1e-12
    assert len(found) == 3 * 4 + 3 + 1


def test_a_collapsed_foreground_is_named_with_what_helps():
    def warning(foreground, collapsed=1.0, **more):
        """Of 1,000 pixels that share collapsed, the others 0.5."""
        mask = np.where(np.arange(1000) < 1000 * collapsed, foreground, 0.5).reshape(1, 1, 1000, 1)
        masks = np.concatenate([mask / 2, mask / 2, 1 - mask], -1)
        return {
            mask_health.warning(mask_health.health(each, softmax=softmax), **more)
            for each, softmax in ((mask, False), (masks, True))
        }

    (low,) = warning(0.01)
    assert low.startswith("foreground mask: 100.0 % of it is below 0.05, nothing is changed")
    (high,) = warning(0.99, name="mask of a -> b")
    assert high.startswith("mask of a -> b: 100.0 % of it is above 0.95, the whole picture")
    for line in (low, high):
        assert "\n" not in line
        assert all(word in line for word in ("total variation", "pixel loss", "curriculum"))
    assert warning(0.99, 0.992) != {None} and warning(0.01, 0.992) != {None}
    assert warning(0.99, 0.98) == warning(0.01, 0.98) == warning(0.5) == {None}
