"""RA's training, which is CycleGAN's (zoo.ra)."""

from . import attention_gan, cyclegan
from .base import Recipe

RECIPES = {  # by data set
    **cyclegan.RECIPES,
    "creatures": Recipe(image_size=64, batch_size=4, steps=5_000, options={"width": 16}),  # ours
}


class RA(cyclegan.CycleGAN):
    def extra_logs(self, to_x, to_y):
        """The mean attention, and the shares of pixels where it is almost 0 and almost 1."""
        return attention_gan.attention_logs(to_x["masks"], to_y["masks"])


VARIANTS = {"cyclegan": (cyclegan.HParams, RA)}
