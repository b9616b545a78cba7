"""What the benchmark of the training step counts, and the options that it hands on."""

import pytest

import zoo
from benchmarks import train_step


@pytest.mark.parametrize(
    ("model", "flops", "tolerance"),
    [
        ("dcgan", 384_958_464, 0),
        ("ragan", 475_201_536, 1e-3),  # F and the weighted sum are not counted
        ("sagan", 1_304_922_112, 0),
    ],
)
def test_flops_are_those_that_pytorch_counts_in_its_step(model, flops, tolerance):
    """torch.utils.flop_counter on benchmarks.torch_gan and torch_sagan, 4 images less 2."""
    assert abs(train_step.flops_per_image(model) / flops - 1) <= tolerance


@pytest.mark.parametrize("model", train_step.MODELS)
def test_the_pytorch_side_is_given_options_that_there_are(model):
    assert set(train_step.MODELS[model][1].split()) <= zoo.options(model).keys()
