"""Many devices, many processes, half precision, compilation: what changes, and what must not."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from attention_zoo import datasets
from attention_zoo.cli import main
from attention_zoo.common.errors import UsageError
from attention_zoo.experiments import devices
from attention_zoo.experiments import run_directory as run
from attention_zoo.experiments.config import RunConfig
from attention_zoo.experiments.workers import Workers
from attention_zoo.tools.scale import RUNS, make_training, set_epsilon
from attention_zoo.trainers import base, callbacks, wgan

ROOT = Path(__file__).parents[1]
ONE = tf.distribute.get_strategy()


def joined(strategy, values):
    """What the replicas hold, end to end."""
    return np.concatenate([v.numpy() for v in strategy.experimental_local_results(values)])


@pytest.mark.parametrize(
    ("name", "batches"), [("creatures/tiny", 2), ("creatures/plain2striped/tiny", 1)]
)
def test_the_shares_of_a_batch_are_the_batch_in_order(name, batches):
    source = {"batch_size": 8, "seed": 5, "start": 40}
    whole = datasets.load(name, **source).as_numpy_iterator()
    workers = [
        datasets.load(name, **source, shares=share, batches=batches).as_numpy_iterator()
        for share in ((0, 1, 4), (1, 3, 4), (3, 4, 4))  # the second worker has two devices
    ]
    for _ in range(3):
        parts = [next(workers[i]) for i in (0, 1, 1, 2)]
        for key, value in next(whole).items():
            found = np.stack([part[key] for part in parts])  # (4, 8 / 4, ...)
            found = found.reshape(4, batches, 2 // batches, *value.shape[1:]).swapaxes(0, 1)
            assert np.array_equal(found.reshape(value.shape), value), key


def test_replicas_draw_the_numbers_of_one_device(mirrored):
    def of_replicas(function):
        return joined(mirrored, mirrored.run(function))

    key = (3, 4)
    one = base.uniform((6, 5), key, -1, 1).numpy()
    assert np.array_equal(one, tf.random.stateless_uniform((6, 5), key, -1, 1))
    compiled = tf.function(lambda key: base.uniform((6, 5), key, -1, 1), jit_compile=True)
    assert np.array_equal(one, compiled(tf.constant(key)))
    assert np.array_equal(one, of_replicas(lambda: base.uniform((3, 5), key, -1, 1)))
    one = base.uniform((3, 6), key, axis=1).numpy()
    two = of_replicas(lambda: tf.transpose(base.uniform((3, 3), key, axis=1)))
    assert np.array_equal(one.T, two)
    one = base.uniform((6, 1), key).numpy()[:, 0]  # a batch of 4 and one of 2
    two = of_replicas(lambda: base.uniform((3, 1), key, parts=(2, 1)))[:, 0]
    assert np.array_equal(one[[0, 1, 4, 2, 3, 5]], two)


def test_a_mean_over_what_is_known_is_that_of_all_replicas(mirrored):
    values, known = np.array([1.0, 2, 3, 4, 5, 60], "float32"), np.array([1, 1, 1, 0, 0, 1], bool)

    def mean():
        first = 3 * tf.distribute.get_replica_context().replica_id_in_sync_group
        v, k = values[first : first + 3], known[first : first + 3]
        loss = tf.reduce_sum(tf.where(k, v, 0)) / tf.reduce_sum(tf.cast(k, tf.float32))
        return base.mean_over_replicas({"loss": loss * base.replica_weight(k)})["loss"][None]

    assert joined(mirrored, mirrored.run(mean)).tolist() == [16.5, 16.5]  # (1 + 2 + 3 + 60) / 4


def steps(strategy, name, *flags, count=1, epsilon=1e-3):
    """The losses of each step, and all weights after them; without a graph. epsilon: as of
    `set_epsilon`; None: Adam's own."""
    trainer, data = make_training(name, strategy, *flags)
    if epsilon:
        set_epsilon(trainer, epsilon)
    batches, rows = iter(data), []
    for _ in range(count):
        logs = strategy.run(
            lambda x: base.mean_over_replicas(trainer.train_step(x)), args=(next(batches),)
        )
        local = {k: strategy.experimental_local_results(v) for k, v in logs.items()}
        assert all(float(v[0]) == float(v[-1]) for v in local.values())
        rows.append({k: float(v[0]) for k, v in local.items()})
    return rows, {k: v.numpy() for k, v in trainer.state().items()}


# What no other file tests so; `make scale` takes all models, for 20 steps.
@pytest.mark.parametrize("name", ["wgan wgan_gp", "deeplab", "gain gain_ext"])
def test_two_replicas_train_as_one(name, mirrored):
    (one, held), (two, theirs) = (steps(s, name) for s in (ONE, mirrored))
    for ours, others in zip(one, two):
        for loss, value in ours.items():
            assert abs(value - others[loss]) < 1e-5 * max(1, abs(value)), loss
    for key, value in held.items():
        assert abs(value - theirs[key]).max() < 1e-5 * max(1, abs(value).max()), key


@pytest.mark.slow
def test_two_processes_train_as_one_and_the_chief_alone_writes(tmp_path):
    """By the ssh recipe, and on one device again from where they end."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    places = [f"127.0.0.1:{s.getsockname()[1]}" for s in sockets]
    for s in sockets:
        s.close()
    flags = ["--model=dcgan", *RUNS["dcgan"], "--log_every=1", f"--run_dir={tmp_path / 'run'}"]
    environment = {**os.environ, "LOCAL": "1", "PYTHON": sys.executable}
    command = ["docs/launch/ssh.sh", *places, "--", *flags, "--steps=2"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("run directory:") == done.stderr.count("0/2 [00:00<?, ?step/s]") == 1
    rows = [row for row in run.read_rows(tmp_path / "run" / "metrics.jsonl") if "d_loss" in row]
    expected, _ = steps(ONE, "dcgan", count=2, epsilon=None)
    assert [row.pop("step") for row in rows] == [1, 2]
    for row, one in zip(rows, expected):
        assert row.keys() == one.keys()
        assert max(abs(row[k] - one[k]) for k in one) < 1e-5
    config = run.read_record(tmp_path / "run")["config"]
    assert config["replicas"] == 2
    record = run.Run(tmp_path / "run", {**config, "replicas": 1}, {})
    record.close()
    assert [run.step_of(path) for path in run.list_checkpoints(tmp_path / "run")] == [2]


@pytest.mark.parametrize(
    "text",
    [
        None,
        "{",
        '{"cluster": {"worker": ["a:1"]}}',
        '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}',
        '{"cluster": {"worker": ["a"]}, "task": {"type": "worker", "index": 0}}',
        '{"cluster": {"worker": ["a:1"], "ps": ["b:1"]}, "task": {"type": "worker", "index": 0}}',
    ],
)
def test_a_process_that_does_not_know_the_others_is_refused(text, monkeypatch, capsys):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if text:
        monkeypatch.setenv("TF_CONFIG", text)
    assert main.main(["--strategy=multi_worker", "--run_dir=/nowhere"]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and "needs TF_CONFIG" in said[0] and '"index": 0' in said[0]
    good = {"cluster": {"chief": ["a:1"], "worker": ["b:1"]}, "environment": "cloud"}
    devices.check_cluster(json.dumps({**good, "task": {"type": "worker", "index": 0}}))


@pytest.mark.parametrize(
    ("options", "count", "message"),
    [
        ({}, 3, "batch_size must be a multiple of 3, the number of devices"),
        ({"jit": True}, 2, "--jit is for one device"),
        (
            {
                "model": "gain",
                "data": "creatures/many",
                "settings": {"masks": 9, "mask_batch": 3},
            },
            2,
            "mask_batch",
        ),
    ],
)
def test_what_replicas_cannot_share_is_refused(options, count, message):
    config = RunConfig.resolve(**options)
    devices.check_replicas(config, 1)
    with pytest.raises(UsageError, match=message):
        devices.check_replicas(config, count)


@pytest.mark.parametrize("asked", ["at rest", "signal"])
def test_an_end_that_one_worker_finds_is_that_of_all(asked):
    class Others:
        told = []

        def largest(self, number):
            self.told.append(number)
            return max(number, 1 if asked == "at rest" else 2)

    stop = callbacks.Stop(None, Others())
    stop.set_model(keras.Model())
    stop.model.stop_training = False
    if asked == "at rest":
        stop.on_train_batch_end(0)
        assert stop.model.stop_training and Others.told == [0]
    else:
        with pytest.raises(KeyboardInterrupt):
            stop.on_train_batch_end(0)
        assert Others.told == [0, 0]  # once more, while the chief saves
    assert Workers(ONE).largest(7) == 7 and Workers(ONE).chief


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_precision_is_that_of_what_lies_between(precision, monkeypatch):
    monkeypatch.setattr("attention_zoo.experiments.precision.accelerated", lambda: True)
    once = "--set=n_critic=1"
    trainer, data = make_training("wgan wgan_gp", ONE, once, f"--precision={precision}")
    G, D, x = trainer.generator, trainer.discriminator, next(iter(data))["image"][:8]
    kinds = {layer.name: layer.compute_dtype for n in (G, D) for layer in n.layers[1:]}
    last = {name for name, kind in kinds.items() if kind == "float32"}
    assert last == {"to_rgb", "image", "logit"}
    assert set(kinds.values()) == {precision, "float32"}
    assert keras.Model(D.input, D.get_layer("down8").output)(x).dtype == precision
    assert G(trainer.noise(2)).dtype == D(x).dtype == "float32"
    assert {v.dtype for v in G.variables + D.variables} == {"float32"}
    assert {layer.compute_dtype for layer in trainer.ema_networks["generator"].layers} == {
        "float32"
    }
    scales = [k for k in trainer.state() if k.endswith("scale/dynamic_scale")]
    assert len(scales) == (2 if precision == "float16" else 0)

    usual, _ = make_training("wgan wgan_gp", ONE, once)
    for ours, theirs in zip(usual.discriminator.variables, D.variables):
        ours.assign(theirs)
    fake = x[::-1]

    def penalty(trainer):
        return float(trainer.critic_loss(x, fake, 0) - wgan.WGAN.critic_loss(trainer, x, fake, 0))

    assert penalty(trainer) == pytest.approx(penalty(usual), rel=1e-4)
    assert abs(D(x) - usual.discriminator(x)).numpy().max() > 1e-5
    if precision == "float16":
        trainer.d_optimizer.dynamic_scale.assign(16.0)  # with the first, this step would overflow
    start = [v.numpy() for v in D.trainable_variables]
    logs, plain = (t.train_step({"image": x}) for t in (trainer, usual))
    d_loss = float(plain["d_loss"])
    assert 0 < abs(float(logs["d_loss"]) - d_loss) < 0.02 * abs(d_loss)
    pairs = zip(start, D.trainable_variables, usual.discriminator.trainable_variables)
    alike = [np.sign(a - s) == np.sign(b - s) for s, a, b in pairs]
    assert np.concatenate([a.ravel() for a in alike]).mean() > 0.9


def test_batch_statistics_are_of_float32():
    from attention_zoo.zoo.layers.batch_norm import BatchNorm

    x = np.random.default_rng(0).normal(300, 1, (64, 4, 4, 2)).astype("float16")
    layer = BatchNorm(momentum=0.0, dtype="mixed_float16")
    assert layer(x, training=True).dtype == "float16"
    deviation = np.sqrt(layer.moving_variance.numpy())  # 64 * 16 * 300 is more than float16 holds
    assert abs(layer.moving_mean.numpy() - x.astype("float64").mean((0, 1, 2))).max() < 1e-2
    assert abs(deviation - x.astype("float64").std((0, 1, 2))).max() < 1e-2


def test_float16_leaves_out_a_step_whose_gradients_overflow_anywhere(mirrored):
    flags = ("--precision=float16", "--set=learning_rate=0.01", "--set=warm_up=0")
    trainer, data = make_training("vgg16", mirrored, *flags)
    batches = iter(data)

    def values():
        return [
            [v.numpy() for v in mirrored.experimental_local_results(w.value)]
            for w in trainer.networks["classifier"].trainable_variables
        ]

    def step(factor):
        def run(batch):
            replica = tf.distribute.get_replica_context().replica_id_in_sync_group
            own = tf.where(replica == 1, factor, 1.0)  # of the second replica's gradients alone
            return trainer.train_step({**batch, "image": own * batch["image"]})

        before = values()
        mirrored.run(run, args=(next(batches),))
        after = values()
        assert all(np.array_equal(first, second) for first, second in after)
        scale = trainer.state()["classifier_scale/dynamic_scale"]
        moved = max(abs(a[0] - b[0]).max() for a, b in zip(before, after))
        return moved, float(scale.numpy()), int(trainer.step.numpy())

    _, usual = steps(ONE, "vgg16", *flags[1:])
    moved, scale, taken = step(1.0)
    assert 0 < moved < 1 and (scale, taken) == (2.0**15, 1)
    gaps = [abs(usual[k] - v.numpy()).max() for k, v in trainer.state().items() if k in usual]
    assert max(gaps) < 0.05 * moved
    moved, scale, taken = step(1e6)  # more than float16 holds
    assert moved == 0 and (scale, taken) == (2.0**14, 2)
    assert int(trainer.first.iterations.numpy()) == 1
    moved, scale, taken = step(1.0)
    assert 0 < moved < 1 and (scale, taken) == (2.0**14, 3)


def compiled(trainer, data):
    """Does XLA compile a part of the training function?"""
    function = trainer.train_function.compiled.get_concrete_function(
        iter(data), None, tf.constant(1)
    )
    graph = function.graph.as_graph_def()
    return any(f.attr["_XlaMustCompile"].b for f in graph.library.function)


@pytest.fixture
def no_determinism():
    """Keras compiles nothing by XLA where a test before this one has asked for determinism."""
    from tensorflow.python.framework import config

    asked = config.is_op_determinism_enabled()
    config.disable_op_determinism()
    yield
    if asked:
        config.enable_op_determinism()


@pytest.mark.usefixtures("no_determinism")
def test_jit_and_steps_per_execution_act_and_give_the_same_weights():
    kinds = {"usual": (), "both": ("--jit", "--steps_per_execution=2")}
    calls, held = {}, {}
    for kind, flags in kinds.items():
        trainer, data = make_training("vgg16", ONE, *flags)
        counted = calls[kind] = []
        count = keras.callbacks.LambdaCallback(
            on_train_batch_end=lambda batch, logs: counted.append(batch)  # noqa: B023
        )
        trainer.fit(data, steps_per_epoch=4, callbacks=[count], verbose=0, shuffle=False)
        assert int(trainer.step.numpy()) == 4
        assert compiled(trainer, data) == (kind == "both")
        held[kind] = {k: v.numpy() for k, v in trainer.state().items()}
    assert {kind: len(c) for kind, c in calls.items()} == {"usual": 4, "both": 2}
    assert max(abs(held["usual"][k] - v).max() for k, v in held["both"].items()) < 1e-5


def test_steps_of_one_call_must_divide_what_is_done_between():
    for name in ("steps", "log_every", "save_every", "eval_every"):
        with pytest.raises(UsageError, match=f"must divide {name}=9"):
            RunConfig.resolve(steps_per_execution=10, **{name: 9})
    config = RunConfig.resolve(steps_per_execution=10, jit=True)
    assert (config.steps_per_execution, config.jit) == (10, True)


def test_a_run_keeps_its_precision_and_one_from_before_had_float32(tmp_path):
    config = dict.fromkeys(run.CONFIG) | {"hparams": {}}
    run.Run(tmp_path / "r", config, {}).close()
    record = json.loads((tmp_path / "r" / "run.json").read_text())
    for key in run.LEGACY_DEFAULTS:
        del record["config"][key]
    (tmp_path / "r" / "run.json").write_text(json.dumps(record))
    run.Run(tmp_path / "r", {**config, "precision": "float32", "replicas": 4}, {}).close()
    for key, other in (("precision", "bfloat16"), ("jit", True), ("steps_per_execution", 2)):
        old = run.LEGACY_DEFAULTS[key]
        with pytest.raises(run.RunError, match=f"{key} was {old!r}, now {other!r}"):
            run.Run(tmp_path / "r", {**config, key: other}, {})


def test_a_refusal_names_the_values_that_differ(tmp_path):
    config = dict.fromkeys(run.CONFIG) | {"hparams": {"a": 1, "b": 2}, "options": {"width": 8}}
    run.Run(tmp_path / "r", config, {}).close()
    other = config | {"hparams": {"b": 3, "a": 1}, "seed": 1}
    with pytest.raises(run.RunError) as error:
        run.Run(tmp_path / "r", other, {})
    assert "with other values (seed was None, now 1; b was 2, now 3): repeat" in str(error.value)
