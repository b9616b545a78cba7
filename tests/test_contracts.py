"""What holds for every model of the zoo, at tiny width: a run is trained, resumed from its state,
opened without a trainer, used, evaluated, and answers each signature of its export."""

import gc

import keras
import numpy as np
import pytest
import tensorflow as tf

import attention_zoo as az
from attention_zoo import tasks, zoo
from attention_zoo.common.errors import UsageError
from attention_zoo.experiments import exporting, run_directory
from attention_zoo.experiments.training import restore_trainer
from attention_zoo.serving import export, signatures

MANY, PAIR = "creatures/many/tiny", "creatures/plain2striped/tiny"
DATA = dict.fromkeys(zoo.names("translation"), PAIR) | {"gain": MANY, "deeplab": MANY}
OPTIONS = {  # what makes each small, beside width=4
    "ragan": {"encoder_width": 4},
    "wgan": {"n_critic": 2},
    "cyclegan": {"blocks": 1, "pool": 4},
    "attention_gan": {"blocks": 1, "masks": 3, "pool": 4},
    "unit": {"blocks": 1},
    "uait": {"blocks": 1, "pool": 4},
    "ganimorph": {"blocks": 1},
    "ra": {"levels": 1, "pool": 4},
    "dualgan": {"n_critic": 2},
    "deeplab": {"fc": 8},
}
USES = {  # method -> what it returns for two images of 32 x 32, as a shape
    "sample": (2, 32, 32, 3),
    "translate": (2, 32, 32, 3),
    "segment": (2, 32, 32),
    "classify": (2,),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("contracts")


@pytest.fixture(autouse=True)
def clear():
    yield
    tf.config.run_functions_eagerly(False)
    keras.backend.clear_session()
    gc.collect()


def used(model, method, images):
    """The pictures, maps or labels that a method of a model gives."""
    if method == "sample":
        return model.sample(2)
    answer = getattr(model, method)(images)
    return {"translate": lambda: answer.images, "classify": lambda: answer.labels}.get(
        method, lambda: answer
    )()


@pytest.mark.parametrize("graph", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", zoo.names())
def test_a_model_goes_the_whole_way(name, graph, folder):
    tf.config.run_functions_eagerly(not graph)
    data = DATA.get(name, "creatures/tiny")
    run = az.train(
        name,
        data,
        steps=1,
        batch_size=4,
        image_size=32,
        run_dir=folder / f"{name}_{graph}",
        data_dir=str(folder),
        width=4,
        **OPTIONS.get(name, {}),
    )
    assert run.step == 1

    trainer, config = restore_trainer(run.folder)  # all that a resume reads
    assert int(trainer.step.numpy()) == 1
    arrays = run_directory.read_checkpoint(run_directory.list_checkpoints(run.folder)[-1])
    state = {key: variable.numpy() for key, variable in trainer.state().items()}
    assert [key for key in arrays if arrays[key].tobytes() != state[key].tobytes()] == []
    assert config.model == name
    parts = [part for played in trainer.optimizers_by_role.values() for part in played]
    parts += [trainer.ema_networks[key] for key in (trainer.ema_network, zoo.get(name).serve)]
    named = {id(v) for v in trainer.state().values()}
    assert len(named) == len(state)  # every variable has one name
    assert all(id(v) in named for part in parts for v in part.variables)

    model = az.open_run(run.folder)
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    for method, shape in USES.items():
        if method in model.capabilities:
            assert np.shape(used(model, method, images)) == shape
        else:
            with pytest.raises(UsageError, match=f"^{name} cannot {method}: it can "):
                used(model, method, images)
    if "explain" in model.capabilities:
        maps = model.explain(images)
        assert maps.shape in ((2, 32, 32), (2, config.options.get("classes"), 32, 32))
        assert 0 <= maps.min() <= maps.max() <= 1

    for caption, picture in tasks.get(model.spec.kind).exhibit(model, {"image": images}):
        assert caption and picture.dtype == np.uint8 and picture.shape[2:] == (3,)

    options = {"num": 16, "metrics": ("kid",)} if "sample" in model.capabilities else {}
    scores = az.evaluate(model, data_dir=str(folder), **options)
    assert scores and all(np.isfinite(score.value) for score in scores)
    assert all(score.details["model"] == name for score in scores)

    served = exporting.served(model)
    endpoints = signatures.build(served.networks, served.role, served.size, served.threshold)
    function, specs = endpoints["serving_default"]
    inputs = [export.example(spec, 2, served.size, np.random.default_rng(0)) for spec in specs]
    answer = function(*map(tf.constant, inputs))
    assert answer and all(len(value) == 2 for value in answer.values())
