"""The door by which weights enter: what was published comes back, all else is refused."""

import dataclasses
import hashlib
import http.server
import io
import json
import pickle
import threading
import zipfile

import keras
import numpy as np
import pytest

from attention_zoo import zoo
from attention_zoo.common import downloads
from attention_zoo.zoo import registry, weights

OPTIONS = {"image_size": 32, "classes": 3, "width": 4}


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """A folder with one published network, in place of the zoo's own."""
    keras.utils.set_random_seed(0)
    network = zoo.create("resnet9", **OPTIONS)["classifier"]
    about = {
        "network": "classifier",
        "options": OPTIONS,
        "dataset": "d-1",
        "scores": {"accuracy_9_test": 0.5},
        "origin": {"command": "c"},
        "license": "Apache-2.0",
    }
    entry = weights.save("resnet9", "t", network, about, tmp_path)
    monkeypatch.setattr(weights, "FOLDER", tmp_path)
    monkeypatch.setitem(registry.get("resnet9").weights, "t", entry)
    return tmp_path, network, entry


def test_what_was_published_comes_back(shelf):
    folder, network, entry = shelf
    again = zoo.load("resnet9", weights="t")
    assert [v.path for v in again.variables] == [v.path for v in network.variables]
    for a, b in zip(again.variables, network.variables):
        assert np.array_equal(a, b)
    row = json.loads((folder / "manifest.json").read_text())["resnet9"]["t"]
    assert registry.Weights(**row) == entry
    assert entry.sha256 == hashlib.sha256((folder / entry.file).read_bytes()).hexdigest()
    with np.load(folder / entry.file) as held:
        assert held["first_1/kernel"].dtype == np.float16
        assert held["first_1_bn/gamma"].dtype == np.float32


def test_another_tag_leaves_the_first(shelf):
    folder, network, entry = shelf
    about = {f.name: getattr(entry, f.name) for f in dataclasses.fields(entry)}
    for name in ("file", "sha256", "probe"):
        del about[name]
    weights.save("resnet9", "u", network, about, folder)
    assert list(json.loads((folder / "manifest.json").read_text())["resnet9"]) == ["t", "u"]
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(zoo.WeightsError, match="holds resnet9:t already: take another --tag"):
        weights.save("resnet9", "t", network, about, folder)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_what_float16_cannot_hold_is_stored_in_float32(shelf):
    folder, network, entry = shelf
    about = {f.name: getattr(entry, f.name) for f in dataclasses.fields(entry)}
    for name in ("file", "sha256", "probe"):
        del about[name]
    network.get_layer("logits").kernel.assign(np.full((16, 3), 1e6))
    large = weights.save("resnet9", "u", network, about, folder)
    with np.load(folder / large.file) as held:
        assert held["logits/kernel"].dtype == held["first_1/kernel"].dtype == np.float32
        assert held["logits/kernel"][0, 0] == 1e6
    network.get_layer("logits").bias.assign(np.full(3, np.nan))
    with pytest.raises(zoo.WeightsError, match="logits/bias of classifier is not finite"):
        weights.save("resnet9", "u", network, about, folder)


def test_depthwise_kernels_stay_in_float32():
    layers = keras.layers.DepthwiseConv2D(3, name="each"), keras.layers.Conv2D(2, 3, name="all")
    network = keras.Sequential([keras.Input((8, 8, 3)), *layers])
    arrays = weights.round_to_float16(network)
    kinds = {path.split("/")[-2]: a.dtype.name for path, a in arrays.items() if "kernel" in path}
    assert kinds == {"each": "float32", "all": "float16"}


def test_a_probe_may_differ_by_a_five_hundredth_of_its_largest_value():
    stored = np.array([-2.0, 0.5])
    assert weights._close(stored + [0.0, 0.0039], stored)
    assert not weights._close(stored + [0.0, 0.0041], stored)
    assert not weights._close(stored[:1], stored)


def test_an_unknown_tag_names_those_there_are(shelf, monkeypatch):
    with pytest.raises(zoo.WeightsError, match="resnet9 has no weights 'x': it has .*t"):
        zoo.load("resnet9", weights="x")
    monkeypatch.delitem(zoo.get("wgan").weights, "cifar10")
    with pytest.raises(zoo.WeightsError, match="wgan has no weights 'x': it has none yet"):
        zoo.load("wgan", weights="x")


@pytest.mark.parametrize("damage", ["flip", "cut", "gone"])
def test_other_bytes_are_refused(shelf, damage):
    folder, _, entry = shelf
    path = folder / entry.file
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(data if damage == "flip" else data[:100])
    with pytest.raises(zoo.WeightsError, match="cannot be read" if damage == "gone" else "sha256"):
        zoo.load("resnet9", weights="t")


def replace(shelf, monkeypatch, arrays, **changes):
    """Other arrays under a manifest that vouches for their bytes."""
    folder, _, entry = shelf
    np.savez(folder / entry.file, **arrays)
    digest = hashlib.sha256((folder / entry.file).read_bytes()).hexdigest()
    changed = dataclasses.replace(entry, sha256=digest, **changes)
    monkeypatch.setitem(registry.get("resnet9").weights, "t", changed)


def test_what_does_not_fit_is_refused(shelf, monkeypatch):
    folder, _, entry = shelf
    with np.load(folder / entry.file) as file:
        whole = dict(file)
    less = {k: v for k, v in whole.items() if k != "first_1/kernel"}
    replace(shelf, monkeypatch, less)
    with pytest.raises(zoo.WeightsError, match="does not fit classifier: it lacks first_1/kernel$"):
        zoo.load("resnet9", weights="t")
    replace(shelf, monkeypatch, {**whole, "more": np.zeros(1)})
    with pytest.raises(zoo.WeightsError, match="it holds an unknown more$"):
        zoo.load("resnet9", weights="t")
    replace(shelf, monkeypatch, {**whole, "first_1/kernel": np.zeros((3, 3, 24, 5))})
    with pytest.raises(zoo.WeightsError, match=r"first_1/kernel of shape \(3, 3, 24, 5\), not"):
        zoo.load("resnet9", weights="t")
    replace(shelf, monkeypatch, {**whole, "first_1/kernel": whole["first_1/kernel"] * 1.1 + 0.05})
    with pytest.raises(zoo.WeightsError, match="does not give the output that was stored"):
        zoo.load("resnet9", weights="t")
    replace(shelf, monkeypatch, {**whole, "logits/bias": np.full(3, np.nan)})
    with pytest.raises(zoo.WeightsError, match="does not give the output that was stored"):
        zoo.load("resnet9", weights="t")
    replace(shelf, monkeypatch, {**whole, "first_1/kernel": np.array([{"a": 1}], object)})
    with pytest.raises(zoo.WeightsError, match="is damaged"):
        zoo.load("resnet9", weights="t")
    replace(shelf, monkeypatch, {**whole, "logits/bias": np.array(["a", "b", "c"])})
    with pytest.raises(zoo.WeightsError, match="it holds logits/bias of type <U1$"):
        zoo.load("resnet9", weights="t")
    replace(shelf, monkeypatch, {"more": np.zeros(1)})
    with pytest.raises(zoo.WeightsError) as caught:
        zoo.load("resnet9", weights="t")
    first, *_, last = (v.path for v in shelf[1].variables)
    more = len(shelf[1].variables) - 3
    assert f"it lacks {first}, lacks " in str(caught.value) and last not in str(caught.value)
    assert str(caught.value).endswith(f" and {more} more, holds an unknown more")
    replace(shelf, monkeypatch, whole, options={**OPTIONS, "depth": 3})
    with pytest.raises(zoo.WeightsError, match="these options do not fit resnet9.*depth"):
        zoo.load("resnet9", weights="t")
    replace(shelf, monkeypatch, whole)
    zoo.load("resnet9", weights="t")


class Code:
    """Unpickled, it writes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def vouched(shelf, monkeypatch, data):
    """Other bytes under a manifest that vouches for them."""
    folder, _, entry = shelf
    (folder / entry.file).write_bytes(data)
    changed = dataclasses.replace(entry, sha256=hashlib.sha256(data).hexdigest())
    monkeypatch.setitem(registry.get("resnet9").weights, "t", changed)


def test_damage_under_the_right_sha256(shelf, monkeypatch):
    folder, _, entry = shelf
    whole = (folder / entry.file).read_bytes()
    held, bare = io.BytesIO(), io.BytesIO()
    np.save(bare, np.zeros(3))
    with zipfile.ZipFile(held, "w") as file:
        file.writestr("logits/bias.npy", bare.getvalue()[:70])
    flipped = bytearray(whole)
    flipped[len(whole) // 3] ^= 255
    for data in (b"", whole[:1000], whole[:-10], bytes(flipped), bare.getvalue(), held.getvalue()):
        vouched(shelf, monkeypatch, data)
        with pytest.raises(zoo.WeightsError, match="is damaged"):
            zoo.load("resnet9", weights="t")


def test_nothing_in_a_file_is_executed(shelf, monkeypatch, tmp_path):
    mark, held = tmp_path / "mark", io.BytesIO()
    np.savez(held, **{"logits/bias": np.array([Code(mark)], object)})
    for data in (pickle.dumps(Code(mark)), held.getvalue()):
        vouched(shelf, monkeypatch, data)
        with pytest.raises(zoo.WeightsError, match="is damaged"):
            zoo.load("resnet9", weights="t")
    assert not mark.exists()
    pickle.loads(pickle.dumps(Code(mark))).close()
    assert mark.exists()  # it would have shown


@pytest.fixture
def server(shelf):
    """The shelf behind an address; with `cut` it promises more bytes than it sends, and with `hold`
    it sends none until that event is set."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        asked, cut, hold = [], False, None

        def __init__(self, *args):
            super().__init__(*args, directory=str(shelf[0]))

        def do_GET(self):
            if self.hold:
                self.hold.wait()
            super().do_GET()

        def log_message(self, *args):
            self.asked.append(self.path)

        def send_header(self, key, value):
            more = key == "Content-Length" and self.cut
            super().send_header(key, str(int(value) + 9) if more else value)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}", Handler
        running.shutdown()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "attention_zoo" / "weights"


def test_a_folder_and_an_address_are_doors_too(shelf, server, cache):
    folder, network, entry = shelf
    address, handler = server
    for weights_ in (f"{folder}/t", f"{folder}/{entry.file}", f"file://{folder}/t"):
        again = zoo.load("resnet9", weights=weights_)
        assert np.array_equal(again.get_layer("logits").kernel, network.get_layer("logits").kernel)
    (cache / f"{entry.sha256}.npz").unlink()
    for _ in range(2):
        zoo.load("resnet9", weights=f"{address}/t")
        assert [p.name for p in cache.iterdir()] == [f"{entry.sha256}.npz"]
    assert handler.asked == ["/manifest.json", f"/{entry.file}", "/manifest.json"]
    (cache / f"{entry.sha256}.npz").write_bytes(b"damaged")  # what is damaged comes again
    zoo.load("resnet9", weights=f"{address}/t")
    assert handler.asked[3:] == ["/manifest.json", f"/{entry.file}"]


def test_a_manifest_may_name_an_address(shelf, server, cache, monkeypatch):
    address, _ = server
    far = dataclasses.replace(shelf[2], file=f"{address}/{shelf[2].file}")
    monkeypatch.setitem(registry.get("resnet9").weights, "t", far)
    assert zoo.load("resnet9", weights="t").name == "classifier"


def test_what_did_not_come_whole_is_not_kept(shelf, server, cache):
    folder, _, entry = shelf
    address, handler = server
    with pytest.raises(zoo.WeightsError, match="could not be downloaded: .*404"):
        weights.read(f"{address}/nothing", "0" * 64)
    with pytest.raises(zoo.WeightsError, match="is not the published file: its sha256 differs"):
        weights.read(f"{address}/{entry.file}", "0" * 64)
    handler.cut = True
    with pytest.raises(zoo.WeightsError, match="could not be downloaded: .*IncompleteRead"):
        weights.read(f"{address}/{entry.file}", entry.sha256)
    assert list(cache.iterdir()) == []


def test_a_cache_that_cannot_be_written(shelf, server, cache, caplog):
    cache.parent.mkdir(parents=True)
    cache.write_text("a file where the folder should be")
    zoo.load("resnet9", weights=f"{server[0]}/t")
    assert f"{cache} cannot keep a copy: File exists" in caplog.text


def test_a_server_that_sends_nothing_is_left(shelf, server, cache, monkeypatch):
    address, handler = server
    monkeypatch.setattr(downloads, "TIMEOUT", 0.2)
    handler.hold = threading.Event()
    with pytest.raises(zoo.WeightsError, match="could not be downloaded: .*[Tt]imed out"):
        weights.read(f"{address}/{shelf[2].file}", shelf[2].sha256)
    handler.hold.set()


def test_a_digest_is_no_path(shelf, server, cache):
    for digest in ("../../secret", "", "A" * 64):
        with pytest.raises(zoo.WeightsError, match="its sha256 differs"):
            weights.read(f"{server[0]}/{shelf[2].file}", digest)
    assert server[1].asked == [] and not cache.exists()


def test_many_at_once(shelf, server, cache):
    entry, found = shelf[2], []

    def ask():
        found.append(weights.read(f"{server[0]}/{entry.file}", entry.sha256))

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [(shelf[0] / entry.file).read_bytes()] * 6
    assert [p.name for p in cache.iterdir()] == [f"{entry.sha256}.npz"]


def test_what_is_no_manifest(shelf):
    folder = shelf[0]
    manifest = folder / "manifest.json"
    rows = json.loads(manifest.read_text())
    with pytest.raises(zoo.WeightsError, match="cannot be read"):
        zoo.load("resnet9", weights=f"{folder}/nowhere/t")
    with pytest.raises(zoo.WeightsError, match="lists no weights of dcgan"):
        zoo.load("dcgan", weights=f"{folder}/t")
    with pytest.raises(zoo.WeightsError, match="takes a folder, https://"):
        zoo.load("resnet9", weights="ftp://host/t")
    for sha256, line in (("", "sha256 differs"), (None, "sha256 must be of type str")):
        rows["resnet9"]["t"]["sha256"] = sha256
        manifest.write_text(json.dumps(rows))
        with pytest.raises(zoo.WeightsError, match=line):
            zoo.load("resnet9", weights=f"{folder}/t")
    rows["resnet9"]["t"]["more"] = 1
    for text in (json.dumps(rows), "{", "[]", '{"resnet9": 3}'):
        manifest.write_text(text)
        with pytest.raises(zoo.WeightsError, match="is not a manifest of the zoo"):
            zoo.load("resnet9", weights=f"{folder}/t")


@pytest.mark.parametrize(
    ("name", "tag"), [(n, tag) for n in zoo.names() for tag in zoo.get(n).weights]
)
def test_every_bundled_file_passes_the_door(name, tag):
    network = zoo.load(name, weights=tag)
    assert network.name == zoo.get(name).weights[tag].network


def test_the_metrics_have_their_classifiers():
    held = zoo.get("resnet9").weights
    assert held["creatures"].scores["accuracy_2k_test"] >= 0.95
    assert held["cifar10"].scores["accuracy_10k_test"] >= 0.88
