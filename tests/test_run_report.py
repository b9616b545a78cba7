"""The report of a run: one file that loads nothing else, and its content is that of the run."""

import base64
import io
import re
from concurrent.futures import ThreadPoolExecutor
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from attention_zoo.evaluate import protocol
from attention_zoo.evaluate.two_stage import Stages
from attention_zoo.reports import plots, scores
from attention_zoo.reports.run_report import report

FID = "fid_resnet9-cifar10_10k_test"
INCEPTION_SCORE = "is_resnet9-cifar10_10k"
VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """headings: (level, text). rows: the texts of a table row's cells. images: their attributes.
    wrong: tags that do not balance, and whatever is fetched or run."""

    def __init__(self, text):
        super().__init__()
        self.open, self.wrong, self.headings, self.rows, self.images = [], [], [], [], []
        self.tags = {}
        self.feed(text)
        self.close()
        self.wrong += self.open
        self.wrong += re.findall(r"url\(|@import", text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.setdefault(tag, attrs)
        self.open += [] if tag in VOID else [tag]
        if tag in ("script", "link", "iframe", "object", "base"):
            self.wrong.append(tag)
        for name, value in attrs.items():
            fetched = name in ("src", "srcset", "href", "xlink:href", "data")
            if fetched and not value.startswith("data:") or "//" in value and name != "src":
                self.wrong.append(value)
        if tag == "img":
            self.images.append(attrs)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if re.fullmatch("h[1-6]", tag):
            self.headings.append((int(tag[1]), ""))

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.wrong.append(f"/{tag}")

    def handle_data(self, data):
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data
        if self.open and re.fullmatch("h[1-6]", self.open[-1]):
            level, text = self.headings[-1]
            self.headings[-1] = (level, text + data)

    def sections(self):
        return [text for level, text in self.headings if level == 2]

    def row(self, start):
        """The only row whose first cell starts so."""
        (found,) = [row for row in self.rows if row[0].startswith(start)]
        return found


def png(shade, size=(16, 8)):
    out = io.BytesIO()
    Image.new("RGB", size, (shade % 256, shade // 256, 0)).save(out, "png")
    return out.getvalue()


class Stored:
    """A file of a PNG, as far as a report uses it."""

    def __init__(self, data):
        self.data = data

    def read_bytes(self):
        return self.data


def grids(*steps):
    return [(step, Stored(png(step))) for step in steps]


def material(**changes):
    """Arguments of `report` with something for every section."""
    config = {"model": "ragan", "dataset": "cifar10", "image_size": 32, "batch_size": 64}
    config |= {"steps": 2000, "seed": 7, "loss": "dcgan", "data": "cifar10-3.0.2"}
    config |= {"options": {"width": 48}, "hparams": {"beta_1": 0.5}, "every": {"log": 10}}
    config |= {"stop": {"metric": FID, "higher": False, "window": 2, "tolerance": 0.01}}
    start = {"command": ["--model=ragan", "--set", "width=48"]}
    start["versions"] = {"python": "3.11.7", "keras": "3.15.1", "commit": "0123abc"}
    rows = [{"step": s, "d_loss": s / 1000, "g_loss": 2.0} for s in range(100, 1001, 100)]
    rows += [{"step": 1000, "real_logit": 1.0, "fake_logit": -1.0}]
    for step, fid, score in ((250, 31.0, 4.0), (500, 25.0, 6.5), (1000, 27.0, 6.0)):
        rows.append({"step": step, FID: fid, INCEPTION_SCORE: score})
    judged = {"dataset": "cifar10", "split": "test", "count": 10000, "seed": 3}
    judged |= {"extractor": "resnet9-cifar10", "digest": "9c1be0f2"}
    arguments = {
        "record": {"config": config, "starts": [start]},
        "spec": {
            "paper": "Wang et al.: Regional attention",
            "source": "https://doi.org/10.1049/el.2018.8251",
            "task": "image generation",
            "reported": {"fid_cifar10 (Table 1)": 25.43},
            "deviations": ("`width` is 48 & not 64.",),
        },
        "rows": rows,
        "evaluations": [
            {"metric": FID, "value": 33.5, "step": 500, **judged},
            {"metric": FID, "value": 26.25, "step": 1000, "deviation": 0.5, **judged},
            {
                "metric": "accuracy_8_test",
                "value": 0.75,
                "confusion": [[3, 1, 0], [1, 3, 0], [0] * 3],
            },
        ],
        "pictures": {"samples": grids(500, 1000), "attention": grids(500, 1000)},
        "stages": Stages(500, 750, 800, 900),
    }
    return arguments | changes


def written(**changes):
    return report(**material(**changes))


def figure(text, title):
    """The part of the page that is the figure of a title."""
    (part,) = [f for f in text.split("<figure>") if f"<h3>{title}</h3>" in f]
    return part.split("</figure>")[0]


def photos(page):
    """The images of a page that are no plots."""
    return [image for image in page.images if image.get("class") != "plot"]


def test_the_page_is_one_well_formed_file():
    text = written()
    page = Page(text)
    assert page.wrong == []
    assert text.startswith("<!DOCTYPE html>\n")
    assert page.tags["html"] == {"lang": "en"}
    assert "width=device-width" in text
    assert "<title>ragan on cifar10</title>" in text
    assert len(photos(page)) == 6 and all(image["alt"] for image in page.images)
    levels = [level for level, _ in page.headings]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(b - a <= 1 for a, b in zip(levels, levels[1:]))
    assert "1,000 of 2,000 steps; seed&nbsp;7" in text


@pytest.mark.parametrize(
    "broken, wrong",
    [
        ("<p><b>a</p>", ["/p", "p"]),
        ("<p>a", ["p"]),
        ('<img src="https://a/b.png">', ["https://a/b.png"]),
        ('<a href="b.html">a</a>', ["b.html"]),
        ('<p style="background: //a">a</p>', ["background: //a"]),
        ("<style>p { background: url(a.png) }</style>", ["url("]),
        ("<script>1</script>", ["script"]),
    ],
)
def test_the_parser_of_these_tests_notices_a_fault(broken, wrong):
    assert Page(broken).wrong == wrong


SECTIONS = ["Samples", "Scores", "Curves", "Confusion", "Attention"]
SECTIONS += ["Deviations from the paper", "Settings"]


@pytest.mark.parametrize(
    "changes, without",
    [
        ({}, []),
        ({"pictures": {"samples": [], "attention": grids(1)}}, ["Samples"]),
        ({"pictures": {"samples": grids(1), "attention": []}}, ["Attention"]),
        ({"rows": []}, ["Curves"]),
        ({"evaluations": []}, ["Confusion"]),
        ({"spec": {**material()["spec"], "deviations": ()}}, ["Deviations from the paper"]),
        (
            {
                "rows": [],
                "evaluations": [],
                "pictures": {"samples": [], "attention": []},
                "spec": {**material()["spec"], "reported": {}, "deviations": ()},
                "stages": None,
            },
            SECTIONS[:-1],
        ),
    ],
)
def test_a_section_without_content_is_left_out(changes, without):
    page = Page(written(**changes))
    assert page.sections() == [name for name in SECTIONS if name not in without]
    assert page.wrong == []


@pytest.mark.parametrize(
    "steps, shown",
    [
        (range(100, 2001, 100), [100, 500, 900, 1200, 1600, 2000]),
        ((100, 200, 300), [100, 200, 300]),
        ((100,), []),
    ],
)
def test_the_newest_grid_is_large_and_the_others_lead_to_it(steps, shown):
    text = written(pictures={"samples": grids(*steps), "attention": []})
    newest, *rest = photos(Page(text))
    assert newest["alt"] == f"Samples at step {steps[-1]:,}, the newest"
    assert [image["alt"] for image in rest] == [f"Step {step:,}" for step in shown]
    data = [base64.b64decode(image["src"].split(",")[1]) for image in (newest, *rest)]
    assert data == [png(step) for step in (steps[-1], *shown)]
    assert ("Samples over time" in text) == bool(shown)


def test_four_pictures_of_attention():
    text = written(pictures={"samples": [], "attention": grids(*range(1, 8))})
    chosen = [image["alt"] for image in photos(Page(text))[1:]]
    assert chosen == ["Step 1", "Step 3", "Step 5", "Step 7"]


def test_only_the_pictures_shown_are_read(tmp_path):
    """2,000 grids, of which only those that the page shows exist as files."""
    paths = [(step, tmp_path / f"step_{step:08d}.png") for step in range(1, 2001)]
    for step in (1, 401, 801, 1200, 1600, 2000):
        paths[step - 1][1].write_bytes(png(step))
    images = photos(Page(written(pictures={"samples": paths})))
    assert len(images) == 7
    paths[1599][1].unlink()
    with pytest.raises(FileNotFoundError):
        written(pictures={"samples": paths})


@pytest.mark.parametrize(
    "size, width, height, enlarged",
    [
        ((16, 8), "640", "320", True),
        ((160, 256), "320", "512", True),
        ((900, 300), "900", "300", False),
    ],
)
def test_a_small_picture_is_enlarged_by_a_whole_number(size, width, height, enlarged):
    text = written(pictures={"samples": [(1, Stored(png(1, size)))], "attention": []})
    (image,) = photos(Page(text))
    assert (image["width"], image["height"]) == (width, height)
    assert (image.get("class") == "enlarged") == enlarged


def test_text_of_users_is_escaped():
    given = material()
    given["record"]["starts"][0]["command"] = ["--run_dir=<script>alert(1)</script>"]
    given["record"]["config"]["dataset"] = 'folder:a"<b>'
    given["record"]["config"] |= {"options": {"<i>": "<u>"}, "<kbd>": {"a": 1}}
    given["record"]["starts"][0]["versions"] = {"keras": "<var>"}
    given["rows"].append({"step": 1, "<s>_loss": 1.0})
    given["evaluations"].append({"metric": "fid_<q>", "value": 1.0, "dataset": "<em>"})
    given["spec"] |= {"paper": "<cite>", "source": "<dfn>", "task": "<sub>"}
    given["spec"] |= {"reported": {"<tt>": 1.0}, "deviations": ("<del>",)}
    text = report(**given)
    page = Page(text)
    assert page.wrong == []
    harmless = "html head meta title style body header h1 h2 h3 section p div figure img figcaption"
    harmless += " table thead tbody tr th td span ul li pre"
    assert page.tags.keys() == set(harmless.split())
    assert "python main.py &#x27;--run_dir=&lt;script&gt;alert(1)&lt;/script&gt;&#x27;" in text
    assert page.row("<i>") == ["<i>", "<u>"]


def test_the_latest_evaluation_stands_beside_the_best_of_training_and_the_paper():
    page = Page(written())
    assert page.row(FID) == [
        f"{FID}: lower is better",
        "26.25 ± 0.5",
        "25 at step 500",
        "1,000",
        "10,000",
        "3",
        "cifar10, test, resnet9-cifar10, 9c1be0f2",
    ]
    assert page.row("fid_cifar10") == ["fid_cifar10 (Table 1): lower is better", "25.43"]
    assert page.row(INCEPTION_SCORE)[:3] == [
        f"{INCEPTION_SCORE}: higher is better",
        "–",
        "6.5 at step 500",
    ]
    assert page.row("accuracy_8_test")[:3] == ["accuracy_8_test: higher is better", "0.75", "–"]
    assert "Scores with different names follow different protocols" in written()


@pytest.mark.parametrize(
    "dataset, end",
    [("cifar10", ""), ("cifar10/small", "")]
    + [(name, ", on other data than this run's") for name in ("folder:cifar10", "cells", None)],
)
def test_scores_of_papers_on_other_data_say_so(dataset, end):
    given = material()
    given["record"]["config"]["dataset"] = dataset
    headings = [text for _, text in Page(report(**given)).headings if "papers" in text]
    assert headings == [f"Reported in papers{end}"]


@pytest.mark.parametrize(
    "name, better",
    [("sfid_a_1k_test", "lower"), ("kid_blocks10_a_1k_test", "lower"), ("swd_1024_train", "lower")]
    + [("l1_truth_16_test_a", "lower"), ("background_psnr_16_test_a", "higher")]
    + [("attention_iou_16_test", "higher"), ("attention_loss", None)]
    + [("precision_a_1k_test", "higher"), ("coverage_a", "higher"), ("accuracy_test", "higher")]
    + [("accuracy", None), ("d_loss", None), ("real_logit", None)],
)
def test_which_way_a_score_is_better(name, better):
    rows = [{"step": step, name: value} for step, value in ((1, 2.0), (2, 1.0), (3, 3.0))]
    page = Page(written(rows=rows, evaluations=[]))
    best = {"lower": "1 at step 2", "higher": "3 at step 3"}
    found = [row[2] for row in page.rows if row[0] == f"{name}: {better} is better"]
    assert found == ([best[better]] if better else [])
    assert better or not [row for row in page.rows if row[0].startswith(name)]


def test_curves_of_one_unit_share_a_figure():
    names = ("d_loss", "fake_logit", "g_loss", "real_logit", "accuracy", "accuracy_test", FID)
    rows = [{"step": 1, **dict.fromkeys(names, 1.0)}]
    text = written(rows=rows, evaluations=[])
    assert "d_loss: the loss of the discriminator; g_loss: the loss of the generator; real_" in text
    assert "real images, before any sigmoid; fake_logit: the same for generated images.</p>" in text
    page = Page(text)
    start = page.headings.index((2, "Curves")) + 1
    assert [text for _, text in page.headings[start : start + 5]] == [
        "d_loss and g_loss",
        "fake_logit and real_logit",
        "accuracy and accuracy_test",
        FID,
        "Attention",
    ]


def test_every_metric_of_the_protocol_has_the_direction_that_it_has_there():
    for metric in protocol.METRICS.values():
        for name in metric.names:
            assert scores.better(f"{name}_x_10k") == ("higher" if metric.higher else "lower")


@pytest.mark.parametrize(
    "row, line",
    [
        (
            {"metric": "kid_x_1k_test", "value": 0.0123456, "deviation": 0.00101, "count": 1000},
            "kid_x_1k_test: 0.01235 ± 0.00101, 1,000 images, lower is better",
        ),
        (
            {"metric": "accuracy_24_train", "value": 0.5, "count": 24},
            "accuracy_24_train: 0.5, 24 images, higher is better",
        ),
        ({"metric": "other_24", "value": 261.07, "count": 24}, "other_24: 261.1, 24 images"),
    ],
)
def test_a_score_as_a_line(row, line):
    assert scores.line(row) == line


def test_many_curves_of_one_unit_have_its_name():
    rows = [{"step": 1, **{f"mask_a2b_mask{i}_mean": i / 10 for i in range(3)}}]
    page = Page(written(rows=rows))
    assert (3, "mask_a2b_..._mean") in page.headings


def curve(values, steps=None, last=100, **more):
    """The axes of a plot of one line."""
    points = np.stack([steps or np.arange(1, len(values) + 1), values], 1)
    (axes,) = plots.curves({"loss": points}, last, **more).axes
    return axes


def test_a_curve_is_drawn_over_all_steps_with_a_margin():
    axes = curve([0.0, 50.0, 100.0], [0, 50, 100])
    (line,) = axes.lines
    assert line.get_xydata().tolist() == [[0, 0], [50, 50], [100, 100]]
    assert axes.get_xlim() == pytest.approx((0, 102))
    assert axes.get_xlabel() == "step"
    assert axes.get_ylim() == pytest.approx((-5, 105), abs=0.6)
    assert curve([1.0, 2.0], last=1000).get_xlim() == pytest.approx((0, 1020))


@pytest.mark.parametrize("value", [0.0, 0.1, -3.0, 1e6, 1e-9])
def test_a_constant_curve_is_in_the_middle(value):
    low, high = curve([value] * 300).get_ylim()
    assert low < value < high and (low + high) / 2 == pytest.approx(value)


def test_a_long_curve_is_its_means_within_its_range():
    values = np.arange(1, 5001) % 2.0
    values[2510] = 1e4
    axes = curve(values, last=5000)
    (line,), (band,) = axes.lines, axes.collections
    steps, means = line.get_xydata().T
    assert steps[0] == 25.5 and np.diff(steps).tolist() == [50.0] * 99
    assert means[:50].tolist() == [0.5] * 50 and means[50] == pytest.approx(200.5, abs=0.1)
    corners = band.get_paths()[0].vertices
    assert corners[:, 1].min() == 0 and corners[:, 1].max() == 1e4
    assert axes.get_ylim()[1] < 300  # the spike leaves the frame
    assert not curve(values[:100]).collections


def test_marks_are_labelled_vertical_lines():
    axes = curve([1.0, 2.0], marks=[(20, "1", True), (80, "1", False)])
    drawn = [(line.get_xdata()[0], line.get_linestyle()) for line in axes.lines[1:]]
    assert drawn == [(20, ":"), (80, "-")]
    assert [(t.get_text(), t.get_position()[0]) for t in axes.texts] == [("1", 20), ("1", 80)]


def test_plots_are_svg_with_an_alternative_text():
    page = Page(written())
    drawn = [image for image in page.images if image.get("class") == "plot"]
    assert [image["alt"] for image in drawn][:2] == [
        "d_loss and g_loss over the steps",
        "real_logit and fake_logit over the steps",
    ]
    for image in drawn:
        start, data = image["src"].split(",")
        assert start == "data:image/svg+xml;base64"
        assert ElementTree.fromstring(base64.b64decode(data)).tag.endswith("svg")


def test_plots_can_be_drawn_in_threads():
    def sizes(_):
        return [len(image["src"]) for image in Page(written()).images]

    with ThreadPoolExecutor(4) as pool:
        assert len({tuple(found) for found in pool.map(sizes, range(8))}) == 1


@pytest.mark.parametrize("stages", [Stages(500, 750, 800, 900), Stages(500, 750), Stages()])
def test_stages_are_marked_in_the_curves_of_the_metric_and_of_d_loss(stages, monkeypatch):
    marked, curves = {}, plots.curves

    def noted(lines, last, marks):
        marked[" and ".join(lines)] = [*marks]
        return curves(lines, last, marks)

    monkeypatch.setattr(plots, "curves", noted)
    text = written(stages=stages)
    pairs = ("1", stages.score_best, stages.score_rest), ("2", stages.loss_best, stages.loss_rest)
    marks = [(s, k, d) for k, *ends in pairs if ends[0] for s, d in zip(ends, (True, False))]
    for title in ("d_loss and g_loss", FID):
        assert marked[title] == marks
        drawing = figure(text, title)
        known = "1: the metric last improved at step 500 (dotted line), confirmed at step 750"
        assert (known in drawing) == (stages.score_best == 500)
        assert ("1: the metric has not settled yet" in drawing) == (stages.score_best is None)
        known = "2: d_loss last improved at step 800 (dotted line), confirmed at step 900"
        assert (known in drawing) == (stages.loss_best == 800)
        assert ("2: d_loss has not settled yet" in drawing) == (stages.loss_best is None)
    assert not marked[INCEPTION_SCORE] and "last improved" not in figure(text, INCEPTION_SCORE)


def test_a_run_without_stages_has_no_marks():
    text = written(stages=None)
    assert "settled" not in text and "last improved" not in text


def test_values_that_are_not_finite_are_left_out():
    values = [1.0, float("nan"), 3.0, float("inf"), float("-inf"), 2.0]
    rows = [{"step": i, "g_loss": v, FID: v} for i, v in enumerate(values, 1)]
    rows.append({"step": 7, "d_loss": float("nan")})
    assert scores.series(rows)["g_loss"].tolist() == [[1, 1.0], [3, 3.0], [6, 2.0]]
    text = written(rows=rows, evaluations=[], stages=None)
    assert Page(text).row(FID)[2] == "1 at step 1"
    assert not re.search(r"\b(nan|inf)\b", re.sub('base64,[^"]*', "", text))
    assert "d_loss" not in text


def test_the_confusion_of_classes():
    page = Page(written())
    assert page.rows[page.rows.index(["", "0", "1", "2", "correct"]) + 1 :][:3] == [
        ["0", "3", "1", "0", "75.0%"],
        ["1", "1", "3", "0", "75.0%"],
        ["2", "0", "0", "0", "–"],
    ]
    assert '<td style="--p: 0.87">3</td>\n<td style="--p: 0.50">1</td>' in written()


def test_settings_and_commands_with_the_versions_that_they_ran_under():
    given = material()
    first = given["record"]["starts"][0]
    later = {**first, "versions": {**first["versions"], "commit": None}}
    given["record"]["starts"] = [first, first, later]
    text = report(**given)
    page = Page(text)
    assert page.row("width") == ["width", "48"]
    assert page.row("beta_1") == ["beta_1", "0.5"]
    assert page.row("batch_size") == ["batch_size", "64"]
    assert text.count("python main.py --model=ragan --set width=48") == 3
    assert text.count("python 3.11.7, keras 3.15.1") == 2
    assert text.count("commit 0123abc") == 1 and "commit None" not in text
    assert "<li><code>width</code> is 48 &amp; not 64.</li>" in text
