"""Options of explanation, weights of one's own as features, and the study of ATA-GAN's claims."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest

import attention_zoo as az
from attention_zoo import UsageError, zoo
from attention_zoo.evaluate import localization
from attention_zoo.studies import claims
from attention_zoo.tasks import scoring
from attention_zoo.tasks.base import EvaluationRequest
from attention_zoo.tests.helpers import drawn, lines, mistake
from attention_zoo.zoo.layers import cam

DATA = "creatures/biased/tiny"  # 64 + 32 images with masks and labels
GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of published weights, not trained: a classifier twice, and an ATA-GAN taught by the
    second one."""
    place = tmp_path_factory.mktemp("published")
    about = {"dataset": DATA, "scores": {}, "origin": {}, "license": "none"}
    options = {"image_size": 32, "classes": 8, "width": 4}
    for tag, maps in (("soft", "soft"), ("winner", "winner_relu")):
        keras.utils.set_random_seed(0)
        network = zoo.create("resnet9", **options)["classifier"]
        more = {"network": "classifier", "options": {**options, "maps": maps}}
        zoo.save("resnet9", tag, network, about | more, place, exact=True)
    options = zoo.options("ata_gan") | {"image_size": 32, "width": 4}
    options["teacher"] = f"resnet9:{place}/winner"
    network = zoo.create("ata_gan", **options)["annotator"]
    more = {"network": "annotator", "options": options}
    zoo.save("ata_gan", "mine", network, about | more, place, exact=True)
    return place


def pictures(count):
    return np.uint8(127.5 + 127 * drawn(count, 32, 32, 3))


def test_settings_change_the_map_of_published_weights_and_not_their_answers(folder):
    soft = az.load("resnet9", f"{folder}/soft")
    winner = az.load("resnet9", f"{folder}/soft", settings={"maps": "winner_relu"})
    published = az.load("resnet9", f"{folder}/winner")
    images = pictures(3)
    assert np.array_equal(soft.classify(images).logits, winner.classify(images).logits)
    assert np.array_equal(winner.explain(images), published.explain(images))
    assert abs(soft.explain(images) - winner.explain(images)).max() > 0.05
    assert winner.provenance()["settings"] == {"maps": "winner_relu"}
    assert "settings" not in published.provenance()
    for settings, line in (
        ({"maps": "max"}, "unknown maps 'max'"),
        ({"width": 8}, "does not fit classifier"),
        ({"image_size": 64}, "image_size=64: there are classes=8, maps=soft"),
    ):
        with pytest.raises(UsageError, match=line):
            az.load("resnet9", f"{folder}/soft", settings=settings)


def test_settings_change_the_map_of_a_run(tmp_path):
    shutil.copytree(GOLDEN / "resnet9" / "run", tmp_path / "run")
    soft = az.open_run(tmp_path / "run")
    other = az.open_run(tmp_path / "run", settings={"maps": "activation"})
    size = soft.image_size
    images = np.uint8(127.5 + 127 * drawn(2, size, size, 3))
    expected = cam.explained(soft.network, "activation")(np.float32(images / 127.5 - 1))[1]
    found = localization.prepared(np.asarray(expected), size)
    assert abs(other.explain(images) - found).max() < 1e-3
    assert abs(soft.explain(images) - found).max() > 0.05
    with pytest.raises(UsageError, match="with these settings does not fit resnet9: unknown maps"):
        az.open_run(tmp_path / "run", settings={"maps": "max"})


def test_the_command_line_sets_the_map(folder, capsys, tmp_path):
    flags = ["--mode=evaluate", "--metrics=localization", "--model=resnet9", f"--dataset={DATA}"]
    flags.append(f"--weights={folder}/soft")
    soft, relu, published = (
        [json.loads(line) for line in lines(capsys, *flags, *more)]
        for more in ([], ["--set=maps=winner_relu"], [f"--weights={folder}/winner"])
    )
    assert [row["value"] for row in relu] == [row["value"] for row in published]
    assert [row["value"] for row in soft] != [row["value"] for row in relu]
    assert relu[0]["settings"] == {"maps": "winner_relu"}
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(az.common.images.png(pictures(1)[0]))
    flags = ["--mode=annotate", "--model=resnet9", f"--weights={folder}/soft", "--set=maps=winner"]
    lines(capsys, *flags, f"--input={tmp_path / 'in'}", f"--output={tmp_path / 'out'}")
    held = json.loads((tmp_path / "out" / "annotations.json").read_text())
    assert held["info"]["description"].startswith("attention map (winner) of")


def test_the_teacher_shows_the_map_that_its_weights_were_published_with(folder):
    teacher = zoo.create("ata_gan", image_size=32, width=4, teacher=f"resnet9:{folder}/winner")[
        "teacher"
    ]
    x = drawn(2, 32, 32, 3)
    network = zoo.load("resnet9", f"{folder}/soft")
    expected = np.asarray(cam.explained(network, "winner_relu")(x, training=False)[1])
    assert abs(np.asarray(teacher(x, training=False)) - expected).max() < 1e-6
    assert abs(expected - np.asarray(cam.explained(network)(x, training=False)[1])).max() > 1e-2


def test_weights_elsewhere_serve_as_features(folder):
    found = scoring.extractor(f"zoo:resnet9:{folder}/soft", None, DATA)
    network = zoo.load("resnet9", f"{folder}/soft")
    logits = found.run(pictures(2))["logits"]
    assert abs(logits - np.asarray(network(np.float32(pictures(2) / 127.5 - 1)))).max() < 1e-4
    held = json.loads((folder / "manifest.json").read_text())["resnet9"]["soft"]
    assert (found.name, found.digest) == ("resnet9-soft", held["sha256"][:16])
    same = scoring.extractor(f"zoo:resnet9:{folder}/resnet9-soft.npz", None, DATA)
    assert same.name == "resnet9-soft"  # and so for hf://OWNER/NAME/soft@REVISION
    with pytest.raises(UsageError, match="ata_gan is not a classifier"):
        scoring.extractor(f"zoo:ata_gan:{folder}/mine", None, DATA)


@pytest.mark.slow
def test_the_study_measures_classifiers_and_gans(folder, capsys, tmp_path):
    gan, soft = f"ata_gan:{folder}/mine", f"resnet9:{folder}/soft"
    flags = ["--mode=study", "--study=claims", f"--dataset={DATA}", f"--output={tmp_path}"]
    flags += [f"--runs={soft},{soft}:maps=winner_relu,{gan}", f"--extractor=zoo:{soft}"]
    flags += ["--num=24", "--split=test"]
    assert "need a judge" in mistake(capsys, *flags)
    printed = lines(capsys, *flags, f"--judge={soft}")
    held = json.loads((tmp_path / "claims.json").read_text())
    assert [json.loads(line) for line in printed[:3]] == [
        {key: value} for rows in (held["teachers"], held["gans"]) for key, value in rows.items()
    ][2:]
    teachers, values = held["teachers"], held["gans"][gan]
    assert list(teachers) == ["brightness", "nearness", soft, f"{soft} maps=winner_relu"]
    first, second = list(teachers.values())[2:]
    assert first["accuracy"] == second["accuracy"] and first["iou"] != second["iou"]
    assert sum(map(sum, first["confusion"])) == 32
    assert values["teacher_iou"] == second["iou"]  # whose map is the teacher's
    assert values["share_of_teacher"] == values["discriminator_iou"] / values["teacher_iou"]
    assert sum(values["shares"]) == pytest.approx(1) and len(values["real_shares"]) == 8
    assert {"fid_resnet9-soft_24_test", "recall_resnet9-soft_24_test", "classes"} <= values.keys()
    assert 0 < values["agreement_teacher"] < 1
    text = (tmp_path / "claims.md").read_text()
    assert f"{gan} |" in text and "| nearness | – | – | – |" in text
    names = {path.name for path in tmp_path.glob("*.png")}
    assert len(names) == 3 and "claims_maps.png" in names


def test_weights_whose_data_are_elsewhere_have_maps_but_no_accuracy(folder, tmp_path):
    """As published weights of somebody's own pictures."""
    held = json.loads((folder / "manifest.json").read_text())
    held["resnet9"]["away"] = {**held["resnet9"]["soft"], "dataset": "folder:/nowhere"}
    (tmp_path / "manifest.json").write_text(json.dumps({"resnet9": held["resnet9"]}))
    shutil.copy(folder / held["resnet9"]["away"]["file"], tmp_path)
    request = EvaluationRequest(split="test")
    found = claims.claims([f"resnet9:{tmp_path}/away"], DATA, request=request, output=tmp_path)
    row = found.numbers["teachers"][f"resnet9:{tmp_path}/away"]
    assert "iou" in row and "accuracy" not in row
    assert "resnet9" in found.table and "is right" not in found.table


def test_agreement_of_masks_by_hand():
    ours, theirs = np.zeros((2, 2, 4, 4), bool)
    ours[0, :2], theirs[0, :3] = True, True  # 8 of 12 pixels
    ours[1, 0, 0], theirs[1, 3, 3] = True, True
    found = claims.agreement(ours, theirs, np.array([4, 1]), "x")
    assert found["agreement_x"] == pytest.approx(1 / 3)
    assert found["agreement_x_boxes"] == 0.5
    assert found["agreement_x_by_label"] == {1: 0.0, 4: pytest.approx(2 / 3)}


def test_runs_that_differ_in_their_seed_are_one_row_and_claims_follow_the_rules():
    gans = [
        claims.Opened("a", None, "plain", 0.0),
        claims.Opened("b", None, "taught", 1.0),
        claims.Opened("c", None, "taught", 1.0),
    ]
    row = {"agreement_teacher": 0.7, "agreement_brightness": 0.5}
    generated = {
        "a": {**row, "share_of_teacher": 0.6, "fid_x": 9.0},
        "b": {**row, "share_of_teacher": 0.9, "fid_x": 9.0},
        "c": {**row, "share_of_teacher": 0.8, "fid_x": 11.0},
    }
    rows = claims.grouped(gans, generated)
    assert {name: len(values) for name, (_, values) in rows.items()} == {"a": 1, "b": 2}
    assert claims.spread([0.5]) == "0.500" and claims.spread([]) == "–"
    assert claims.spread([1, 2], ".1f") == "1.5 (1.0 to 2.0)"
    found = {"iou": 0.5, "pointing": 0.9, "accuracy": 0.98, "mean_class_accuracy": 0.97}
    classifiers = [claims.Opened("t", SimpleNamespace(name="resnet18"), "t")]
    teachers = {"brightness": {"iou": 0.6}, "nearness": {"iou": 0.4}, "t": found}
    table = claims.claim_table(classifiers, gans, teachers, rows).splitlines()
    verdicts = {line.split(" | ")[0][2:]: line.split(" | ")[-1][:-2] for line in table[2:]}
    assert verdicts == {
        "t locates the cell": "fails",
        "t is right": "–",
        "a: a regular GAN's discriminator does not locate": "fails",
        "b: with the attention loss it does": "holds",
        "b: it annotates generated images": "–",
        "b: images are no worse than a's": "holds",
    }
