"""Makes a run's network one of the zoo's pretrained weights."""

import argparse
import re

import zoo
from modes import shared
from modes.evaluate import accuracy
from modes.shared import UsageError

USES = "run_dir tag data_dir"


def run(flags):
    if not (flags.run_dir and flags.tag):
        raise UsageError("--mode=publish needs --run_dir=RUN_DIR and --tag=NAME")
    if not re.fullmatch(r"[a-z0-9][a-z0-9_.-]*", flags.tag):
        raise UsageError(f"--tag={flags.tag}: takes small letters, digits, and . _ - between them")
    named = argparse.Namespace(mode=flags.mode, model=None, weights=flags.run_dir)
    trainer, config = shared.trained(named)
    import datasets
    from evaluate import protocol
    from trainers import run
    from zoo import weights

    spec = zoo.get(config["model"])
    if spec.serve != "classifier":
        raise UsageError(f"{spec.name} cannot be published yet: classifiers can")
    start = run.read_record(flags.run_dir)["starts"][-1]
    command = " ".join(["python", "main.py", *start["command"]])
    command = re.sub(r" --(run_dir|data_dir)[= ]\S+", "", command)  # folders are nobody's concern
    network = trainer.average[spec.serve]
    about = {
        "network": spec.serve,
        "options": {**config["options"], "image_size": config["image_size"]},
        "dataset": config["dataset"],
        "origin": {
            "command": command,
            "data": config["data"],
            "steps": int(trainer.step.numpy()),
            "seed": config["seed"],
            "commit": start["versions"].get("commit"),
        },
        "license": "Apache-2.0",
    }
    source = {"image_size": config["image_size"], "data_dir": flags.data_dir}
    test = datasets.arrays(config["dataset"], "test", **source)
    weights.halve(network)
    share = accuracy(trainer.predict_logits, test)
    about["scores"] = {f"accuracy_{protocol.short(len(test['label']))}_test": share}
    entry = weights.publish(spec.name, flags.tag, network, about)
    print(f"{spec.name}:{flags.tag}: {entry.file}, accuracy {share:.4f}, sha256 {entry.sha256}")
