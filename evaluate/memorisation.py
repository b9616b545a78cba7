"""Does a generator that sees real images copy them? Nearest neighbours and diversity.

Pixels are compared by root mean square in [-1, 1]; features by Euclidean distance after each
vector is scaled to length 1.
"""

import numpy as np


def pixel_vectors(images):
    """(N, S, S, 3) in [-1, 1] -> (N, S * S * 3), whose Euclidean distances are RMS differences."""
    flat = np.asarray(images, np.float32).reshape(len(images), -1)
    return flat / np.sqrt(flat.shape[1])


def unit_vectors(features):
    """(N, D) -> (N, D), each of length 1."""
    features = np.asarray(features, np.float32)
    return features / (np.linalg.norm(features, axis=1, keepdims=True) + 1e-12)


def nearest(queries, vectors, exclude=None, block=4096):
    """(Q, D), (N, D) -> index (Q,) and distance (Q,) of each query's nearest vector.

    exclude: (Q,) index that a query may not find, its own reference for one.
    """
    best = np.full(len(queries), np.inf)
    index = np.zeros(len(queries), np.int64)
    own = np.sum(queries.astype(np.float64) ** 2, axis=1)
    for start in range(0, len(vectors), block):
        part = np.asarray(vectors[start : start + block])
        squared = own[:, None] + np.sum(part.astype(np.float64) ** 2, axis=1) - 2 * queries @ part.T
        if exclude is not None:
            rows = np.flatnonzero((exclude >= start) & (exclude < start + len(part)))
            squared[rows, exclude[rows] - start] = np.inf
        place = squared.argmin(1)
        value = squared[np.arange(len(queries)), place]
        nearer = value < best
        best[nearer], index[nearer] = value[nearer], place[nearer] + start
    return index, np.sqrt(np.maximum(best, 0))


def spread(vectors):
    """(N, D) -> mean Euclidean distance over all pairs."""
    v = np.asarray(vectors, np.float64)
    squared = np.sum(v**2, 1)[:, None] + np.sum(v**2, 1) - 2 * v @ v.T
    return float(np.sqrt(np.maximum(squared, 0)).sum() / (len(v) * (len(v) - 1)))


def report(sample, features, train, test, count, seed):
    """Measures sample(z index (B,), references (B, S, S, 3)) -> images (B, S, S, 3).

    sample draws its noise by index, so that equal indices are equal noise. features: images ->
    (B, D). train, test: (N, S, S, 3) in [-1, 1]; count references are drawn from train by the seed.

    -> (numbers, pictures): numbers is a dict of JSON values; pictures (count, 4, S, S, 3) holds
    each sample, its reference, and its nearest training image by pixels and by features.
    """
    rng = np.random.default_rng(seed)
    chosen = rng.choice(len(train), count, replace=False)
    held_out = test[rng.choice(len(test), min(count, len(test)), replace=False)]
    references, z = train[chosen], np.arange(count)
    samples = sample(z, references)
    numbers, pictures = {"samples": count, "train": len(train), "seed": seed}, [samples, references]
    for name, embed in (("pixel", pixel_vectors), ("feature", lambda x: unit_vectors(features(x)))):
        bank = np.concatenate([embed(train[i : i + 1000]) for i in range(0, len(train), 1000)])
        found, distance = nearest(embed(samples), bank)
        _, of_reference = nearest(bank[chosen], bank, exclude=chosen)
        _, of_test = nearest(embed(held_out), bank)
        to_reference = np.linalg.norm(embed(samples) - bank[chosen], axis=1)
        to_other = np.linalg.norm(embed(samples) - bank[np.roll(chosen, 1)], axis=1)
        one_reference = sample(z, np.repeat(references[:1], count, axis=0))
        one_z = sample(np.zeros(count, np.int64), references)
        numbers[name] = {
            "sample_to_nearest_train": float(distance.mean()),
            "test_image_to_nearest_train": float(of_test.mean()),
            "reference_to_nearest_other_train": float(of_reference.mean()),
            "sample_to_its_reference": float(to_reference.mean()),
            "sample_to_another_reference": float(to_other.mean()),
            "share_whose_nearest_train_is_their_reference": float(np.mean(found == chosen)),
            "spread_over_z_one_reference": spread(embed(one_reference)),
            "spread_over_references_one_z": spread(embed(one_z)),
            "spread_over_both": spread(embed(samples)),
            "spread_of_train": spread(bank[chosen]),
        }
        pictures.append(train[found])
    return numbers, np.stack(pictures, axis=1)
