"""Model cards and the overview pages of annotated and of translated images."""

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest

from attention_zoo.common.images import heat, png
from attention_zoo.common.tables import markdown
from attention_zoo.reports import overview
from attention_zoo.reports.cards import card, front_matter, hub_card
from attention_zoo.zoo import registry

CARDS = Path(__file__).parents[1] / "docs" / "weights"
ORIGIN = {"command": "python main.py --model=dcgan", "steps": 900, "of_steps": 1000, "seed": 3}
ORIGIN |= {"commit": "0123abc"}
MEASURED = {"extractor": "resnet9-cifar10", "digest": "9c1be0f2", "samples_seed": 5}
ENTRY = registry.Weights(
    file="dcgan-mine.npz",
    sha256="ab" * 32,
    network="generator",
    options={},
    probe=[],
    dataset="cifar10",
    scores={"fid_x_10k_test": 12.345678, "kid_x_10k_test": 0.5},
    origin=ORIGIN,
    license="Apache-2.0",
)
SPEC = dataclasses.replace(registry.get("dcgan"), reported={"fid | a": 30.0}, deviations=("D1.",))


def test_a_card_has_scores_origin_and_file():
    text = card(SPEC, "mine", "there/mine", ENTRY)
    assert text.startswith("# dcgan:mine\n\nimage generation: Radford")
    assert "| `fid_x_10k_test` | 12.3457 |\n| `kid_x_10k_test` | 0.5 |" in text
    assert "| fid \\| a | 30 |" in text and "- D1." in text
    assert "On `cifar10`, 900 of 1,000 steps, seed 3, commit `0123abc`" in text
    assert '    attention_zoo.load("dcgan", "there/mine")\n' in text
    assert "\n    python main.py --model=dcgan\n" in text
    assert f"`dcgan-mine.npz`, sha256 `{'ab' * 32}`. Licence: Apache-2.0.\n" in text
    assert "![" not in text and "Features" not in text and "its run" not in text
    assert "\n\n\n" not in text and "$" not in text


def test_a_card_shows_its_picture_commands_and_features():
    entry = dataclasses.replace(ENTRY, origin=ORIGIN | MEASURED | {"run": "ragan"})
    text = card(
        SPEC, "mine", "mine", entry, "dcgan-mine.png", "64 samples", ["do this", "and that"]
    )
    assert "![64 samples](dcgan-mine.png)\n\n64 samples.\n\n    do this\n    and that\n" in text
    assert "Features: `resnet9-cifar10`, digest `9c1be0f2`; samples of seed 5." in text
    assert "These are the weights of its run `ragan`." in text
    without = dataclasses.replace(SPEC, reported={})
    assert "reported" not in card(without, "mine", "mine", entry)


FRONT = """---
license: apache-2.0
library_name: keras
pipeline_tag: unconditional-image-generation
tags:
- attention-zoo
- dcgan
datasets:
- "cifar10"
metrics:
- fid
- kid
model-index:
- name: "dcgan:mine"
  results:
  - task:
      type: unconditional-image-generation
    dataset:
      name: "cifar10"
      type: "cifar10"
    metrics:
    - type: fid
      name: "fid_x_10k_test"
      value: 12.3457
    - type: kid
      name: "kid_x_10k_test"
      value: 0.00005
---

"""


def test_the_front_matter_of_a_hubs_card():
    scores = {"fid_x_10k_test": 12.345678, "kid_x_10k_test": 5e-5, "threshold": 0.3}
    entry = dataclasses.replace(ENTRY, scores=scores | {"is_x_10k": float("nan")})
    row = ("dcgan", "mine", entry, "unconditional-image-generation")
    assert front_matter([row]) == FRONT
    own = dataclasses.replace(entry, dataset='folder:a "b"', scores={}, license="unknown: x.pth's")
    text = front_matter([row, ("resnet9", "t", own, "image-classification")])
    assert "license: other\n" in text and "pipeline_tag" not in text
    assert "- dcgan\n- resnet9\n" in text and text.count("- name:") == 1
    alone = front_matter([("resnet9", "t", dataclasses.replace(own, dataset="arrays"), "x")])
    assert "datasets" not in alone and "model-index" not in alone


def test_a_hubs_card_is_read_as_yaml_and_markdown():
    yaml = pytest.importorskip("yaml")
    scored = dataclasses.replace(ENTRY, dataset='folder:a "b"')
    row = ("dcgan", "mine", scored, "unconditional-image-generation")
    start, front, text = hub_card("# T\n\ntext\n", [row], ["dcgan-old.md"]).split("---\n")
    assert start == ""
    assert yaml.safe_load(front) == {
        "license": "apache-2.0",
        "library_name": "keras",
        "pipeline_tag": "unconditional-image-generation",
        "tags": ["attention-zoo", "dcgan"],
        "metrics": ["fid", "kid"],
        "model-index": [
            {
                "name": "dcgan:mine",
                "results": [
                    {
                        "task": {"type": "unconditional-image-generation"},
                        "dataset": {"name": 'folder:a "b"', "type": "folder-a--b-"},
                        "metrics": [
                            {"type": "fid", "name": "fid_x_10k_test", "value": 12.3457},
                            {"type": "kid", "name": "kid_x_10k_test", "value": 0.5},
                        ],
                    }
                ],
            }
        ],
    }
    assert text.startswith("\n# T\n\ntext\n\n## This repository\n\n`OWNER/NAME` stands")
    assert text.endswith("other weights too: [dcgan-old](dcgan-old.md).\n")
    assert "other weights" not in hub_card("# T\n", [row])


@pytest.mark.parametrize("name", registry.names())
def test_every_published_model_has_a_card(name):
    spec = registry.get(name)
    for tag, entry in spec.weights.items():
        if "file" in entry.origin:  # imported, with a card by hand
            text = (CARDS / f"{name}-{tag}.md").read_text()
            assert entry.origin["file"].split()[0] in text and entry.license in text
            continue
        text = card(spec, tag, tag, entry)
        assert entry.sha256 in text and all(f"`{metric}`" in text for metric in entry.scores)


def test_a_table_in_markdown():
    assert markdown([("a", "b"), ("1|2", "")]) == "| a | b |\n|---|---|\n| 1\\|2 |  |\n"


def test_the_drawing_of_an_annotated_image():
    image = np.full((8, 8, 3), 100, np.uint8)
    attention = np.zeros((8, 8))
    attention[2:6, 2:6] = 1
    mask = attention > 0
    mask[2:4, 4:6] = False
    drawn = overview.annotation(image, attention, mask)
    assert drawn.shape == (19 + 112, 3 * 116 + 44, 3)  # each pixel is 14 x 14
    shown, seen, box = (drawn[19::14, x : x + 112 : 14] for x in (0, 116, 232))
    assert (shown == 100).all()
    assert seen[3, 3].tolist() == heat(image, attention)[3, 3].tolist() != seen[0, 0].tolist()
    assert (box[2, 2:6] == 255).all() and (box[5, 2:6] == 255).all()
    assert (box[2:6, [2, 5]] == 255).all()
    assert box[3, 3].tolist() == [255, 64, 64] and box[4, 3].tolist() == [100] * 3
    none = overview.annotation(image, attention * 0, np.zeros((8, 8), bool))
    assert (none[19:, 232:344] == 100).all()


def test_the_overview_is_one_escaped_file():
    pictures = [("<a>.png", png(np.zeros((4, 12, 3), np.uint8)))]
    page = overview.annotations("Soft-CAM of x, <b>", 1200, 900, pictures)
    assert "<h1>1,200 annotated images</h1>" in page
    assert "Soft-CAM of x, &lt;b&gt;; 900 of them with an object. The first 1:" in page
    assert "&lt;a&gt;.png: image, map, mask and box" in page and "<a>" not in page
    assert len(re.findall('src="data:image/png;base64,', page)) == 1 and "https://" not in page


def test_a_translation_stands_beside_its_image_and_its_attention():
    image = np.full((8, 8, 3), 100, np.uint8)
    translated, attention = image + 50, np.linspace(0, 1, 64).reshape(8, 8)
    drawn = overview.translation(image, translated, attention)
    assert drawn.shape == (19 + 112, 3 * 116 + 44, 3)
    shown, made, seen = (drawn[19::14, x : x + 112 : 14] for x in (0, 116, 232))
    assert (shown == image).all() and (made == translated).all()
    assert (seen == heat(image, attention)).all()
    assert overview.translation(image, translated).shape == (19 + 112, 2 * 116 - 4, 3)


def test_the_overview_of_translations_says_which_mask_is_the_background():
    pictures = [("a.png", png(np.zeros((4, 12, 3), np.uint8)))]
    page = overview.translations("Translated a2b by x", 30, 10, pictures)
    assert "<h1>30 translated images</h1>" in page
    assert "Translated a2b by x. The first 1: image, translation and attention." in page
    assert "masks/NAME_10.png is the background" in page
    for masks, columns in ((1, "image, translation and attention"), (0, "image and translation")):
        page = overview.translations("Translated a2b by x", 30, masks, pictures)
        assert f"The first 1: {columns}.</p>" in page
