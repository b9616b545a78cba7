"""The report of a run: whole in itself, and what it says of the run is so."""

import base64
import io
import re
from html.parser import HTMLParser

import pytest
from PIL import Image

from attention_zoo.evaluate import report
from attention_zoo.evaluate.two_stage import Stages

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


def grids(*steps):
    return [(step, png(step)) for step in steps]


def material(**changes):
    """Arguments of report.page with something for every section."""
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
    return report.page(**material(**changes))


def figure(text, title):
    """The part of the page that is the figure of a title."""
    (found,) = [f for f in text.split("<figure>") if f"<h3>{title}</h3>" in f]
    return found.split("</figure>")[0]


def points(drawing, style):
    """The points of the curve of a class."""
    (path,) = re.findall(rf'class="{style}" d="M([\d., -]+)h0', drawing)
    return [tuple(map(float, spot.split(","))) for spot in path.split()]


def test_the_page_is_whole_and_well_formed():
    text = written()
    page = Page(text)
    assert page.wrong == []
    assert text.startswith("<!DOCTYPE html>\n")
    assert page.tags["html"] == {"lang": "en"}
    assert "width=device-width" in text
    assert "<title>ragan on cifar10</title>" in text
    assert len(page.images) == 6 and all(image["alt"] for image in page.images)
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
def test_a_page_that_is_not_is_found(broken, wrong):
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
def test_a_section_stands_where_there_is_something_for_it(changes, without):
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
    newest, *rest = Page(text).images
    assert newest["alt"] == f"Samples at step {steps[-1]:,}, the newest"
    assert [image["alt"] for image in rest] == [f"Step {step:,}" for step in shown]
    data = [base64.b64decode(image["src"].split(",")[1]) for image in (newest, *rest)]
    assert data == [png(step) for step in (steps[-1], *shown)]
    assert ("Samples over time" in text) == bool(shown)


def test_four_pictures_of_attention():
    text = written(pictures={"samples": [], "attention": grids(*range(1, 8))})
    assert [image["alt"] for image in Page(text).images[1:]] == [
        "Step 1",
        "Step 3",
        "Step 5",
        "Step 7",
    ]


@pytest.mark.parametrize(
    "size, width, height, enlarged",
    [
        ((16, 8), "640", "320", True),
        ((160, 256), "320", "512", True),
        ((900, 300), "900", "300", False),
    ],
)
def test_a_small_picture_is_enlarged_by_a_whole_number(size, width, height, enlarged):
    text = written(pictures={"samples": [(1, png(1, size))], "attention": []})
    (image,) = Page(text).images
    assert (image["width"], image["height"]) == (width, height)
    assert (image.get("class") == "enlarged") == enlarged


def test_what_users_gave_is_escaped():
    given = material()
    given["record"]["starts"][0]["command"] = ["--run_dir=<script>alert(1)</script>"]
    given["record"]["config"]["dataset"] = 'folder:a"<b>'
    given["record"]["config"] |= {"options": {"<i>": "<u>"}, "<kbd>": {"a": 1}}
    given["record"]["starts"][0]["versions"] = {"keras": "<var>"}
    given["rows"].append({"step": 1, "<s>_loss": 1.0})
    given["evaluations"].append({"metric": "fid_<q>", "value": 1.0, "dataset": "<em>"})
    given["spec"] |= {"paper": "<cite>", "source": "<dfn>", "task": "<sub>"}
    given["spec"] |= {"reported": {"<tt>": 1.0}, "deviations": ("<del>",)}
    text = report.page(**given)
    page = Page(text)
    assert page.wrong == []
    harmless = "html head meta title style body header h1 h2 h3 section p div figure img figcaption"
    harmless += " table thead tbody tr th td svg line path text br ul li pre"
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
    assert "Scores of different names (protocols) do not compare." in written()


@pytest.mark.parametrize(
    "name, better",
    [("sfid_a_1k_test", "lower"), ("kid_blocks10_a_1k_test", "lower"), ("swd_1024_train", "lower")]
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
    page = Page(written(rows=rows, evaluations=[]))
    start = page.headings.index((2, "Curves")) + 1
    assert [text for _, text in page.headings[start : start + 5]] == [
        "d_loss and g_loss",
        "fake_logit and real_logit",
        "accuracy and accuracy_test",
        FID,
        "Attention",
    ]


def test_a_curve_runs_from_left_to_right_and_up():
    rows = [{"step": step, "loss": float(step)} for step in (0, 50, 100)]
    spots = points(figure(written(rows=rows, pictures={}), "loss"), "c0")
    assert [x for x, _ in spots] == [50, 189, 328]
    low, middle, high = (y for _, y in spots)
    assert (low, middle, high) == pytest.approx((178.4, 102.0, 25.6), abs=0.11)


@pytest.mark.parametrize("stages", [Stages(500, 750, 800, 900), Stages(500, 750), Stages()])
def test_stages_are_marked_in_the_curves_of_the_metric_and_of_d_loss(stages):
    text = written(stages=stages)
    places = {500: 189.0, 750: 258.5, 800: 272.4, 900: 300.2}
    for title in ("d_loss and g_loss", FID):
        drawing = figure(text, title)
        for style in ("best", "rest"):
            steps = (getattr(stages, f"score_{style}"), getattr(stages, f"loss_{style}"))
            drawn = re.findall(rf'<line class="{style}" x1="([\d.]+)"', drawing)
            assert list(map(float, drawn)) == [places[step] for step in steps if step]
        known = "1: the metric last improved at step 500 (dotted), known at 750 (line)"
        assert (known in drawing) == (stages.score_best == 500)
        assert ("1: the metric is not yet at rest" in drawing) == (stages.score_best is None)
        known = "2: d_loss last improved at step 800 (dotted), known at 900 (line)"
        assert (known in drawing) == (stages.loss_best == 800)
        assert ("2: d_loss is not yet at rest" in drawing) == (stages.loss_best is None)
    assert "last improved" not in figure(text, INCEPTION_SCORE)


def test_a_run_without_stages_has_no_marks():
    text = written(stages=None)
    assert 'class="rest"' in written()
    assert 'class="rest"' not in text and "at rest" not in text


def test_values_that_are_not_finite_are_left_out():
    values = [1.0, float("nan"), 3.0, float("inf"), float("-inf"), 2.0]
    rows = [{"step": i, "g_loss": v, FID: v} for i, v in enumerate(values, 1)]
    rows.append({"step": 7, "d_loss": float("nan")})
    text = written(rows=rows, evaluations=[], stages=None)
    assert [x for x, _ in points(figure(text, "g_loss"), "c0")] == [50.3, 50.8, 51.7]
    assert Page(text).row(FID)[2] == "1 at step 1"
    assert not re.search(r"\b(nan|inf)\b", text)
    assert "d_loss" not in text


@pytest.mark.parametrize("value", [0.0, 0.1, -3.0, 1e6, 1e-9])
def test_a_constant_curve_is_drawn_in_the_middle(value):
    rows = [{"step": step, "loss": value} for step in range(1, 301)]
    drawing = figure(written(rows=rows), "loss")
    assert {y for _, y in points(drawing, "c0")} == {102.0}
    assert len(re.findall('class="grid"', drawing)) >= 2


def test_a_long_curve_is_thinned_and_keeps_its_spikes_and_its_mean():
    rows = [{"step": step, "loss": float(step % 2)} for step in range(1, 5001)]
    rows[2510]["loss"] = 1e4
    drawing = figure(written(rows=rows), "loss")
    raw, mean = points(drawing, "c0 raw"), points(drawing, "c0")
    assert 300 <= len(raw) <= 400 and 300 <= len(mean) <= 400
    assert min(y for _, y in raw) < 30 and min(y for _, y in mean) < 30  # the frame begins at 18
    assert max(y for _, y in mean[:150]) - min(y for _, y in mean[:150]) < 5
    assert "the mean of 100 values" in drawing
    short = figure(written(rows=rows[:100]), "loss")
    assert "raw" not in short and "mean" not in short


def test_the_confusion_of_classes():
    page = Page(written())
    assert page.rows[page.rows.index(["", "0", "1", "2", "right"]) + 1 :][:3] == [
        ["0", "3", "1", "0", "75.0%"],
        ["1", "1", "3", "0", "75.0%"],
        ["2", "0", "0", "0", "–"],
    ]
    assert '<td style="--p: 0.87">3</td><td style="--p: 0.50">1</td>' in written()


def test_settings_and_commands_with_the_versions_that_they_ran_under():
    given = material()
    first = given["record"]["starts"][0]
    later = {**first, "versions": {**first["versions"], "commit": None}}
    given["record"]["starts"] = [first, first, later]
    text = report.page(**given)
    page = Page(text)
    assert page.row("width") == ["width", "48"]
    assert page.row("beta_1") == ["beta_1", "0.5"]
    assert page.row("batch_size") == ["batch_size", "64"]
    assert text.count("python main.py --model=ragan --set width=48") == 3
    assert text.count("python 3.11.7, keras 3.15.1") == 2
    assert text.count("commit 0123abc") == 1 and "commit None" not in text
    assert "<li><code>width</code> is 48 &amp; not 64.</li>" in text
