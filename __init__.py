"""Attention-guided image models in Keras 3 and TensorFlow."""

__version__ = "1.0.0.dev0"
