"""The gallery: its pictures, its texts, its page, and the site that shows it."""

import io
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from attention_zoo import zoo
from attention_zoo.cli import main
from attention_zoo.common.errors import UsageError
from attention_zoo.common.images import heat, to_uint8
from attention_zoo.datasets import cells, creatures, rendered, scenarios, table
from attention_zoo.experiments import gallery
from attention_zoo.reports import gallery as pages
from attention_zoo.tasks import base, classification, generation, guided, translation
from attention_zoo.tasks.base import Origin

ROOT = Path(__file__).parents[1]
GREY = np.full((3, 4, 4, 3), 100, np.uint8)


def test_examples_are_drawn_as_the_data_sets_are():
    animals = rendered.examples("creatures", 9, 16)
    assert animals["image"].shape == (9, 16, 16, 3) and animals["image"].dtype == np.uint8
    assert animals["label"].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 0]
    rng = np.random.default_rng((1, 2))
    expected = creatures.render(rng, label=2, size=16)["image"]
    assert np.array_equal(animals["image"][2], expected)
    stained = rendered.examples("cells/tiny", 2, 16)
    expected = cells.render(np.random.default_rng((1, 0)), 2, label=[0, 1], intensity=1, size=16)
    assert np.array_equal(stained["image"], expected["image"].repeat(3, -1))
    (striped,) = rendered.examples("creatures/plain2striped", 1, 16, "b")["image"]
    assert np.array_equal(striped, scenarios.plain2striped("test_b", 0, 16)["image"])
    many = rendered.examples("creatures/many", 1, 16)
    assert np.array_equal(many["classes"][0], scenarios.many("test", 0, 16)["classes"])


def test_a_crop_shows_the_box_alone():
    (small,) = rendered.examples("creatures/crops", 1, 16)["image"]
    found = creatures.render(np.random.default_rng((1, 0)), label=0, size=32)
    assert small.shape == (16, 16, 3)
    ymin, xmin, ymax, xmax = found["bbox"]
    assert max(ymax - ymin, xmax - xmin) < 0.95  # so that the crop is not the picture
    whole = np.asarray(Image.fromarray(found["image"]).resize((16, 16), Image.Resampling.BICUBIC))
    assert not np.array_equal(small, whole)


@pytest.mark.parametrize("name", ["cifar10", "celeb_a", "voc2012:PATH", "folder:x", "imagenet"])
def test_other_data_sets_are_not_rendered(name):
    assert rendered.examples(name, 2, 16) is None


def test_pictures_lie_in_rows_of_groups():
    columns = {"one": GREY, "two": GREY + 1}
    alone = base.exhibited(columns)
    assert alone.shape == (19 + 3 * 116 - 4, 2 * 116 + 44, 3)
    assert np.array_equal(base.exhibited(columns, scale=False), alone[:, : 2 * 116 - 4])
    side = base.exhibited(columns, groups=2, scale=False)  # the third image has no neighbour
    assert side.shape == (19 + 112, 4 * 116 - 4, 3)
    assert [int(side[30, 116 * i, 0]) for i in range(4)] == [100, 101, 100, 101]
    single = {"one": GREY[:1]}
    assert base.exhibited(single, groups=2, scale=False).shape == (19 + 112, 112, 3)
    many = {"one": GREY.repeat(3, 0)}
    assert base.exhibited(many, scale=False).shape == (19 + 4 * 116 - 4, 112, 3)


class Translates:
    """A translator with one mask, or three."""

    def __init__(self, count):
        self.masks = np.zeros((3, 4, 4, count))

    def translate(self, images):
        return translation.Translation(images, self.masks)


def test_a_translator_shows_its_masks_and_the_truth():
    examples = {"image": GREY, "truth": GREY}
    ((caption, one),) = translation.exhibit(Translates(1), examples)
    assert "attention" in caption and "truth" in caption
    assert one.shape[1] == 4 * 116 + 44  # image, translation, attention, truth
    ((caption, three),) = translation.exhibit(Translates(3), {"image": GREY})
    assert "truth" not in caption and three.shape[1] == 6 * 116 + 44


class Explains:
    """A generator whose discriminator sees the left half."""

    capabilities, network = {"sample", "explain"}, SimpleNamespace(layers=[])

    def sample(self, count):
        return GREY[:1].repeat(count, 0)

    def explain(self, images):
        return np.broadcast_to([1, 1, 0, 0], images.shape[:3])


def test_a_discriminator_looks_at_images_or_else_at_samples():
    (first, samples), (caption, seen) = generation.exhibit(Explains(), None)
    assert (first, samples.shape) == ("Samples", (12, 28, 3))
    assert caption.startswith("Samples, and") and seen.shape == (19 + 4 * 116 - 4, 4 * 116 + 44, 3)
    assert (seen[19, :112] == 100).all() and (seen[19, 116] != seen[19, 227]).all()
    _, (caption, seen) = generation.exhibit(Explains(), {"image": GREY + 50})
    assert caption.startswith("Images, and") and (seen[19, :112] == 150).all()


class Guided:
    """Sees class 1 at the left, surely, and class 0 nowhere."""

    maps = np.zeros((3, 2, 4, 4))
    maps[:, 1, :, :2] = 1

    def explain(self, images):
        return self.maps

    def likeliest_attention(self, images):
        return images, self.maps[:, ::-1], (), ("likeliest class", "second class")

    def classify(self, images):
        return guided.Classification(np.zeros((3, 2)), np.array([[0.1, 0.9]] * 3))


def test_pseudo_labels_are_those_of_the_classes_of_an_image():
    ((_, picture),) = guided.exhibit(Guided(), {"image": GREY})
    assert picture.shape[1] == 4 * 116 + 44
    labels = picture[19 : 19 + 112, 3 * 116 : 3 * 116 + 112]
    assert (labels[:, :56] == (0, 128, 0)).all() and (labels[:, 56:] == 0).all()
    known = {"image": GREY, "labels": np.zeros((3, 2)), "classes": np.ones((3, 4, 4, 1), np.uint8)}
    ((_, picture),) = guided.exhibit(Guided(), known)
    assert (picture[19 : 19 + 112, 3 * 116 : 3 * 116 + 112] == 0).all()
    assert (picture[19 : 19 + 112, 4 * 116 : 4 * 116 + 112] == (128, 0, 0)).all()


class Names:
    """Answers class 1, with probability 0.75."""

    capabilities = {"classify"}

    def classify(self, images):
        probabilities = np.array([[0.25, 0.75]] * len(images))
        return classification.Classification(np.log(probabilities), probabilities)


def test_a_classifier_shows_its_answers(monkeypatch):
    with monkeypatch.context() as here:  # nothing is shown of its answers
        here.delattr(Names, "classify")
        ((caption, plain),) = classification.exhibit(Names(), {"image": GREY})
    assert caption == "Images" and plain.shape == (19 + 112, 2 * 116 - 4, 3)
    known = {"image": GREY, "names": ("cat", "dog"), "source": "Samples of a:b"}
    ((caption, drawn),) = classification.exhibit(Names(), known)
    assert caption == "Samples of a:b; below, the answer with its probability"
    assert drawn.shape == (plain.shape[0] + 15, plain.shape[1], 3)
    assert np.array_equal(drawn[:131], plain) and (drawn[131:] < 128).any()
    known["label"] = np.array([1, 0, 1])
    ((caption, _),) = classification.exhibit(Names(), known)
    assert "2 of 3 answers are right" in caption


def test_ragan_shows_its_samples_without_attention():
    network = zoo.create("ragan", image_size=32, width=4, encoder_width=4)["generator"]
    options = {"image_size": 32, "latent": 100}
    model = generation.Generator("ragan", {"generator": network}, options, Origin("t", "cifar10"))
    z, bank = generation.latents(8, 100, 0), network.get_layer("bank")
    plain, strengths = model.regional_attention(z)
    assert np.allclose(plain, model.sample_latents(z)) and not strengths.any()  # an empty bank
    layers = np.zeros(bank.bank.shape, "float16")
    layers[:, :, :4] = 3
    bank.bank.assign(layers)
    again, strengths = model.regional_attention(z)
    assert np.array_equal(again, plain) and not np.allclose(plain, model.sample_latents(z))
    assert (strengths[:, :, :12] == 1).all() and (strengths[:, :, 20:] == 0).all()
    _, (caption, drawn) = generation.exhibit(model, None)
    assert "without attention" in caption and drawn.shape[1] == 6 * 132 + 44
    cells = drawn[19:], model.sample(8)[0], to_uint8(plain[0]), strengths[0]
    for i, picture in enumerate((cells[1], cells[2], heat(cells[1], cells[3]))):
        assert np.array_equal(cells[0][:128:4, i * 132 : i * 132 + 128 : 4], picture)
    other = generation.Generator("dcgan", {"generator": Explains.network}, options, Origin("t", ""))
    with pytest.raises(UsageError, match="its generator has no regional attention"):
        other.regional_attention(z)


class Model(base.LoadedModel):
    def __init__(self, dataset, capabilities, size=8):
        super().__init__("resnet9", {}, {"image_size": size}, Origin("t", dataset))
        self.capabilities = capabilities


def test_images_are_samples_of_a_generator_where_they_cannot_be_rendered(monkeypatch):
    loaded = []

    class Samples:
        def sample(self, count):
            return np.full((count, 32, 32, 3), 7, np.uint8)

    monkeypatch.setattr(gallery, "load", lambda *of: loaded.append(of) or Samples())
    found = gallery.examples(Model("cifar10", {"classify"}))
    assert loaded == [("ragan", "cifar10")] and found["image"].shape == (8, 8, 8, 3)  # lowest FID
    assert (found["image"] == 7).all() and found["source"] == "Samples of ragan:cifar10"
    assert found["names"][2] == "bird"
    assert gallery.examples(Model("cifar10", {"sample"})) is None
    assert gallery.examples(Model("stl10", {"classify"})) is None
    drawn = gallery.examples(Model("imagenet", {"classify"}))
    animals = gallery.examples(Model("creatures", {"classify"}))
    assert drawn.keys() == {"image", "source"} and drawn["image"].shape == (8, 8, 8, 3)
    assert np.array_equal(drawn["image"], animals["image"])
    assert animals["names"] == creatures.LABELS
    assert gallery.examples(Model("hep2:x", {"classify"}))["source"].startswith("Drawings of cells")
    assert gallery.examples(Model("cells", {"classify"}))["names"] == cells.LABELS
    assert rendered.class_names("creatures/many") == creatures.LABELS  # of the demo, too


def test_the_texts_have_their_figures():
    entries = {entry.name: entry for entry in gallery.described()}
    assert list(entries) == zoo.names()
    verdict = entries["ragan"].verdict
    assert verdict.startswith("Not reproduced: after 10,000 steps (three seeds, bfloat16) FID is")
    assert "654 of 1,000 samples" in verdict
    assert entries["cyclegan"].ours.startswith("KID x 100 39.0, background PSNR 23.3 dB (`creat")
    assert entries["unit"].ours == "not measured"


def test_the_page_has_a_section_for_each_model_and_asks_nobody():
    drawn = (("tag", "python main.py --set a=1", [("Samples", GREY[0])]),)
    first = pages.Entry("none", "Them", "a task", claim="<b> & `code`", command="python main.py")
    second = pages.Entry("some", "Others", "task", "Use", "", "FID 1", "KID 2", "", drawn)
    third = pages.Entry("blind", "Others", "task", weights=(("tag", "", []),))
    page = pages.gallery([first, second, third])
    assert re.findall('<section id="([^"]+)">', page) == ["some", "blind", "none"]
    assert "&lt;b&gt; &amp; <code>code</code>" in page and page.count("No weights yet.") == 1
    assert page.count("No picture:") == 1 and page.count("<dt>Claim</dt>") == 1
    assert "<dt>Use</dt><dd>Use</dd>" in page
    assert page.count("<dt>Scores</dt><dd>FID, KID: lower is better</dd>") == 1
    assert "<pre>python main.py --set a=1</pre>" in page and "<pre>python main.py</pre>" in page
    assert 'style="width: 480px"' in page and "Samples.</figcaption>" in page
    titles = re.findall("<h3>([^<]+)</h3>|<pre>([^<]+)</pre>", page)
    assert [a or b for a, b in titles][:2] == ["some:tag", "python main.py --set a=1"]
    assert all(source.startswith("data:") for source in re.findall(' src="([^"]+)"', page))
    assert "http" not in re.sub('src="[^"]+"', "", page)


def test_the_command_writes_the_page(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(gallery.zoo, "names", lambda *_: ["dcgan", "vgg16"])
    assert main.main(["--mode=gallery", f"--output={tmp_path / 'out'}"]) == 0
    page = (tmp_path / "out" / "index.html").read_text()
    assert capsys.readouterr().out.splitlines() == [
        "models: dcgan",
        "no weights yet: vgg16",
        f"gallery: {tmp_path / 'out' / 'index.html'}",
    ]
    assert page.count("<h3>dcgan:cifar10</h3>") == 1
    assert page.count("<img ") == 2 == len(zoo.get("dcgan").weights) - 1  # no face
    assert page.index('id="dcgan"') < page.index("No weights yet.")


def test_an_output_that_cannot_be_written_is_refused_before_the_pictures_are_drawn(
    tmp_path, monkeypatch
):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(gallery, "pictures", lambda *_: pytest.fail("drawn"))
    with pytest.raises(UsageError, match="cannot write .*file .*: give another --output"):
        gallery.gallery(tmp_path / "file")


def test_the_site_shows_the_page_that_make_docs_writes():
    recipe = (ROOT / "Makefile").read_text().split("\ndocs:")[1].split("\n\n")[0]
    assert "--mode=gallery --output=site/gallery/page\n" in f"{recipe}\n"
    site = re.search("^site_dir: (.+)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    assert site[1] == "site"
    assert '<iframe src="page/index.html"' in (ROOT / "docs" / "gallery.md").read_text()
    picture = Image.open(io.BytesIO((ROOT / "docs" / "images" / "gallery.png").read_bytes()))
    assert picture.width > 900


def test_the_picture_of_a_card_is_shown_where_there_are_no_images(tmp_path, monkeypatch):
    monkeypatch.setattr(gallery, "load", lambda *_: Model("stl10", {"classify"}))
    monkeypatch.setattr(gallery, "CARDS", tmp_path)
    assert gallery.pictures("resnet9", "cifar10") == []
    Image.fromarray(GREY[0]).save(tmp_path / "resnet9-cifar10.png")
    ((caption, picture),) = gallery.pictures("resnet9", "cifar10")
    assert caption == "The picture of their card" and np.array_equal(picture, GREY[0])


def test_weights_of_people_are_not_loaded_for_a_picture(monkeypatch):
    assert zoo.get("dcgan").weights["faces"].dataset == "folder:faces"
    monkeypatch.setattr(gallery, "load", lambda *_: pytest.fail("loaded"))
    assert gallery.pictures("dcgan", "faces") == []


@pytest.mark.parametrize("name", ["celeb_a", "folder:Faces", "folder:my_faces2", "voc2012:VOC"])
def test_names_of_data_sets_that_show_people(name):
    assert table.shows_people(name)


@pytest.mark.parametrize("name", ["folder:dogs", "folder:surfaces", "facades", "horse2zebra"])
def test_other_names_are_not_of_people(name):
    assert not table.shows_people(name)


def test_the_documentation_has_no_picture_of_weights_of_people():
    people = [
        f"{name}-{tag}.png"
        for name in zoo.names()
        for tag, entry in zoo.get(name).weights.items()
        if table.shows_people(entry.dataset)
    ]
    assert [file for file in people if (gallery.CARDS / file).exists()] == []
