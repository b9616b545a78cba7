"""Generators trained with and without a paper's idea, all else being equal."""

import dataclasses
import json

from absl import logging

from ..common.errors import UsageError
from ..common.files import write_output
from ..common.tables import markdown
from ..datasets import open_dataset
from ..evaluate import localization, two_stage
from ..experiments import run_directory
from ..experiments.models import open_run
from ..experiments.run_reports import pictures_of
from ..experiments.training import StopRule, recorded_extractor
from ..reports import comparison
from ..tasks import scoring
from ..tasks.base import in_batches
from ..trainers.callbacks import NotFinite
from ..zoo import registry
from ..zoo.layers.inference import Inference
from .base import Study

METRICS = ("fid", "classes")
SHOWN = 12  # images whose maps are drawn
RUNS = {  # study -> its question, and (name, model, settings) of each run
    "attention": (
        "Where does self-attention help a SAGAN?",
        [
            ("full", "sagan", {"attention": "both"}),
            ("none", "sagan", {"attention": "none"}),
            ("no generator", "sagan", {"attention": "discriminator"}),
            ("no discriminator", "sagan", {"attention": "generator"}),
        ],
    ),
    "regional": (
        "Regional attention against self-attention and none, DCGAN's loss",
        [
            ("dcgan", "dcgan", {}),
            ("dcgan + self-attention", "dcgan", {"self_attention": True}),
            ("ragan", "ragan", {}),
        ],
    ),
    "regional_wgan": (
        "Regional attention against self-attention and none, WGAN's loss",
        [
            ("wgan", "wgan", {}),
            ("wgan + self-attention", "wgan", {"self_attention": True}),
            ("ragan, wgan", "ragan", {"loss": "wgan"}),
        ],
    ),
    "readings": (
        "What RAGAN's Letter leaves open, DCGAN's loss",
        [
            ("dcgan", "dcgan", {}),
            ("ragan", "ragan", {}),
            ("X of another batch", "ragan", {"reference_images": "other"}),
            ("X mirrored", "ragan", {"reference_images": "mirrored"}),
            ("X augmented", "ragan", {"reference_images": "augmented"}),
            ("bottleneck", "ragan", {"bottleneck": 4}),
            ("attention at 16 x 16", "ragan", {"attend_at": 16}),
            ("slow lambda", "ragan", {"lambda_rate": 0.1}),
            ("dropout of regions", "ragan", {"region_dropout": 0.5}),
        ],
    ),
    "teaching": (
        "Does a teacher's attention help a discriminator to find the object?",
        [
            ("regular GAN", "ata_gan", {"attention_weight": 0.0}),
            ("ATA-GAN", "ata_gan", {}),
        ],
    ),
}


def compare(study, runs, data="creatures", *, request, stop=None):
    """Trains the runs of a study and sets them side by side; returns a Study. The same call goes on
    where it was interrupted.

    study: a key of RUNS. runs: a StudyRuns. data: a data set's name. request: an EvaluationRequest:
    how the runs are scored. stop: a StopRule, which is marked and stops no run.
    """
    question, arrangements = RUNS[study]
    stop, spec, compared = stop or StopRule(), scoring.scorer_spec(request, METRICS), []
    for name, model, settings in arrangements:
        try:
            runs.train(study, name, model, data, settings, scorer=spec)
        except NotFinite as error:
            logging.warning(f"{name} ended early: {error}")
        folder = runs.folder(name)
        config = run_directory.read_record(folder)["config"]
        spec = dataclasses.replace(spec, extractor=recorded_extractor(folder))  # the same for all
        rows = run_directory.read_rows(folder / "metrics.jsonl")
        rows = [row for row in rows if row["step"] <= config["steps"]]  # of a run that went further
        best = config["best"]
        stages = two_stage.stages(rows, **best, **dataclasses.asdict(stop))
        losses = two_stage.means(rows, best["metric"])
        pictures = pictures_of(folder / "samples")
        rests = stages.score_rest, stages.loss_rest
        compared.append(comparison.Run(name, rows, pictures, losses, *rests))
    return _written(study, question, runs, compared, config, stop)


def _written(study, question, runs, compared, config, stop):
    first, measured, folder = config["best"]["metric"], config["evaluation"], runs.output
    scored = [row for run in compared for row in run.rows if first in row]
    if not scored:
        raise UsageError(f"no run was scored: give more --steps or a lower --eval_every ({folder})")
    metrics = [key for key in scored[0] if key != "step"]
    lines = comparison.table(compared, metrics)
    labels = [name.partition("_")[0] for name in metrics]
    figures = {}
    if any(run.pictures for run in compared):
        figures["grids"] = "The same noise at the same steps", comparison.grids(compared)
    figures |= {
        "curves": ("Scores by step", comparison.curves(compared, metrics, labels)),
        "losses": (
            f"{labels[0]}, the discriminator's loss, and where the two-stage rule stops",
            comparison.losses(compared, first, labels[0]),
        ),
    }
    settings = " ".join(f"{k}={v}" for k, v in runs.settings.items()) or "default settings"
    about = [
        f"{config['dataset']}, {config['image_size']} x {config['image_size']}, batch "
        f"{config['batch_size']}, {config['steps']:,} steps, seed {config['seed']}; {settings}.",
        f"{measured['count']:,} samples of the averaged generator, {measured['real_count']:,} real "
        f"images of the {measured['split']} split, features of {measured['extractor']} (digest "
        f"{measured['digest']}). stop: the step at which the two-stage rule would end the run "
        f"(window {stop.window}, tolerance {stop.tolerance:g}).",
    ]
    table = markdown(lines)
    write_output(folder / f"{study}.md", "\n\n".join([*about, table]))
    for name, (_, png) in figures.items():
        write_output(folder / f"{study}_{name}.png", png)
    page = comparison.comparison(question, about, lines, dict(figures.values()))
    write_output(folder / f"{study}.html", page)
    return Study(folder, table, folder / f"{study}.html")


def teaching(study, runs, data="cells", *, request, stop=None):
    """`compare` for ATA-GAN, and whose map finds the object: its discriminator's, a regular GAN's,
    the teacher's."""
    compared = compare(study, runs, data, request=request, stop=stop)
    split, scores, maps = request.split or "test", {}, {}
    for name, *_ in RUNS[study][1]:
        model = open_run(runs.folder(name))
        dataset = open_dataset(model.origin.dataset, model.image_size, runs.data_dir)
        test = dataset.arrays(split)
        look = {name: model.object_maps}
        if not scores:
            look = {"teacher": teacher_maps(model), **look}
        for key, object_maps in look.items():
            scores[key] = scoring.localize(object_maps, dataset, split)
            maps[key] = object_maps(test["image"][:SHOWN])
    lines = [["map of", *(score.metric for score in scores["teacher"])]]
    lines += [[key, *(f"{score.value:.3f}" for score in row)] for key, row in scores.items()]
    table, folder = markdown(lines), runs.output
    masks = test["mask"][:SHOWN, ..., 0] > 127
    picture = comparison.pictures({"image, mask": test["image"][:SHOWN], **maps}, masks)
    numbers = {key: [score.row() for score in row] for key, row in scores.items()}
    write_output(folder / "localization.png", picture)
    write_output(folder / "localization.md", table)
    write_output(folder / "localization.json", json.dumps(numbers, indent=1))
    return Study(folder, f"{compared.table}\n{table}", compared.page, numbers)


def teacher_maps(model):
    """images -> maps (N, S, S) of an ATA-GAN's teacher."""
    teacher = registry.networks(model.name, **model.options)["teacher"]
    infer = Inference()

    def object_maps(images):
        maps = in_batches(lambda x: infer(teacher, x), images)
        return localization.prepared(maps, model.image_size)

    return object_maps
