"""HEp-2 cells in the forms that the contests handed out, drawn small: splits, cuts, mistakes."""

import numpy as np
import pytest
from PIL import Image

from attention_zoo import datasets
from attention_zoo.common.errors import UsageError
from attention_zoo.datasets import cells, hep2, stream
from attention_zoo.experiments import evaluation
from attention_zoo.tasks import scoring

PATTERNS = ("Homogeneous", "Speckled", "Nucleolar", "Centromere", "Golgi", "NuMem")


def save(array, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def one_cell(place, number, grey=100, digits=5, mark="_Mask", size=(12, 10)):
    """A cell (12, 10) lit evenly, and its mask: all but a border of one pixel, or two below."""
    save(np.full(size, grey, np.uint8), place / f"{number:0{digits}d}.png")
    mask = np.zeros(size, np.uint8)
    mask[1:-2, 1:-1] = 255
    save(mask, place / f"{number:0{digits}d}{mark}.png")


def i3a(root, patterns, header="Image ID,Image class", more=""):
    """I3A's form: cells 1, 2, ... of the given patterns, cell n of grey n; `more` ends line n."""
    root.mkdir(parents=True, exist_ok=True)
    rows = [f"{n:05d},{p}{more.format(n)}" for n, p in enumerate(patterns, 1)]
    (root / "gt_training.csv").write_text("\n".join([header, *rows]) + "\n")
    for number in range(1, len(patterns) + 1):
        one_cell(root, number, grey=number)
    return f"hep2:{root}"


def greys(held):
    """The grey of the middle of each picture."""
    return held["image"][:, 8, 8, 0].tolist()


@pytest.fixture
def main_dataset(tmp_path):
    """MIVIA's form: specimens 1 (training) and 4 (test), 60 x 80, of two cells each."""
    root = tmp_path / "Main_Dataset"
    for name, pattern in (("01", "fine_speckled"), ("04", "centromeric")):
        picture = np.zeros((60, 80, 3), np.uint8)
        picture[..., 1] = 20
        rows = ["intensity;id;x;y;type;pattern;minX;minY;maxX;maxY"]
        boxes = [((20, 30), (30, 50)), ((0, 70), (16, 80))]  # top left, bottom right
        for number, ((top, left), (bottom, right)) in enumerate(boxes, 1):
            picture[top:bottom, left:right, 1] = 100 * number
            mask = np.zeros((60, 80), bool)
            mask[top:bottom, left:right] = True
            save(mask, root / "Cells" / "Cell_Masks" / name / f"{number:03d}.png")
            kind = ("positive", "intermediate")[number - 1]
            box = f"{left};{top};{right};{bottom}"
            rows.append(f"{kind};{number};1;1;cell;{pattern};{box}")
        rows.append("positive;3;1;1;artefact;none;0;0;1;1")
        save(picture, root / "Images" / name / f"{name}.bmp")
        (root / "Images" / name / f"{name}.csv").write_text("\r\n".join(rows))
        save(np.zeros((60, 80), bool), root / "Images" / name / f"{name}_mask.bmp")
    return {"name": f"hep2:{root}", "data_dir": tmp_path}


def test_main_dataset_is_split_as_the_contest_was(main_dataset):
    name = main_dataset["name"]
    assert datasets.classes(name) == 6
    assert datasets.has_split(name, "train") and datasets.has_split(name, "test")
    train, test = (datasets.arrays(split=split, **main_dataset) for split in ("train", "test"))
    assert sorted(train) == sorted(test) == ["bbox", "image", "intensity", "label", "mask"]
    assert train["label"].tolist() == [2, 2] and test["label"].tolist() == [4, 4]
    assert train["intensity"].tolist() == test["intensity"].tolist() == [1, 0]
    assert hep2.ICPR[2] == "fine speckled" and hep2.ICPR[4] == "centromere"
    assert train["image"].shape == (2, 64, 64, 3) and train["image"].dtype == np.uint8


def test_main_dataset_cuts_each_cell_out_with_its_surroundings(main_dataset):
    """Cell 1 is 20 wide: cut 30 x 30 about it. Cell 2, 16 high in a corner, has 20 x 14 with its
    margins, so that 20 x 20 are cut."""
    held = datasets.arrays(image_size=30, **main_dataset)
    image, mask = held["image"][0, ..., 0], held["mask"][0, ..., 0]
    expected = np.zeros((30, 30), bool)
    expected[10:20, 5:25] = True
    np.testing.assert_array_equal(image, np.where(expected, 100, 20))
    np.testing.assert_array_equal(mask, np.where(expected, 255, 0))
    assert held["bbox"][0].tolist() == np.float32([10 / 30, 5 / 30, 20 / 30, 25 / 30]).tolist()
    assert (held["image"] == held["image"][..., :1]).all()

    corner = datasets.arrays(image_size=20, **main_dataset)
    expected = np.zeros((20, 20), bool)
    expected[:16, 10:] = True
    np.testing.assert_array_equal(corner["image"][1, ..., 0], np.where(expected, 200, 20))
    assert corner["bbox"][1].tolist() == [0, 0.5, np.float32(0.8), 1]


def test_i3a_cells_are_whole_pictures_of_the_patterns_of_cells(tmp_path):
    name = i3a(tmp_path / "d", PATTERNS)
    held = datasets.arrays(name, image_size=20, data_dir=tmp_path)
    assert sorted(held) == ["bbox", "image", "label", "mask"]
    assert held["label"].tolist() == [0, 1, 2, 3, 4, 5]
    assert cells.LABELS[5] == "nuclear membrane"
    assert greys(held) == [1, 2, 3, 4, 5, 6]
    # 12 x 10 stretched to 20 x 20: the mask's rows 1 to 10 are 5/3 to 50/3, its columns 2 to 18.
    assert abs(held["bbox"][0] - np.float32([1 / 12, 1 / 10, 10 / 12, 9 / 10])).max() < 1e-6
    columns = np.repeat((0, 255, 0), (2, 16, 2))
    np.testing.assert_array_equal(held["mask"][0, 8, :, 0], columns)
    assert held["mask"][0, :, 8, 0].tolist() == [0, 85] + [255] * 14 + [170] + [0] * 3
    assert not datasets.has_split(name, "test")


def test_i3a_known_specimens_are_on_one_side(tmp_path):
    """Patterns A of specimens 1 to 7, B of 8 and 9, C of 10, three cells each, out of order."""
    specimens = [n for n in range(1, 11) for _ in range(3)]
    named = [PATTERNS[0] if s < 8 else PATTERNS[1] if s < 10 else PATTERNS[2] for s in specimens]
    order = np.random.default_rng(0).permutation(30)
    rows = [f"{i + 1};{named[i]};positive;{specimens[i]}" for i in order]
    root = tmp_path / "d"
    i3a(root, named)
    header = "Image ID;Image class;Image intensity;Specimen ID"
    (root / "gt_training.csv").write_text("\n".join([header, *rows]))
    name = f"hep2:{root}"
    train, test = (
        datasets.arrays(name, split, image_size=16, data_dir=tmp_path)
        for split in ("train", "test")
    )
    assert greys(test) == [4, 5, 6, 19, 20, 21, 25, 26, 27]  # specimens 2 and 7, and 9
    assert sorted(greys(train) + greys(test)) == list(range(1, 31))
    assert test["label"].tolist() == [0] * 6 + [1] * 3
    assert train["intensity"].tolist() == [1] * 21


def test_a_random_fifth_of_each_pattern_is_the_test_split_if_asked_for(tmp_path):
    name = i3a(tmp_path / "d", ["Golgi"] * 10 + ["NuMem"] * 20)
    source = {"image_size": 16, "data_dir": tmp_path}
    train, test = (greys(datasets.arrays(f"{name}:random", s, **source)) for s in ("train", "test"))
    assert sorted(train + test) == list(range(1, 31))  # none is left out between them
    assert [sum(grey <= 10 for grey in test), len(test)] == [2, 6]
    assert test != [9, 10, 27, 28, 29, 30] and test == sorted(test)
    again = greys(datasets.arrays(f"{name}:random", "test", **source))
    identity = datasets.identity(f"{name}:random", "test")
    assert again == test and identity != datasets.identity(name, "test")
    assert evaluation.public(f"{name}:random") == "hep2:d:random"
    assert datasets.open_dataset(f"{name}:random").recipe == "hep2"
    assert datasets.open_dataset(f"{name}:random").class_names == cells.LABELS


def test_a_random_fifth_of_the_main_dataset(main_dataset):
    """Two patterns of two cells each: a fifth of them is none."""
    name = main_dataset["name"] + ":random"
    assert not datasets.has_split(name, "test")
    assert len(datasets.arrays(name, data_dir=main_dataset["data_dir"])["label"]) == 4


def test_i3a_cells_of_unknown_specimens_are_split_by_number_with_a_gap(tmp_path, monkeypatch):
    name = i3a(tmp_path / "d", ["Golgi"] * 10 + ["NuMem"] * 20)
    source = {"name": name, "image_size": 16, "data_dir": tmp_path}
    assert greys(datasets.arrays(**source)) == [*range(1, 7), *range(11, 23)]
    assert greys(datasets.arrays(split="test", **source)) == [9, 10, 27, 28, 29, 30]
    monkeypatch.setattr(hep2, "GAP", 3)
    cells_of = hep2.Hep2(tmp_path / "d", "train").cells
    assert [int(c.image.stem) for c in cells_of] == [*range(1, 7), *range(11, 24)]


def test_the_gap_is_200_cells_of_a_large_pattern():
    held = [hep2.Cell(None, None, "golgi")] * 724 + [hep2.Cell(None, None, "speckled")] * 2831
    train, test = hep2.by_number(held)
    assert len(test) == 144 + 566
    assert len(train) == 724 - 144 - 144 + 2831 - 566 - 200


def test_the_contest_of_cells_has_its_own_splits(tmp_path):
    root = tmp_path / "ICPR2012_Cells_Classification_Contest"
    for split, file, grey in (("training", "gt_training.csv", 50), ("test", "gt_test.csv", 90)):
        for number in (1, 2):
            one_cell(root / split, number, grey=grey, digits=3, mark="_mask")
        (root / split / file).write_text("ID;pattern\n1;cytoplasmatic\n2;homogeneous\n")
    name = f"hep2:{root}"
    source = {"image_size": 16, "data_dir": tmp_path}
    for split, grey in (("train", 50), ("test", 90)):
        held = datasets.arrays(name, split, **source)
        assert held["label"].tolist() == [5, 0] and greys(held) == [grey, grey]
    assert datasets.classes(name) == 6


def test_green_and_deep_pictures_are_grey(tmp_path):
    green = np.zeros((4, 4, 3), np.uint8)
    green[..., 1] = 77
    save(green, tmp_path / "green.bmp")
    save(np.full((4, 4), 32768, np.uint16), tmp_path / "deep.png")
    assert (hep2.grey(tmp_path / "green.bmp") == 77).all()
    assert (hep2.grey(tmp_path / "deep.png") == 128).all()


def test_unreadable_cells_are_named_counted_and_left_out(tmp_path, caplog):
    name = i3a(tmp_path / "d", PATTERNS)
    (tmp_path / "d" / "00002_Mask.png").unlink()
    (tmp_path / "d" / "00003.png").write_text("no image")
    save(np.zeros((12, 10), np.uint8), tmp_path / "d" / "00004_Mask.png")
    save(np.ones((12, 11), np.uint8), tmp_path / "d" / "00005_Mask.png")
    held = datasets.arrays(name, image_size=16, data_dir=tmp_path)
    assert greys(held) == [1, 6]
    said = caplog.text
    assert "00002.png, no mask" in said and "00003.png" in said
    assert "skipped 4 of 6 cells" in said


def test_batches_labels_and_names(tmp_path):
    name = i3a(tmp_path / "d", PATTERNS * 10)
    held = datasets.labelled(name, "train", 6, image_size=16, data_dir=tmp_path)
    assert len(held["label"]) == 6 * 6
    batch = next(datasets.load(name, batch_size=4, data_dir=tmp_path).as_numpy_iterator())
    assert batch["image"].shape == (4, 64, 64, 3) and batch["image"].dtype == np.float32
    assert batch["mask"].shape == (4, 64, 64, 1) and batch["mask"].max() == 1
    first = datasets.identity(name)
    assert first.startswith("hep2-") and first == datasets.identity(name)
    assert first != datasets.identity(name, "test")
    one_cell(tmp_path / "d", 1, grey=7, size=(20, 20))
    assert first != datasets.identity(name)
    second = datasets.identity(name)
    table = tmp_path / "d" / "gt_training.csv"
    table.write_text(table.read_text().replace("00001,Homogeneous", "00001,Golgi"))
    assert second != datasets.identity(name)


@pytest.mark.parametrize(
    ("make", "split", "message"),
    [
        (lambda d: None, "train", "--dataset=hep2:.*d does not exist: give a folder"),
        (lambda d: d.mkdir(), "train", "Main_Dataset.*or gt_training.csv.*00001_Mask.png"),
        (lambda d: i3a(d, PATTERNS), "test", "has no cells for the split 'test'"),
        (lambda d: i3a(d, ["Homogeneous", "Spots"]), "train", "unknown patterns: spots$"),
        (
            lambda d: i3a(d, ["Golgi"], "ID,class,specimen"),
            "train",
            "'00001,Golgi' is not a line of 3",
        ),
        (lambda d: i3a(d, []), "train", "has no cells for the split 'train'"),
        (lambda d: (d / "gt_training.csv").touch(), "train", "has no cells"),
        (lambda d: (d / "Images" / "01").mkdir(parents=True), "train", "01.csv cannot be read"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path, make, split, message):
    root = tmp_path / "d"
    (tmp_path / "x").mkdir()
    if message in ("has no cells", "01.csv cannot be read"):
        (root / "Cells" / "Cell_Masks").mkdir(parents=True)
    make(root)
    with pytest.raises(datasets.DataError, match=message) as error:
        datasets.load(f"hep2:{root}", split, data_dir=tmp_path / "data")
    assert "\n" not in str(error.value)
    assert not list((tmp_path / "data").glob("attention_zoo/*"))


def test_the_first_line_may_begin_with_a_byte_order_mark(tmp_path):
    file = tmp_path / "gt_training.csv"
    file.write_text("\ufeff1,Golgi\n2,Speckled\n", "utf-8")
    rows = [["1", "Golgi"], ["2", "Speckled"]]
    assert hep2.lines(file, columns=2, number=0) == ([], rows)


def test_cells_without_masks_are_whole_pictures(tmp_path):
    """Localisation alone says that it needs masks; one mask in the folder makes them required."""
    name = i3a(tmp_path / "d", PATTERNS * 10)
    masks = sorted((tmp_path / "d").glob("*_Mask.png"))
    for mask in masks[1:]:
        mask.unlink()
    held = datasets.arrays(name, image_size=16, data_dir=tmp_path)
    assert greys(held) == [1] and "mask" in held
    masks[0].unlink()
    held = datasets.arrays(name, image_size=20, data_dir=tmp_path)
    assert sorted(held) == ["image", "label"] and len(held["image"]) == 36
    assert (held["image"][0] == 1).all()
    with pytest.raises(UsageError, match="needs masks and boxes, and hep2:.* has none"):
        scoring.localize(None, datasets.open_dataset(name, 16, tmp_path))


@pytest.mark.parametrize("places", [("training", "validation"), ("train", "val", "test")])
def test_folders_are_the_splits(tmp_path, places):
    """Cells 1 to 3 in the first folder, 4 to 6 in the next one, and so on; no masks, no header."""
    numbers = range(1, 3 * len(places) + 1)
    for number in numbers:
        place = tmp_path / "d" / "cells" / places[(number - 1) // 3]
        save(np.full((9, 9), number, np.uint8), place / f"{number:05d}.png")
    rows = [f"{n},Golgi" for n in numbers]
    (tmp_path / "d" / "gt_training.csv").write_text("\n".join(rows))
    name, last = f"hep2:{tmp_path / 'd'}", numbers[-1]
    found = {
        split: greys(datasets.arrays(name, split, image_size=16, data_dir=tmp_path))
        for split in ("train", "validation", "test")
    }
    test = [last - 2, last - 1, last]
    assert found == {"train": [1, 2, 3], "validation": [4, 5, 6], "test": test}


def test_label_files_are_the_splits(tmp_path):
    for place, number in (("training", 1), ("validation", 2)):
        save(np.full((9, 9), number, np.uint8), tmp_path / "d" / place / "1.png")
        (tmp_path / "d" / place / f"gt_{place}.csv").write_text("id,class\n1,Golgi")
    source = {"name": f"hep2:{tmp_path / 'd'}", "image_size": 16, "data_dir": tmp_path}
    assert greys(datasets.arrays(split="test", **source)) == [2]
    assert greys(datasets.arrays(split="validation", **source)) == [2]
    assert greys(datasets.arrays(**source)) == [1]


def test_it_is_named_among_the_data_sets():
    assert datasets.names()[-2:] == ["hep2:PATH", "folder:PATH"]
    with pytest.raises(datasets.DataError, match="hep2:PATH"):
        datasets.classes("hep3")


def test_a_path_with_random_splits_is_a_folder(tmp_path):
    stream.check(f"hep2:{tmp_path}:random")
    with pytest.raises(
        datasets.DataError, match="^--dataset=hep2:.*gone does not exist: give a folder$"
    ):
        stream.check(f"hep2:{tmp_path / 'gone'}:random")
    with pytest.raises(datasets.DataError, match="^--dataset=folder:.*:random does not exist"):
        stream.check(f"folder:{tmp_path}:random")
