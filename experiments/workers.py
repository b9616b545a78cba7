"""The processes that train one model together: who is chief, and what all of them must know."""

import tensorflow as tf


class Lost(OSError):
    """Another worker has ended, or cannot be reached."""


class Workers:
    """The processes of a strategy, each with its own copy of the program; of most strategies one.

    number: this one's, from 0; count: of them all; chief: True for the one that writes.
    """

    def __init__(self, strategy):
        self.strategy, self.number, self.count = strategy, 0, 1
        if isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
            resolver = strategy.cluster_resolver
            jobs = sorted(resolver.cluster_spec().as_dict().items())  # chief, worker
            places = [(job, i) for job, hosts in jobs for i in range(len(hosts))]
            self.number = places.index((resolver.task_type, resolver.task_id))
            self.count = len(places)
        self.chief = self.number == 0
        self._gathered = tf.function(self._gather, autograph=False)

    def _gather(self, number):
        values = self.strategy.run(lambda: number[None])
        return tf.reduce_max(self.strategy.gather(values, axis=0))

    def largest(self, number):
        """The largest of the workers' whole numbers. Each waits here for all."""
        if self.count == 1:
            return number
        return int(self._gathered(tf.constant(number, tf.int64)))

    def agree(self, number):
        """True if all workers have the same whole number. Each waits here for all."""
        return self.largest(number) == -self.largest(-number)
