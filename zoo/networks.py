"""The networks of one model: a mapping of names to Keras models, each built when it is needed."""

from collections.abc import Mapping

import numpy as np

from ..common import variables
from . import weights
from .layers import cam


class Networks(Mapping):
    """{name: keras.Model}; each network is built on first access and kept.

    makers: {name: function () -> keras.Model}. Iteration covers these names in this order, so that
    networks built by iteration draw the same initial weights for the same seed, whoever asks.
    optional: makers of networks that `networks[name]` returns but iteration leaves out, because
    they need files of their own or are parts of others. A layer that several networks share
    belongs to the first of them that is built: makers reach it through these Networks.

    start: MODEL:TAG or MODEL:PLACE/TAG (zoo.weights.find), the published weights that training
    starts from, or "". transfer: function of that network, which copies its weights into these
    networks or raises ValueError if they do not fit.
    """

    def __init__(self, makers, optional=None, start="", transfer=None):
        if start and not start.partition(":")[2]:
            raise ValueError(f"start takes MODEL:TAG, not {start!r}")
        self._names = tuple(makers)
        self._makers = {**makers, **(optional or {})}
        self._built = {}
        self.start, self._transfer = start, transfer

    def __getitem__(self, name):
        if name not in self._built:
            self._built[name] = self._makers[name]()
        return self._built[name]

    def __contains__(self, name):
        return name in self._makers

    def __iter__(self):
        return iter(self._names)

    def __len__(self):
        return len(self._names)

    def __repr__(self):
        return f"Networks({', '.join(self._names)}; built: {', '.join(self._built) or 'none'})"

    @property
    def built(self):
        """The names of the networks built so far, in the order in which they were finished."""
        return tuple(self._built)

    def load_start_weights(self):
        """Copies the weights that training starts from; returns False if `start` names none.

        Weights that are missing or do not fit raise WeightsError.
        """
        if not self.start:
            return False
        name, _, tag = self.start.partition(":")
        try:
            network = weights.load(name, tag)
        except weights.WeightsError as error:
            raise weights.WeightsError(
                f"start: {error}; import such weights, or begin without: start=''"
            ) from None
        try:
            self._transfer(network)
        except ValueError as error:
            raise weights.WeightsError(f"start={self.start}: {error}") from None
        return True


def of_classifier(make, start="", maps="soft", centred=False):
    """The Networks of a model whose only network is a classifier, which a function () makes; start:
    as of Networks. maps: a key of zoo.layers.cam.MAPS, the map that explains the classifier
    (`cam.explained`), and whether its values are drawn where they belong (`cam.centres`); the
    weights do not depend on these."""
    cam.check_maps(maps)

    def classifier():
        network = make()
        network.maps, network.centred = maps, centred
        return network

    networks = Networks(
        {"classifier": classifier},
        start=start,
        transfer=lambda source: copy_backbone(networks["classifier"], source),
    )
    return networks


def copy_backbone(network, source, new=()):
    """Sets all weights of a network but those of its last layer to the source's.

    new: names of more layers that keep their own weights. A source that lacks a weight, or has it
    in another shape, raises ValueError, and no weight is set.
    """
    kept = {variables.last_layer(network).name, *new}
    ours = {v.path: v for v in network.variables if v.path.partition("/")[0] not in kept}
    theirs = {v.path: np.asarray(v) for v in source.variables if v.path in ours}
    try:
        variables.assign(ours, theirs)
    except variables.Misfit as error:
        raise ValueError(
            f"does not fit the backbone ({error.names}): give the backbone, width and head that it "
            "was made with"
        ) from None
