"""Whether a generator copies real images: nearest neighbours and diversity.

Pixels are compared by root mean square in [-1, 1], features by Euclidean distance after each vector
is scaled to length 1.
"""

import numpy as np

from ..common.images import to_float


def pixel_vectors(images):
    """(N, S, S, 3) in [-1, 1] -> (N, S * S * 3), whose Euclidean distances are RMS differences."""
    flat = np.asarray(images, np.float32).reshape(len(images), -1)
    return flat / np.sqrt(flat.shape[1])


def unit_vectors(features):
    """(N, D) -> (N, D), each of length 1."""
    features = np.asarray(features, np.float32)
    return features / (np.linalg.norm(features, axis=1, keepdims=True) + 1e-12)


def in_blocks(embed, images, size=1000):
    """Yields embed(images), (n, D), `size` images at a time."""
    for start in range(0, len(images), size):
        yield embed(images[start : start + size])


def nearest(searches, blocks):
    """The nearest vectors of several sets of queries, in one pass.

    searches: [(queries (Q, D), exclude)]; exclude: None, or (Q,), for each query the index of a
    vector that does not count, such as its own reference. blocks: iterable of vectors (n, D).

    -> for each search (index (Q,) among all vectors, distance (Q,)).
    """
    norms = [np.sum(queries.astype(np.float64) ** 2, axis=1) for queries, _ in searches]
    found = [(np.zeros(len(own), np.int64), np.full(len(own), np.inf)) for own in norms]
    start = 0
    for part in blocks:
        norm = np.sum(part.astype(np.float64) ** 2, axis=1)
        for (queries, exclude), own, (index, best) in zip(searches, norms, found):
            squared = own[:, None] + norm - 2 * queries @ part.T
            if exclude is not None:
                rows = np.flatnonzero((exclude >= start) & (exclude < start + len(part)))
                squared[rows, exclude[rows] - start] = np.inf
            place = squared.argmin(1)
            value = squared[np.arange(len(queries)), place]
            nearer = value < best
            best[nearer], index[nearer] = value[nearer], place[nearer] + start
        start += len(part)
    return [(index, np.sqrt(np.maximum(best, 0))) for index, best in found]


def spread(vectors):
    """(N, D) -> mean Euclidean distance over all pairs."""
    v = np.asarray(vectors, np.float64)
    squared = np.sum(v**2, 1)[:, None] + np.sum(v**2, 1) - 2 * v @ v.T
    return float(np.sqrt(np.maximum(squared, 0)).sum() / (len(v) * (len(v) - 1)))


def spaces(features):
    """Yields (name, embedding of images in [-1, 1], the same of uint8 images): of pixels, and of
    features, (name, function of images -> (B, D))."""
    name, extract = features
    for kind, embed in (("pixel", pixel_vectors), (name, lambda x: unit_vectors(extract(x)))):
        yield kind, embed, lambda images, embed=embed: embed(to_float(images))


def neighbours(samples, features, train, test):
    """Measures samples (N, S, S, 3) in [-1, 1] of a generator that is shown no real image.

    features: (name, function of images -> (B, D)). train, test: uint8 (M, S, S, 3) and
    (K, S, S, 3).

    -> (numbers, pictures): numbers is a dict of JSON values. share_nearer_to_train is that of the
    samples which are nearer to a training image than to every test image; for a generator of new
    images it is about share_without_copies, that of the training images in both. pictures
    (N, 3, S, S, 3) are each sample and its nearest training images by pixels and by features.
    """
    numbers = {"samples": len(samples), "train": len(train), "test": len(test)}
    numbers["share_without_copies"] = len(train) / (len(train) + len(test))
    pictures = [samples]
    for kind, embed, embed_bytes in spaces(features):
        made, held_out = embed(samples), embed_bytes(test)
        searches = [(made, None), (held_out, None)]
        (closest, distance), (_, of_test) = nearest(searches, in_blocks(embed_bytes, train))
        ((_, to_test),) = nearest(searches[:1], in_blocks(np.asarray, held_out))
        numbers[kind] = {
            "sample_to_nearest_train": float(distance.mean()),
            "test_image_to_nearest_train": float(of_test.mean()),
            "share_nearer_to_train": float(np.mean(distance < to_test)),
        }
        pictures.append(to_float(train[closest]))
    return numbers, np.stack(pictures, axis=1)


def report(sample, features, train, test, count, seed):
    """Measures sample(index (B,), references (B, S, S, 3)) -> images (B, S, S, 3) in [-1, 1].

    Equal indices mean equal noise. features: (name, function of images -> (B, D)). train, test:
    uint8 (N, S, S, 3); `count` references, 2 to N of train, are drawn by the seed.

    -> (numbers, pictures): numbers is a dict of JSON values; pictures (count, 4, S, S, 3) are each
    sample, its reference, and its nearest training images by pixels and by features.
    """
    if not 2 <= count <= len(train):
        raise ValueError(f"the number of samples must lie in [2, {len(train)}], not {count}")
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.choice(len(train), count, replace=False))
    held_out = np.sort(rng.choice(len(test), min(count, len(test)), replace=False))
    references, z = to_float(train[chosen]), np.arange(count)
    samples = sample(z, references)
    numbers, pictures = {"samples": count, "train": len(train), "seed": seed}, [samples, references]
    for kind, embed, embed_bytes in spaces(features):
        own, made = embed(references), embed(samples)
        searches = [(made, None), (own, chosen), (embed_bytes(test[held_out]), None)]
        found = nearest(searches, in_blocks(embed_bytes, train))
        (closest, distance), (_, of_reference), (_, of_test) = found
        one_reference = sample(z, np.repeat(references[:1], count, axis=0))
        one_z = sample(np.zeros(count, np.int64), references)
        numbers[kind] = {
            "sample_to_nearest_train": float(distance.mean()),
            "test_image_to_nearest_train": float(of_test.mean()),
            "reference_to_nearest_other_train": float(of_reference.mean()),
            "sample_to_its_reference": float(np.linalg.norm(made - own, axis=1).mean()),
            "sample_to_another_reference": float(
                np.linalg.norm(made - np.roll(own, 1, axis=0), axis=1).mean()
            ),
            "share_whose_nearest_train_is_their_reference": float(np.mean(closest == chosen)),
            "spread_over_z_one_reference": spread(embed(one_reference)),
            "spread_over_references_one_z": spread(embed(one_z)),
            "spread_over_both": spread(made),
            "spread_of_train": spread(own),
        }
        pictures.append(to_float(train[closest]))
    return numbers, np.stack(pictures, axis=1)
