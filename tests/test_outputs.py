"""Names of the files that pictures become."""

import pytest
from PIL import Image

from attention_zoo.common.errors import UsageError
from attention_zoo.datasets import folder
from attention_zoo.experiments import outputs

TRANSLATE = [("", ""), ("attention", ""), ("masks", "_1"), ("masks", "_2")]
ANNOTATE = [("images", ""), ("maps", "")]


def checked(root, names, output, parts=TRANSLATE):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(root / name)
    names, _ = folder.read_all(root, "--input=", but=output)
    outputs.check(names, parts, root, output)
    return names


@pytest.mark.parametrize(
    "two", ["a.png attention/a.png", "b.png masks/b_2.png", "a.jpg attention/a.tif"]
)
def test_two_pictures_never_share_a_file(two, tmp_path):
    with pytest.raises(UsageError, match="would both become .*: rename one of them"):
        checked(tmp_path / "in", two.split(), tmp_path / "out")


def test_pictures_of_similar_names_are_no_conflict(tmp_path):
    names = ["a.jpg", "a.png", "a_1.png", "masks/b_3.png", "sub/a.png"]
    assert checked(tmp_path / "in", names, tmp_path / "out") == names


def test_a_file_keeps_its_ending_where_another_has_its_stem():
    names = "a.jpg b.jpg b.png c.gif C.TIF d.jpg d.jpg.png sub/a.b.webp"
    stems = outputs.stems(names.split())
    assert [*stems.values()] == "a b.jpg b c.gif C.TIF d d.jpg sub/a.b".split()
    assert outputs.path("out", stems["sub/a.b.webp"], "masks", "_1") == "out/masks/sub/a.b_1.png"


def test_a_full_name_may_be_the_stem_of_a_third_picture(tmp_path):
    with pytest.raises(UsageError, match="a.jpg and a.jpg.webp would both become .*/a.jpg.png: "):
        checked(tmp_path / "in", ["a.jpg", "a.png", "a.jpg.webp"], tmp_path / "out")


def test_no_file_is_written_among_the_pictures(tmp_path):
    root = tmp_path / "images"
    refused = "among the pictures of --input=.*: give another --output"
    with pytest.raises(UsageError, match=refused):
        checked(root, ["a.png"], root)
    with pytest.raises(UsageError, match=refused):
        checked(root, ["a.png"], tmp_path, ANNOTATE)
    (tmp_path / "link").symlink_to(root)
    with pytest.raises(UsageError, match=refused):
        checked(root, ["a.png"], tmp_path / "link")
    with pytest.raises(UsageError, match=refused):
        outputs.check(["a.png"], TRANSLATE, root / "a.png", root)
    checked(root, ["a.png"], tmp_path)


def test_an_original_behind_a_link_is_not_overwritten(tmp_path):
    checked(tmp_path / "real", ["a.png"], tmp_path / "out")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").symlink_to(tmp_path / "real" / "a.png")
    with pytest.raises(UsageError, match="among the pictures"):
        outputs.check(["a.png"], TRANSLATE, tmp_path / "in", tmp_path / "real")


def test_an_output_below_the_input_is_no_input(tmp_path):
    output = tmp_path / "out"
    assert checked(tmp_path, ["a.png", "out/a.png"], output) == ["a.png"]
    (tmp_path / "again").symlink_to(output)
    assert checked(tmp_path, ["a.png"], output) == ["a.png"]
