"""Saved networks load with keras.saving.load_model once the zoo is imported, and nothing more."""

import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from attention_zoo import zoo
from attention_zoo.zoo import registration

ROOT = Path(__file__).parents[1]
TINY = {"image_size": 32, "width": 4}
VARIANTS = (  # networks whose layers the default ones do not have
    ("dcgan", {"self_attention": True}),
    ("sagan", {"conditional": True, "attend_at": 16}),
    ("attention_gan", {"scheme": 1, "attention_discriminators": True}),
    ("squeezenet", {"head": "conv", "normalise": "imagenet"}),
    ("vgg16", {"head": "fc"}),
    ("gain", {"backbone": "resnet9", "layer": "middle"}),
    ("gain", {"backbone": "resnet9", "scales": "0.5,1"}),
)
OPTIONAL = {"ragan": ("decoder",), "ata_gan": ("annotator",)}  # not among those that are iterated
LOAD = """
import sys
from pathlib import Path
import numpy as np
for path in sorted(Path(sys.argv[1]).glob(sys.argv[2])):
    network = keras.saving.load_model(path)
    with np.load(path.with_suffix(".npz")) as file:
        expected = dict(file)
    assert len(expected) == len(network.variables) > 0, path
    for i, variable in enumerate(network.variables):
        assert np.array_equal(expected[str(i)], keras.ops.convert_to_numpy(variable)), path
    if "ragan" in path.stem:  # whose bias initializer is a function
        again = path.parent / "again.keras"
        network.save(again)
        keras.saving.load_model(again)
        again.unlink()
    print(path.stem)
"""
LIGHT = "heavy = {'keras', 'tensorflow'} & set(sys.modules)\nassert not heavy, heavy\n"
ORDERS = {
    "zoo, keras": f"import sys, main, attention_zoo.zoo\n{LIGHT}import keras\n",
    "zoo, tensorflow": f"import sys, main, attention_zoo.zoo\n{LIGHT}import tensorflow, keras\n",
    "keras, zoo": "import keras, main, attention_zoo.zoo\n",
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder of networks of the zoo that together have all layers of its own, each as NAME.keras
    and its variables as NAME.npz."""
    folder, seen = tmp_path_factory.mktemp("saved"), set()
    cases = [*((name, {}) for name in zoo.names()), *VARIANTS]
    for number, (name, options) in enumerate(cases):
        networks = zoo.create(name, **{**TINY, **options})
        for key in (*networks, *OPTIONAL.get(name, ())):
            network, place = networks[key], folder / f"{number:02d}-{name}-{key}"
            layers = {type(layer) for layer in network._flatten_layers()}
            if name != "ragan" and {t for t in layers if "attention_zoo" in t.__module__} <= seen:
                continue
            seen |= layers
            network.save(f"{place}.keras")
            values = map(keras.ops.convert_to_numpy, network.variables)
            np.savez(f"{place}.npz", **{str(i): v for i, v in enumerate(values)})
    classes = {name for names in registration.CLASSES.values() for name in names}
    assert classes - {layer.__name__ for layer in seen} == {"SNConv2DTranspose"}  # nobody's yet
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("order", ORDERS)
def test_every_network_loads_whatever_is_imported_first(saved, order):
    pattern = "*.keras" if order == "zoo, keras" else "*ragan*.keras"
    names = sorted(path.stem for path in saved.glob(pattern))
    assert names
    command = [sys.executable, "-c", ORDERS[order] + LOAD, str(saved), pattern]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == names


def test_the_table_holds_every_registered_class_of_the_zoo():
    for path in sorted((ROOT / "zoo").rglob("*.py")):
        module = ".".join(path.relative_to(ROOT / "zoo").with_suffix("").parts)
        count = path.read_text().count("@keras.saving.register_keras_serializable(")
        tables = registration.CLASSES, registration.FUNCTIONS
        assert count == sum(len(table.get(module, ())) for table in tables), module


def test_a_thread_that_imports_a_network_does_not_disturb_the_import_of_keras():
    program = (
        "import importlib, threading, main, attention_zoo.zoo\n"
        "from attention_zoo.zoo import registration\n"
        "modules = [*registration.CLASSES, 'dcgan', 'gain']\n"
        "names = ['keras', *(f'attention_zoo.zoo.{m}' for m in modules)]\n"
        "threads = [threading.Thread(target=importlib.import_module, args=[n]) for n in names]\n"
        "[thread.start() for thread in threads]\n"
        "[thread.join() for thread in threads]\n"
        "import keras\n"
        "for name in ('BoxMask', 'CAM', 'grid_of_centres'):\n"
        "    assert keras.saving.get_registered_object(f'zoo>{name}')\n"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "Error" not in done.stderr, done.stderr


def test_keras_that_cannot_be_imported_says_so_itself():
    program = (
        "import sys, main, attention_zoo.zoo\n"
        "sys.path = [p for p in sys.path if 'site-packages' not in p]\n"
        "import keras\n"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert "ModuleNotFoundError: No module named 'keras'" in done.stderr
