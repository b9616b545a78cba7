"""bfloat16: the graph compiler's rewrite on CPUs, what stays float32 in it, and where it is not
used."""

import contextlib
import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from attention_zoo.cli import main
from attention_zoo.experiments import precision as ways
from attention_zoo.experiments import run_directory as run
from attention_zoo.experiments import training
from attention_zoo.experiments.config import RunConfig
from attention_zoo.tests.helpers import drawn, gap, mistake, same_run, weights_of
from attention_zoo.tools.scale import make_training
from attention_zoo.trainers import base
from attention_zoo.zoo.layers import precision
from attention_zoo.zoo.layers.precision import Float32, Float32Dense, float32, matmul, of_float32
from attention_zoo.zoo.layers.self_attention import SelfAttention
from attention_zoo.zoo.layers.spectral_norm import SNConv2D

rewrites = pytest.mark.skipif(
    not ways.INSTRUCTIONS & ways.instructions(), reason="this processor has no bfloat16"
)
TINY = ("--model=dcgan", "--dataset=creatures/tiny", "--set=width=4", "--batch_size=4")
TINY += ("--precision=bfloat16", "--log_every=1")


def rounded(x):
    """Whether all values of an array are values of bfloat16."""
    x = np.asarray(x)
    return np.array_equal(x, np.asarray(tf.cast(tf.cast(x, tf.bfloat16), tf.float32)))


def compiled(function):
    return tf.function(function, autograph=False)


@rewrites
def test_what_the_rewrite_would_take_along_stays_float32():
    a, b = tf.constant(drawn(64, 64)), tf.constant(drawn(64, 64, seed=2))
    softplus = of_float32(lambda x: tf.reduce_mean(tf.math.softplus(x)))

    def step(a):
        with tf.GradientTape() as tape:
            tape.watch(a)
            product = a @ b
            loss = softplus(product)
        gradient = tape.gradient(loss, a)
        with tf.GradientTape() as tape:
            tape.watch(a)
            full = matmul(a, b)
            total = tf.reduce_sum(full * full)
        return {
            "product": product,
            "softplus": tf.math.softplus(product),
            "gradient": gradient,
            "loss": loss,
            "own": tf.math.softplus(float32(product)),
            "full": full,
            "full gradient": tape.gradient(total, a),
        }

    rewritten, plain = base.in_bfloat16(compiled(step))(a), compiled(step)(a)
    assert {k for k, v in rewritten.items() if rounded(v)} == {"product", "softplus", "gradient"}
    assert not any(rounded(v) for v in plain.values())
    assert gap([rewritten["full"].numpy()], [plain["full"].numpy()]) < 1e-5
    assert abs(float(rewritten["loss"]) - float(plain["loss"])) < 1e-3
    assert np.array_equal(compiled(step)(a)["product"], plain["product"])  # it is off again


@rewrites
def test_sigma_and_the_softmax_of_attention_stay_float32():
    keras.utils.set_random_seed(0)
    x = tf.constant(drawn(2, 4, 4, 16))
    conv, attention = SNConv2D(8, 3), SelfAttention()
    for layer in (conv, attention):
        layer.build(x.shape)
    dense = tf.constant(drawn(16, 16))

    def step(x):
        x = tf.reshape(tf.reshape(x, (-1, 16)) @ dense, x.shape)
        conv(x, training=True)
        return attention(x, return_attention=True), conv.u + 0.0

    u = conv.u.numpy()
    found = base.in_bfloat16(compiled(step))(x)
    conv.u.assign(u)
    plain = compiled(step)(x)
    assert not any(rounded(v) for v in (*found, *plain))
    assert abs(found[0].numpy().sum(-1) - 1).max() < 1e-6
    assert gap([np.asarray(v) for v in found[1:]], [np.asarray(v) for v in plain[1:]]) < 0.02


def test_the_forms_are_those_of_float32():
    x, layer = drawn(4, 6), Float32Dense(3, activation="sigmoid", bias_initializer="ones")
    usual = keras.layers.Dense(3, activation="sigmoid")
    layer.build(x.shape)
    usual.build(x.shape)
    usual.set_weights(layer.get_weights())
    for context in (False, True):
        with precision.training_step(rewritten=True) if context else contextlib.nullcontext():
            assert gap([np.asarray(layer(x))], [np.asarray(usual(x))]) < 1e-6
            assert precision.is_rewritten() is context
            for kind in ("float16", "bfloat16", "float32"):
                assert Float32()(tf.cast(x, kind)).dtype == float32(tf.cast(x, kind)).dtype
                assert float32(tf.cast(x, kind)).dtype == "float32"
            a, b = tf.constant(drawn(2, 3, 4)), tf.constant(drawn(2, 4, 5))
            with tf.GradientTape() as tape:
                tape.watch((a, b))
                loss = tf.reduce_sum(matmul(a, b) ** 2)
            found = [np.asarray(g) for g in tape.gradient(loss, (a, b))]
            expected = [2 * (a @ b) @ tf.linalg.matrix_transpose(b)]
            expected += [2 * tf.linalg.matrix_transpose(a) @ (a @ b)]
            assert gap(found, [g.numpy() for g in expected]) < 1e-5
    assert not precision.is_rewritten()


@rewrites
@pytest.mark.parametrize("name", ["dcgan", "gain"])
def test_a_step_computes_in_bfloat16_and_keeps_float32(name):
    """Its losses are nearly those of float32, and none of them is a value of bfloat16."""
    steps = {}
    for kind in ("float32", "bfloat16"):
        trainer, data = make_training(name, tf.distribute.get_strategy(), f"--precision={kind}")
        assert trainer.bfloat16 is (kind == "bfloat16")
        trainer.make_train_function()
        batches = iter(data)
        steps[kind] = {k: float(v) for k, v in trainer.train_function(batches).items()}, trainer
    trainer.train_function(batches)
    plain, half = (steps[k][0] for k in ("float32", "bfloat16"))
    for loss, value in plain.items():
        assert abs(half[loss] - value) < 0.03 * max(1, abs(value)), loss
    assert half != plain
    whole = {"r", "mask_low", "mask_high"} | {k for k, v in plain.items() if v == 0}
    assert [k for k, v in half.items() if k not in whole and rounded(np.float32(v))] == []
    state = steps["bfloat16"][1].state()
    moving = [v for k, v in state.items() if "moving_" in k or k.endswith("/u")]
    average = [v for k, v in state.items() if k.startswith("average/") and "kernel" in k]
    second = [v for k, v in state.items() if k.endswith(("kernel_velocity", "kernel_momentum"))]
    for group in (moving, average, second):
        group = [np.asarray(v) for v in group if np.any(v) and np.size(v) > 4]
        assert not [v for v in group if rounded(v) and not np.array_equal(v, np.round(v))]


@pytest.mark.slow
@rewrites
def test_two_replicas_train_as_one_in_bfloat16(mirrored):
    found = []
    for strategy in (tf.distribute.get_strategy(), mirrored):
        trainer, data = make_training("dcgan", strategy, "--precision=bfloat16")
        with strategy.scope():
            trainer.make_train_function()
        logs = trainer.train_function(iter(data))
        found.append({k: float(v) for k, v in logs.items()})
    for loss, value in found[0].items():
        assert abs(found[1][loss] - value) < 2e-3 * max(1, abs(value)), loss


@rewrites
def test_a_resumed_run_is_the_same_to_the_bit(tmp_path, capsys):
    whole, parts = (f"--run_dir={tmp_path / name}" for name in ("whole", "parts"))
    for flags in ((whole, "--steps=4"), (parts, "--steps=2"), (parts, "--steps=4")):
        assert main.main([*TINY, "--save_every=2", "--sample_every=2", *flags]) == 0
    same_run(tmp_path / "whole", tmp_path / "parts")
    record = json.loads((tmp_path / "whole" / "run.json").read_text())
    assert record["config"]["precision"] == "bfloat16"
    with pytest.raises(run.RunError, match="precision was 'bfloat16', now 'float32'"):
        training.train(RunConfig.resolve(**run_values()), run_dir=tmp_path / "whole")


def run_values():
    return {
        "model": "dcgan",
        "data": "creatures/tiny",
        "settings": {"width": 4},
        "batch_size": 4,
        "steps": 6,
    }


def test_it_is_the_policy_on_accelerators(monkeypatch):
    monkeypatch.setattr(ways, "accelerated", lambda: True)
    assert ways.policy(RunConfig.resolve(**run_values(), precision="bfloat16")) == (
        "mixed_bfloat16",
        False,
    )


def test_a_cpu_without_instructions_says_so_and_trains_in_float32(monkeypatch, caplog):
    monkeypatch.setattr(ways, "instructions", lambda: {"avx512f"})
    config = RunConfig.resolve(**run_values(), precision="bfloat16")
    trainers = [training.make_trainer(config)]
    assert "this processor has no bfloat16 instructions: float32 is used" in caplog.text
    trainers.append(training.make_trainer(RunConfig.resolve(**run_values())))
    assert [t.bfloat16 for t in trainers] == [False, False]
    first, second = (weights_of(t.networks["generator"]) for t in trainers)
    assert gap(first, second) == 0


def test_xla_on_a_cpu_is_refused(capsys, tmp_path):
    line = mistake(capsys, *TINY, "--jit", f"--run_dir={tmp_path / 'run'}", "--steps=1")
    assert "bfloat16 on a CPU cannot be combined with --jit: leave out one of them" in line


def test_float16_is_keras_policy():
    config = RunConfig.resolve(**run_values(), precision="float16")
    assert ways.policy(config) == ("mixed_float16", False)


def test_instructions_are_read_from_linux(monkeypatch, tmp_path):
    info = tmp_path / "cpuinfo"
    info.write_text("processor\t: 0\nflags\t\t: fpu avx512_bf16 sse\n\nFeatures : asimd bf16\n")
    path = ways.Path
    monkeypatch.setattr(ways, "Path", lambda _: path(info))
    assert ways.instructions() == {"fpu", "avx512_bf16", "sse", "asimd", "bf16"}
    info.unlink()
    assert ways.instructions() == set()
