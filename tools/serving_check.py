"""Exports every model of the zoo, tiny and untrained, serves them with serving.local, and compares
the answers with the networks' in this process: each signature, by REST and gRPC, with one picture
and with seven. Then it writes the output of saved_model_cli to docs/signatures.md.

    python tools/serving_check.py

`make serving` runs it.
"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import main as checkout  # noqa: E402, F401  makes the folder the package attention_zoo
from attention_zoo.tools.scale import RUNS  # noqa: E402

MODELS = {name: flags for name, flags in RUNS.items() if " " not in name}
MODELS |= {"sagan conditional": (*RUNS["sagan"], "--set=conditional=true", "--set=classes=8")}
MODELS |= {"attention_gan scheme1": (*RUNS["attention_gan"], "--set=scheme=1")}


def make_served(name):
    """A serving.export.Served of the untrained networks of one of MODELS."""
    from attention_zoo import tasks, zoo
    from attention_zoo.cli import commands, parser
    from attention_zoo.experiments import exporting, training
    from attention_zoo.tasks.base import Origin

    model = name.split()[0]
    _, values = parser.parse([f"--model={model}", *MODELS[name]])
    config = commands.run_config(values)
    trainer = training.make_trainer(config)
    rng = np.random.default_rng(0)
    networks = {**trainer.networks, **trainer.ema_networks}
    for variable in {id(v): v for n in networks.values() for v in n.variables}.values():
        if variable.path.endswith(("gamma", "lambda", "/bank")):  # the initial values hide errors
            variable.assign(rng.uniform(0.5, 1, variable.shape))
    task = tasks.get(zoo.get(model).kind)
    opened = task.Model(model, networks, config.network_options, Origin("none", config.dataset))
    return exporting.served(opened, name.replace(" ", "_"))


def gap(answer, expected):
    """The largest difference: grey levels of pictures, else relative to values above 1."""
    from attention_zoo.common.images import decoded

    if expected.dtype == object:
        pairs = zip(answer, expected)
        return max(int(abs(decoded(a).astype(int) - decoded(b)).max()) for a, b in pairs)
    return float(abs(answer - expected).max() / max(1, abs(expected).max()))


def compare(models, ports):
    """Yields (model, signature, protocol, count, gap, all pictures?) of every answer."""
    import tensorflow as tf

    from attention_zoo.serving import client, export, signatures

    for model in models:
        endpoints = signatures.build(model.networks, model.role, model.size, model.threshold)
        for name, (function, specs) in endpoints.items():
            rng = np.random.default_rng(1)
            inputs = [export.example(spec, 7, model.size, rng) for spec in specs]
            expected = {k: v.numpy() for k, v in function(*map(tf.constant, inputs)).items()}
            for protocol in ("rest", "grpc"):
                port = {protocol: ports[protocol]}
                with client.Client("127.0.0.1", **port, timeout=120) as connection:
                    for count in (1, 7):
                        request = {s.name: list(x[:count]) for s, x in zip(specs, inputs)}
                        answer = connection.predict(model.name, request, name)
                        assert answer.keys() == expected.keys(), (model.name, name)
                        gaps = [gap(answer[k], expected[k][:count]) for k in expected]
                        pictures = all(v.dtype == object for v in expected.values())
                        yield model.name, name, protocol, count, max(gaps), pictures


def describe(path):
    """The signatures of a version, as saved_model_cli prints them."""
    cli = Path(sys.executable).with_name("saved_model_cli")
    command = [cli, "show", "--dir", path, "--tag_set", "serve", "--all"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    text = done.stdout.partition("\nThe MetaGraph")[0]
    parts = re.split(r"\n(?=signature_def\[)", text)
    return "\n\n".join(part.strip() for part in parts if "__saved_model" not in part)


def main():
    from attention_zoo.serving import export

    models = [make_served(name) for name in MODELS]
    with tempfile.TemporaryDirectory() as root:
        versions = export.write(models, Path(root))
        command = [sys.executable, "-m", "serving.local", root, "--rest=0", "--grpc=0"]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
            try:
                rows = list(compare(models, json.loads(process.stdout.readline())))
            finally:
                process.kill()
        texts = {path.parent.name: describe(path) for path, _ in versions}
    numbers = max(row[4] for row in rows if not row[5])
    pictures = max(row[4] for row in rows if row[5])
    wrong = [row[:5] for row in rows if row[4] > (1 if row[5] else 1e-5)]
    for row in wrong:
        print("differs:", *row)
    print(f"{len(models)} models, {len(rows)} answers: numbers at most {numbers:.1e} off, of the")
    print(f"largest value where that is above 1; pictures at most {pictures} grey levels")
    lines = ["# Signatures, as saved_model_cli shows them", ""]
    lines += [
        "Every model of the zoo at a tiny width, by `make serving`: sizes and classes are those of",
        "these networks. -1 is an axis of any length.",
    ]
    for name, text in texts.items():
        lines += ["", f"## {name}", "", "```", text, "```"]
    if not wrong:
        (ROOT / "docs" / "signatures.md").write_text("\n".join(lines) + "\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
