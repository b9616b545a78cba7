"""Makes other people's weights the zoo's, in a folder of one's own.

    python main.py --mode=import --model=resnet18 --input=resnet18.pth --tag=imagenet

The checkpoint tells the number of classes; `--set` gives what it cannot tell (width, normalise).
"""

import hashlib
from pathlib import Path

from .. import zoo
from . import shared
from .publish import check_tag
from .shared import UsageError
from .train import overrides

USES = "model input tag output image_size set"
FOLDER = "imported"  # the zoo's own folder is for what was trained here


def run(flags):
    if not (flags.model and flags.input and flags.tag):
        raise UsageError("--mode=import needs --model=NAME, --input=FILE and --tag=NAME")
    check_tag(flags.tag)
    spec = zoo.get(flags.model)
    shared.quiet_import()
    from ..zoo import bridge, weights

    file = Path(flags.input)
    if file.is_dir():
        raise UsageError(f"--input={file}: takes a file, and this is a folder")
    arrays = bridge.read(flags.input)
    options = zoo.options(spec.name) | bridge.options(spec.name, arrays)
    size = options.pop("image_size")
    options |= {**overrides(flags.set, options), "image_size": flags.image_size or size}
    try:
        network = zoo.create(spec.name, **options)[spec.serve]
    except ValueError as error:
        raise UsageError(str(error)) from None
    weights.fill(network, bridge.convert(spec.name, arrays, network, file.name), file.name)
    about = {
        "network": spec.serve,
        "options": options,
        "dataset": "unknown",
        "scores": {},
        "origin": {
            "file": file.name,
            "sha256": hashlib.sha256(weights.read(flags.input)).hexdigest(),
        },
        "license": f"unknown: that of {file.name}",
    }
    folder = flags.output or FOLDER
    try:
        entry = zoo.save(spec.name, flags.tag, network, about, folder, exact=True)
    except OSError as error:
        raise UsageError(f"cannot write the weights ({error}): give another --output") from None
    print(f"{spec.name}: {len(arrays)} arrays of {file.name}, sha256 {entry.sha256}")
    print(f"zoo.load({spec.name!r}, weights={f'{folder}/{flags.tag}'!r})")
