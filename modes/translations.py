"""The study of translators: do masks keep what is not to change?"""

import argparse
import json
from pathlib import Path

from ..common.files import write_output
from ..common.images import foreground
from ..common.tables import markdown
from . import guidance, shared
from .evaluate import translation_rows

RUNS = [  # name, model, what --set gives of it
    ("CycleGAN", "cyclegan", []),
    ("scheme 1", "attention_gan", ["scheme=1"]),
    ("scheme 2", "attention_gan", []),
    ("scheme 2, attention-guided", "attention_gan", ["attention_discriminators=true"]),
]
OTHER = {"cyclegan": "attention_gan", "attention_gan": "cyclegan"}
SHOWN = 8  # images drawn


def translation(flags):
    """CycleGAN and AttentionGAN's schemes with one seed and order of the data: the scores of both
    directions, and what each makes of the same images. The same command goes on where it was
    interrupted."""
    why = f"does not go with --study={flags.study}"
    shared.refuse(flags, "weights model metrics split num stop_window stop_tolerance", why)
    dataset = flags.dataset or "creatures/plain2striped"
    folder = Path(flags.output or flags.study)
    shared.quiet_import()
    import numpy as np

    from .. import datasets
    from ..reports import comparison

    scores, drawn = {"a2b": {}, "b2a": {}}, {}
    for name, model, pairs in RUNS:
        _, config = guidance.trained(flags, model, OTHER[model], dataset, folder, name, pairs)
        source = {"image_size": config["image_size"], "data_dir": flags.data_dir}
        for direction, rows in scores.items():
            one = argparse.Namespace(**vars(flags))
            one.direction, one.weights = direction, str(folder / shared.run_name(name))
            translate, about = shared.served(one)
            rows[name] = {
                row["metric"]: row["value"]
                for row in translation_rows(one, translate, about, source)
            }
            held = datasets.arrays(dataset, f"test_{direction[0]}", **source)
            images = held["image"][:SHOWN]
            if direction not in drawn:
                drawn[direction] = {"input": images}
                if "truth" in held:
                    drawn[direction]["truth"] = held["truth"][:SHOWN]
            made = shared.translated(translate, images, ("translated", "masks"))
            drawn[direction][name] = made["translated"]
            if "masks" in made:
                grey = np.repeat(255 * foreground(made["masks"])[..., None], 3, axis=-1)
                drawn[direction][f"its attention, {name}"] = grey.astype("uint8")
    for direction, rows in scores.items():
        metrics = list(dict.fromkeys(key for row in rows.values() for key in row))
        lines = [["", *metrics]]
        for name, row in rows.items():
            lines.append([name, *(f"{row[k]:.4g}" if k in row else "–" for k in metrics)])
        table = f"{direction}:\n\n{markdown(lines)}"
        write_output(folder / f"translation_{direction}.md", table.encode())
        write_output(folder / f"translation_{direction}.json", json.dumps(rows, indent=1).encode())
        picture = comparison.pictures(drawn[direction])
        write_output(folder / f"translation_{direction}.png", picture)
        print(table)
    print(f"study: {folder}")
