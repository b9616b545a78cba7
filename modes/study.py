"""The studies: measurements that answer one question."""

import argparse
import functools
import gc
import json
from pathlib import Path

from ..common.files import write_output
from ..common.images import image_grid, png
from ..common.tables import markdown
from . import guidance, shared, train, translations
from .evaluate import localize, make_judge
from .shared import UsageError

TRAINS = """set steps batch_size log_every sample_every save_every eval_every metrics split
stop_window stop_tolerance"""
USES = f"""model dataset study weights num seed data_dir output extractor inception image_size
threshold background {TRAINS}"""
SHOWN = 12  # images whose maps are drawn
CONTRASTS = {  # study -> its question, and (name, model, what --set gives) of each run
    "attention": (
        "Where does self-attention help a SAGAN?",
        [
            ("full", "sagan", ["attention=both"]),
            ("none", "sagan", ["attention=none"]),
            ("no generator", "sagan", ["attention=discriminator"]),
            ("no discriminator", "sagan", ["attention=generator"]),
        ],
    ),
    "regional": (
        "Regional attention against self-attention and none, DCGAN's loss",
        [
            ("dcgan", "dcgan", []),
            ("dcgan + self-attention", "dcgan", ["self_attention=true"]),
            ("ragan", "ragan", []),
        ],
    ),
    "regional_wgan": (
        "Regional attention against self-attention and none, WGAN's loss",
        [
            ("wgan", "wgan", []),
            ("wgan + self-attention", "wgan", ["self_attention=true"]),
            ("ragan, wgan", "ragan", ["loss=wgan"]),
        ],
    ),
    "teaching": (
        "Does a teacher's attention help a discriminator to find the object?",
        [
            ("regular GAN", "ata_gan", ["attention_weight=0"]),
            ("ATA-GAN", "ata_gan", []),
        ],
    ),
}


def run(flags):
    if not flags.study:
        raise UsageError(f"--mode=study needs --study={'|'.join(STUDIES)}")
    if flags.study != "gain":
        shared.refuse(flags, "threshold background", f"does not go with --study={flags.study}")
    return STUDIES[flags.study](flags)


def memorisation(flags):
    why = "does not go with --study=memorisation"
    shared.refuse(flags, f"extractor inception image_size {TRAINS}", why)
    trainer, config = shared.trained(flags)
    import keras
    import numpy as np

    from .. import datasets
    from ..evaluate import memorisation as measure

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
    write_output(folder / "memorisation.json", (json.dumps(numbers, indent=2) + "\n").encode())
    rows = pictures[:16].reshape(-1, *pictures.shape[2:])
    write_output(folder / "memorisation.png", png(image_grid(rows, 16)))
    print(json.dumps(numbers, indent=2))
    print(f"report: {folder}")


def fid_spatial(flags):
    """Real images against the same with their layout broken: which metric notices?"""
    shared.refuse(flags, f"weights model {TRAINS}", "does not go with --study=fid_spatial")
    shared.quiet_import()
    from .. import datasets
    from ..evaluate import spatial
    from ..reports import comparison

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
    write_output(
        folder / "fid_spatial.json", (json.dumps({**about, "rows": found}, indent=1)).encode()
    )
    write_output(folder / "fid_spatial.md", spatial.markdown(found).encode())
    write_output(folder / "fid_spatial.png", comparison.distortions(found, shown))
    print(f"study: {folder}")


def contrast(flags):
    """Trains the runs of a contrast with one seed, noise and order of the data; sets them side by
    side. The same command goes on where it was interrupted. Returns {name: run directory}."""
    shared.refuse(flags, "weights model", f"does not go with --study={flags.study}")
    question, arrangements = CONTRASTS[flags.study]
    shared.quiet_import()
    import keras

    from ..evaluate import two_stage
    from ..reports import comparison
    from ..trainers import callbacks, run

    folder = Path(flags.output or flags.study)
    window, tolerance = train.stop_values(flags)
    runs = []
    for name, model, pairs in arrangements:
        one = argparse.Namespace(**vars(flags))
        one.mode, one.model, one.set = "train", model, [*flags.set, *pairs]
        one.run_dir = str(folder / shared.run_name(name))
        one.metrics = flags.metrics or ("fid", "classes")
        one.strategy, one.stop, one.stop_window, one.stop_tolerance = "auto", None, None, None
        print(f"{flags.study}: {name}", flush=True)
        try:
            train.run(one)
        except callbacks.NotFinite as error:
            print(f"{name} ended early: {error}", flush=True)
        keras.backend.clear_session()
        gc.collect()
        config = run.read_record(one.run_dir)["config"]
        flags.extractor = train.recorded_extractor(Path(one.run_dir))  # the same for all
        rows = run.read_rows(Path(one.run_dir) / "metrics.jsonl")
        rows = [row for row in rows if row["step"] <= config["steps"]]  # of a run that went further
        paths = sorted((Path(one.run_dir) / "samples").glob("step_*.png"))
        pictures = [(run.step_of(path), path) for path in paths]
        stages = two_stage.stages(rows, **config["best"], window=window, tolerance=tolerance)
        losses = two_stage.means(rows, config["best"]["metric"])
        rests = stages.score_rest, stages.loss_rest
        runs.append(comparison.Run(name, rows, pictures, losses, *rests))

    first, judged = config["best"]["metric"], config["evaluation"]
    scored = [row for one in runs for row in one.rows if first in row]
    if not scored:
        raise UsageError(f"no run was scored: give more --steps or a lower --eval_every ({folder})")
    metrics = [key for key in scored[0] if key != "step"]
    lines = comparison.table(runs, metrics)
    labels = [name.partition("_")[0] for name in metrics]
    figures = {
        "grids": ("The same noise at the same steps", comparison.grids(runs)),
        "curves": ("Scores by step", comparison.curves(runs, metrics, labels)),
        "losses": (
            f"{labels[0]}, the discriminator's loss, and where the two-stage rule stops",
            comparison.losses(runs, first, labels[0]),
        ),
    }
    about = [
        f"{config['dataset']}, {config['image_size']} x {config['image_size']}, batch "
        f"{config['batch_size']}, {config['steps']:,} steps, seed {config['seed']}; "
        f"{' '.join(flags.set) or 'default settings'}.",
        f"{judged['count']:,} samples of the averaged generator, {judged['real_count']:,} real "
        f"images of the {judged['split']} split, features of {judged['extractor']} (digest "
        f"{judged['digest']}). Two-stage rule: window {window}, tolerance {tolerance:g}.",
    ]
    table = markdown(lines)
    write_output(folder / f"{flags.study}.md", ("\n\n".join([*about, table])).encode())
    for name, (_, data) in figures.items():
        write_output(folder / f"{flags.study}_{name}.png", data)
    page = comparison.comparison(question, about, lines, dict(figures.values()))
    write_output(folder / f"{flags.study}.html", page.encode())
    print(table)
    print(f"study: {folder / flags.study}.html")
    return {name: folder / shared.run_name(name) for name, *_ in arrangements}


def teaching(flags):
    """The contrast of ATA-GAN, and whose map finds the object: its discriminator's, a regular
    GAN's, the teacher's."""
    runs = contrast(flags)
    from .. import datasets
    from ..evaluate import localization
    from ..reports import comparison

    found, maps = {}, {}
    for name, folder in runs.items():
        named = argparse.Namespace(mode=flags.mode, model=None, weights=str(folder))
        trainer, config = shared.trained(named)
        about = {"model": config["model"], "weights": str(folder), "dataset": config["dataset"]}
        source = {"image_size": config["image_size"], "data_dir": flags.data_dir}
        test = datasets.arrays(config["dataset"], flags.split or "test", **source)
        networks = {name: shared.explainer(about | {"discriminator": trainer.discriminator})}
        if not found:
            networks = {"teacher": trainer.networks["teacher"], **networks}
        for key, network in networks.items():
            found[key] = localize(about, source, flags.split or "test", network)
            shown = shared.attended(network, test["image"][:SHOWN])
            maps[key] = localization.prepared(shown, config["image_size"])
    folder = Path(flags.output or flags.study)
    lines = [["map of", *(row["metric"] for row in found["teacher"])]]
    lines += [[name, *(f"{row['value']:.3f}" for row in rows)] for name, rows in found.items()]
    table = markdown(lines)
    masks = test["mask"][:SHOWN, ..., 0] > 127
    picture = comparison.pictures({"image, mask": test["image"][:SHOWN], **maps}, masks)
    write_output(folder / "localization.png", picture)
    write_output(folder / "localization.md", table.encode())
    write_output(folder / "localization.json", json.dumps(found, indent=1).encode())
    print(table)


STUDIES = {"memorisation": memorisation, "fid_spatial": fid_spatial}
STUDIES |= dict.fromkeys(CONTRASTS, contrast) | {"teaching": teaching}
STUDIES |= {"gain": guidance.gain, "biased": guidance.biased}
STUDIES |= {"translation": translations.translation}
