"""What studies share: their runs, and what they return."""

import dataclasses
import gc
import json
import time
from dataclasses import dataclass
from pathlib import Path

import keras
from absl import logging

from .. import trainers, zoo
from ..common import memory
from ..common.files import write_output
from ..experiments import training
from ..experiments.config import RunConfig


@dataclass(frozen=True)
class StudyRuns:
    """How a study trains its runs.

    output: the folder of all. data_dir: of the data sets. options: of RunConfig.resolve (steps,
    batch_size, image_size, seed, save_every ...), the same for all runs. settings: {name: value}
    for all runs whose model knows the name. command: recorded with each run. progress: show bars.
    """

    output: Path
    data_dir: str | None = None
    options: dict = dataclasses.field(default_factory=dict)
    settings: dict = dataclasses.field(default_factory=dict)
    command: tuple = ()
    progress: bool = False

    def folder(self, name):
        """The run directory of a run by its name."""
        return Path(self.output) / folder_name(name)

    def resolved(self, model, data, settings, others=()):
        """The RunConfig of a run. settings: of this run, and count last. others: models whose own
        settings are not for this one."""
        foreign = {name for other in others for name in settable(other)} - settable(model)
        asked = {k: v for k, v in self.settings.items() if k not in foreign}
        return RunConfig.resolve(
            model, data, data_dir=self.data_dir, settings=asked | settings, **self.options
        )

    def train(self, study, name, model, data, settings, *, scorer=None, replace=None, others=()):
        """Trains a run, or resumes it; returns (TrainedRun, RunConfig). settings, others: as of
        `resolved`. `costs` has what it took."""
        logging.info(f"{study}: {name}")
        config = self.resolved(model, data, settings, others)
        memory.reset_peak()
        began = time.monotonic()
        try:
            trained = training.train(
                config,
                data,
                run_dir=self.folder(name),
                data_dir=self.data_dir,
                scorer=scorer,
                replace=replace,
                command=self.command,
                progress=self.progress,
            )
        except (KeyboardInterrupt, SystemExit):  # the same call goes on later
            self._add_cost(name, began)
            raise
        if trained.message:
            logging.info(trained.message)
        else:
            self._add_cost(name, began)
        keras.backend.clear_session()
        gc.collect()
        return trained, config

    def costs(self):
        """{run: {"minutes": of all its calls, with scores and pictures, "peak_mib": the process's
        peak resident memory meanwhile, or None}}, from costs.json; a call that was killed does not
        count."""
        path = Path(self.output) / "costs.json"
        return json.loads(path.read_text()) if path.exists() else {}

    def _add_cost(self, name, began):
        costs, peak = self.costs(), memory.peak_megabytes()
        earlier = costs.get(name, {"minutes": 0, "peak_mib": peak})
        costs[name] = {
            "minutes": earlier["minutes"] + (time.monotonic() - began) / 60,
            "peak_mib": peak and max(peak, earlier["peak_mib"]),
        }
        write_output(Path(self.output) / "costs.json", json.dumps(costs, indent=1))


@dataclass(frozen=True)
class Study:
    """What a study leaves: folder, the table in Markdown, the file to look at first, and the
    numbers."""

    folder: Path
    table: str
    page: Path
    numbers: object = None


def written(folder, name, about, rows, table, picture):
    """Writes NAME.json ({**about, "rows"}), NAME.md (a table) and NAME.png into a folder; returns
    the Study."""
    write_output(folder / f"{name}.json", json.dumps({**about, "rows": rows}, indent=1))
    write_output(folder / f"{name}.md", table)
    write_output(folder / f"{name}.png", picture)
    return Study(folder, table, folder / f"{name}.png", rows)


def folder_name(name):
    """A run's name as a folder's."""
    return "".join(c if c.isalnum() else "_" for c in name)


def settable(model):
    """The names that `settings` can change of a model."""
    make_hparams, _ = next(iter(trainers.get(zoo.get(model).trainer or model).VARIANTS.values()))
    return {*zoo.options(model), *vars(make_hparams())}
