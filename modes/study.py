"""The studies: measurements that answer one question."""

import argparse
import functools
import json
from pathlib import Path

from modes import shared
from modes.evaluate import make_judge
from modes.shared import UsageError

USES = "model dataset study weights num seed data_dir output extractor inception image_size"


def run(flags):
    if not flags.study:
        raise UsageError(f"--mode=study needs --study={'|'.join(STUDIES)}")
    return STUDIES[flags.study](flags)


def memorisation(flags):
    why = "goes with --study=fid_spatial"
    shared.refuse(flags, "extractor inception image_size", why)
    trainer, config = shared.trained(flags)
    import keras
    import numpy as np

    import datasets
    from evaluate import memorisation as measure
    from trainers import callbacks

    if not hasattr(trainer, "sample_with_reference"):
        raise UsageError(f"{config['model']} sees no reference images: this study is ragan's")
    name, count = flags.dataset or config["dataset"], flags.num or 64
    source = {"image_size": config["image_size"], "data_dir": flags.data_dir}
    train, test = (datasets.arrays(name, split, **source)["image"] for split in ("train", "test"))
    latent = config["options"]["latent"]
    noise = np.random.default_rng([flags.seed, 1]).uniform(-1, 1, (count, latent))
    critic = trainer.discriminator
    features = keras.Model(critic.input, critic.get_layer("features").output)

    def in_parts(network, *inputs):
        parts = range(0, len(inputs[0]), 100)
        return np.concatenate([network(*(x[i : i + 100] for x in inputs)) for i in parts])

    def draw(index, references):
        return trainer.sample_with_reference(noise[index].astype("float32"), references)

    def embed(images):
        return in_parts(lambda part: trainer.infer(features, part), images)

    try:
        numbers, pictures = measure.report(
            lambda index, references: in_parts(draw, index, references),
            ("feature_own_discriminator", embed),
            train,
            test,
            count,
            flags.seed,
        )
    except ValueError as error:
        raise UsageError(f"--num: {error}") from None
    step = int(trainer.step.numpy())
    numbers = {"model": config["model"], "dataset": name, "step": step, **numbers}
    folder = Path(flags.output or "memorisation")
    shared.write(folder / "memorisation.json", (json.dumps(numbers, indent=2) + "\n").encode())
    rows = pictures[:16].reshape(-1, *pictures.shape[2:])
    shared.write(folder / "memorisation.png", callbacks.png(callbacks.image_grid(rows, 16)))
    print(json.dumps(numbers, indent=2))
    print(f"report: {folder}")


def fid_spatial(flags):
    """Real images against the same with their layout broken: which metric notices?"""
    shared.refuse(flags, "weights model", "goes with --study=memorisation")
    shared.quiet_import()
    import datasets
    from evaluate import spatial

    dataset = flags.dataset or "creatures"
    source = {"image_size": flags.image_size, "data_dir": flags.data_dir}
    train, test = (datasets.arrays(dataset, s, **source)["image"] for s in ("train", "test"))
    if test.shape[1] % 16:
        raise UsageError(f"images of {test.shape[1]} do not divide by 16: give an --image_size")
    count = min(flags.num or 10_000, len(test), len(train))
    train, test = train[:count], test[:count]
    judging = argparse.Namespace(**vars(flags))
    judging.metrics, judging.num = spatial.METRICS, count
    arbiter = make_judge(judging, dataset, source, count)
    arbiter.warn()
    parts = [slice(i, min(i + 1000, count)) for i in range(0, count, 1000)]
    found, shown = [], []
    for name, images in spatial.conditions(train, test, flags.seed).items():
        rows = arbiter.rows(functools.partial(map, images, parts))
        found.append({"images": name} | {row["metric"]: row["value"] for row in rows})
        shown.append(images(slice(0, 8)))
        print(json.dumps(found[-1]), flush=True)
    folder = Path(flags.output or "fid_spatial")
    about = {
        "study": "fid_spatial",
        **arbiter.about,
        "seed": flags.seed,
        "versions": shared.versions(),
    }
    shared.write(
        folder / "fid_spatial.json", (json.dumps({**about, "rows": found}, indent=1)).encode()
    )
    shared.write(folder / "fid_spatial.md", spatial.markdown(found).encode())
    shared.write(folder / "fid_spatial.png", spatial.plot(found, shown))
    print(f"study: {folder}")


STUDIES = {"memorisation": memorisation, "fid_spatial": fid_spatial}
