"""Trainings that are killed, stopped, short of disk, robbed of their data or left by a worker, and
go on until they end: do they end as one that nothing disturbed?

    python tools/chaos.py [--kills=N] [CASE ...]     all of CASES, or some; a Markdown table

`make chaos` does it. All is random by a seed; the processes are forked from one that has imported
TensorFlow and not started it.
"""

import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import main as checkout  # noqa: E402, F401  makes the folder the package attention_zoo
from attention_zoo.experiments import run_directory as run  # noqa: E402
from attention_zoo.tools.scale import RUNS  # noqa: E402

EVERY = ("--steps=12", "--log_every=1", "--sample_every=4", "--save_every=2", "--eval_every=3")
WAYS = ("start", "training", "writing")  # when a process is hit
GRACE = 30  # seconds from a SIGTERM to the end, as clusters usually allow
MINUTE = 60  # from a worker's death to the end of the others
PRIVATE = ("unshare", "-rm")  # with file systems of its own


class Nursery:
    """Processes of main.py, forked from one that has imported all and started nothing.

    prefix: of the command of that one, as PRIVATE.
    """

    def __init__(self, *prefix):
        command = [*prefix, sys.executable, __file__, "--serve"]
        environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"}
        environment["OPENBLAS_NUM_THREADS"] = "1"  # NumPy's, whose threads start as it is imported
        self.server = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def ask(self, **what):
        self.server.stdin.write(json.dumps(what) + "\n")
        self.server.stdin.flush()
        return int(self.server.stdout.readline())

    def start(self, log, *flags, **environment):
        """Starts main.py with flags; returns its number. Its output goes to log.out, log.err."""
        return self.ask(log=str(log), flags=flags, environment=environment)

    def wait(self, number):
        """The exit code of a process that was started, once it has ended."""
        return self.ask(wait=number)

    def run(self, log, *flags):
        return self.wait(self.start(log, *flags))

    def close(self):
        self.server.stdin.close()
        self.server.wait()


def serve():
    """What the first process of a Nursery does."""
    from attention_zoo.common.quiet import import_tensorflow

    import_tensorflow()
    import tensorflow_datasets  # noqa: F401

    from attention_zoo.cli import main
    from attention_zoo.evaluate import mask_health, scorer, swd, two_stage  # noqa: F401
    from attention_zoo.experiments import training, workers  # noqa: F401
    from attention_zoo.reports import run_report  # noqa: F401
    from attention_zoo.trainers import attention_gan, callbacks, dcgan, ragan  # noqa: F401

    assert len(os.listdir("/proc/self/task")) == 1, "a thread was started: this cannot be forked"
    for line in sys.stdin:
        asked = json.loads(line)
        if "wait" in asked:
            print(os.waitstatus_to_exitcode(os.waitpid(asked["wait"], 0)[1]), flush=True)
            continue
        if "command" in asked:
            print(subprocess.run(asked["command"]).returncode, flush=True)
            continue
        number = os.fork()
        if not number:
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            for kind, end in ((1, ".out"), (2, ".err")):
                os.dup2(os.open(asked["log"] + end, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), kind)
            os.environ.update(asked["environment"])
            sys.exit(main.main(asked["flags"]))
        print(number, flush=True)


def ended(number):
    """Has a process ended that nobody has waited for?"""
    return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


def until(number, condition, pause=0.005):
    """Waits for a condition; False where the process ends before."""
    while not ended(number):
        if condition():
            return True
        time.sleep(pause)
    return False


def rows(folder):
    """How many rows of metrics a run directory holds."""
    metrics = folder / "metrics.jsonl"
    return metrics.read_bytes().count(b"\n") if metrics.exists() else 0


def writing(folder):
    """Is a file of a run directory half-written?"""
    return any(folder.rglob("*.part"))


def difference(ours, theirs):
    """What two run directories do not have in common: metrics, newest weights, pictures."""
    found = []
    if (ours / "metrics.jsonl").read_bytes() != (theirs / "metrics.jsonl").read_bytes():
        found.append("metrics.jsonl")
    newest = [run.list_checkpoints(p)[-1] for p in (ours, theirs)]
    first, second = (run.read_checkpoint(path) for path in newest)
    if newest[0].name != newest[1].name or first.keys() != second.keys():
        found.append(f"{newest[0].name}, {newest[1].name}")
    found += [k for k in first if k in second and first[k].tobytes() != second[k].tobytes()]
    pictures = [
        {p.relative_to(r): p.read_bytes() for p in r.rglob("*.png")} for r in (ours, theirs)
    ]
    return found + ["pictures"] * (pictures[0] != pictures[1])


def damage(folder):
    """Whatever in a run directory is half-written and named as whole."""
    found = []
    try:
        if (folder / "run.json").exists():
            run.read_record(folder)
        for path in run.list_checkpoints(folder):
            run.read_checkpoint(path)
    except run.RunError as error:
        found.append(str(error))
    return found


def resumed(log):
    """Did a process say that it resumes a run?"""
    return "resumes at step" in Path(f"{log}.err").read_text()


def last_line(log):
    """The last line of a process's stderr."""
    text = Path(f"{log}.err").read_text().replace("\r", "\n").strip()
    return text.splitlines()[-1] if text else ""


def hit(model, number, count, folder):
    """Runs of a model that a signal hits at `count` random moments, and that go on until they end.

    As all cases: (figures, failures).
    """
    rng, nursery, failures = random.Random(f"{model} {number}"), Nursery(), []
    flags = (f"--model={model}", *RUNS[model], *EVERY, f"--data_dir={folder / 'data'}")
    whole, log = folder / "whole", folder / "log"
    nursery.run(log, *flags, f"--run_dir={folder / 'first'}")  # which prepares the data
    begun = time.monotonic()
    child = nursery.start(log, *flags, f"--run_dir={whole}")
    until(child, lambda: rows(whole))
    first = time.monotonic() - begun
    if nursery.wait(child):
        return "", [f"the run fails: {last_line(log)}"]
    rest = time.monotonic() - begun - first
    hits, resumes, runs, half, slowest = dict.fromkeys(WAYS, 0), 0, 0, 0, 0.0

    def moment(child, place, way):
        """Waits for a random moment of a kind; False where the process ends before."""
        wait = rng.uniform(0, first)
        if way != "start":
            metrics = place / "metrics.jsonl"
            before = metrics.stat().st_mtime_ns if metrics.exists() else 0
            if not until(child, lambda: rows(place) and metrics.stat().st_mtime_ns != before):
                return False
            wait = rng.uniform(0, rest / 2)
        end = time.monotonic() + wait
        if not until(child, lambda: time.monotonic() > end) or way != "writing":
            return not ended(child)
        return until(child, lambda: writing(place), 0.0005)

    while sum(hits.values()) < count:
        place, runs, finished = folder / f"run{runs}", runs + 1, False
        for attempt in range(6):
            child = nursery.start(log, *flags, f"--run_dir={place}")
            way = WAYS[sum(hits.values()) % len(WAYS)]
            struck = attempt < 5 and sum(hits.values()) < count and moment(child, place, way)
            if struck:
                os.kill(child, number)
            begun = time.monotonic()
            code = nursery.wait(child)
            said = Path(f"{log}.out").read_text()
            finished = "run directory:" in said
            resumes += resumed(log)
            failures += damage(place)
            if struck:
                slowest = max(slowest, time.monotonic() - begun)
                half += writing(place)
                hits[way] += not finished
            silent = not said and not last_line(log)
            deaf = code == -number and (silent or finished)  # not listening yet, or no more
            if struck and number == signal.SIGTERM and (code or writing(place)) and not deaf:
                tail = [*said.splitlines(), last_line(log)][-2:]
                failures.append(f"exit code {code} after SIGTERM ({way}): {tail}")
            if finished or (code and not struck):
                break
        if not finished:
            failures.append(f"{place.name} does not end: exit code {code}, {last_line(log)}")
            continue
        failures += [f"{place.name} differs: {name}" for name in difference(place, whole)]
        shutil.rmtree(place)
    nursery.close()
    told = ", ".join(f"{n} at {way}" for way, n in hits.items())
    told = f"{sum(hits.values())} ({told}), {runs} runs, {resumes} resumes"
    if number == signal.SIGTERM:
        if slowest > GRACE:
            failures.append(f"{slowest:.0f} s from SIGTERM to the end")
        return f"{told}, at most {slowest:.1f} s to the end", failures
    return f"{told}, {half} files left half-written", failures


def small(*flags):
    """A run of DCGAN, the quickest."""
    return ("--model=dcgan", *RUNS["dcgan"], *EVERY, *flags)


def disk(folder, count):
    """Runs whose disk is full from a random moment on, until the process has ended."""
    rng, nursery, failures = random.Random(0), Nursery(*PRIVATE), []
    log, mount = folder / "log", folder / "disk"
    mount.mkdir()
    if nursery.ask(command=["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", str(mount)]):
        nursery.close()
        return "not tried: no tmpfs can be mounted here", []
    outside = Path(f"/proc/{nursery.server.pid}/root{mount}")  # as this process sees it
    kinds = {"saves": (), "logs": [f"--{k}=60" for k in ("steps", "save_every", "eval_every")]}
    kinds = {kind: small(f"--data_dir={folder / 'data'}", *more) for kind, more in kinds.items()}
    for kind, flags in kinds.items():
        nursery.run(log, *flags, f"--run_dir={folder / kind}")
    full = resumes = 0
    for trial in range(count):
        kind = list(kinds)[trial % 2]
        place = outside / f"run{trial}"
        for attempt in range(4):
            reached = rows(place) + rng.randrange(6)
            child = nursery.start(log, *kinds[kind], f"--run_dir={mount / place.name}")
            if attempt < 3:
                until(child, lambda: rows(place) >= reached)  # noqa: B023
                with open(outside / "filler", "wb", buffering=0) as filler:
                    while not ended(child):
                        try:
                            filler.write(bytes(4096))
                        except OSError:
                            time.sleep(0.001)
            code, said = nursery.wait(child), last_line(log)
            (outside / "filler").unlink(missing_ok=True)
            failures += damage(place)
            resumes += resumed(log)
            if code == 0:
                break
            full += 1
            if code != 2 or "No space left on device" not in said or writing(place):
                failures.append(f"exit code {code}: {said}")
        failures += [f"{place.name} differs: {n}" for n in difference(place, folder / kind)]
        shutil.rmtree(place)
    nursery.close()
    return f"{full} ends by a full disk, {count} runs, {resumes} resumes", failures


def data(folder):
    """A folder of images, and what is kept of it, that are removed while they are trained on."""
    import numpy as np
    from PIL import Image

    nursery, failures = Nursery(), []
    log, images, kept = folder / "log", folder / "images", folder / "data"
    images.mkdir()
    for i in range(24):
        pixels = np.random.default_rng(i).integers(0, 255, (40, 40, 3), "uint8")
        Image.fromarray(pixels).save(images / f"{i}.png")
    flags = small(f"--dataset=folder:{images}", f"--data_dir={kept}")
    whole, place = folder / "whole", folder / "run"
    nursery.run(log, *flags, f"--run_dir={whole}")
    child = nursery.start(log, *flags, f"--run_dir={place}")
    until(child, lambda: rows(place))
    os.kill(child, signal.SIGSTOP)
    shutil.rmtree(images)
    shutil.rmtree(kept)
    os.kill(child, signal.SIGCONT)
    if nursery.wait(child):
        failures.append(last_line(log))
    failures += difference(place, whole)
    code = nursery.run(log, *flags, f"--run_dir={place}", "--steps=20")
    if code != 2 or "is not a folder" not in last_line(log):
        failures.append(f"exit code {code}: {last_line(log)}")
    nursery.close()
    return f"goes on to the end; the next start: {last_line(log)}", failures + difference(
        place, whole
    )


def workers(folder):
    """Four processes of which one dies, and later the chief; the others end, and all go on."""
    nursery, failures, told = Nursery(), [], []
    flags = (*small(f"--data_dir={folder / 'data'}"), "--strategy=multi_worker", "--steps=60")
    nursery.run(
        folder / "log", *small(f"--data_dir={folder / 'data'}"), f"--run_dir={folder / 'one'}"
    )

    def start(place):
        sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(4)]
        places = [f"127.0.0.1:{s.getsockname()[1]}" for s in sockets]
        for s in sockets:
            s.close()
        children = []
        for i in range(4):
            task = {"cluster": {"worker": places}, "task": {"type": "worker", "index": i}}
            told = {"TF_CONFIG": json.dumps(task)}
            child = nursery.start(folder / f"log{i}", *flags, f"--run_dir={place}", **told)
            children.append(child)
        return children

    def finish(children):
        codes = [nursery.wait(child) for child in children]
        if any(codes):
            failures.append(
                f"exit codes {codes}: {[last_line(folder / f'log{i}') for i in range(4)]}"
            )

    whole, place = folder / "whole", folder / "run"
    finish(start(whole))
    for victim, reached in ((2, 10), (0, 30)):
        children = start(place)
        until(children[victim], lambda: rows(place) >= reached)  # noqa: B023
        os.kill(children[victim], signal.SIGKILL)
        begun, others = time.monotonic(), [i for i in range(4) if i != victim]
        while not all(ended(children[i]) for i in others) and time.monotonic() < begun + 5 * MINUTE:
            time.sleep(0.1)
        seconds = time.monotonic() - begun
        told.append(f"worker {victim} killed: the others end after {seconds:.0f} s")
        for i in range(4):
            if not ended(children[i]):
                failures.append(f"worker {i} does not end")
                os.kill(children[i], signal.SIGKILL)
            code, said = nursery.wait(children[i]), last_line(folder / f"log{i}")
            if i in others and (code != 1 or "has lost another" not in said):
                failures.append(f"worker {i}: exit code {code}, {said}")
        if seconds > MINUTE:
            failures.append(f"{seconds:.0f} s until the others ended")
    finish(start(place))
    said = re.search(r"resumes at step \d+", Path(f"{folder / 'log0'}.err").read_text())[0]
    nursery.close()
    return f"{'; '.join(told)}; {said}", failures + difference(place, whole)


CASES = {
    "kill -9, ragan": lambda folder, count: hit("ragan", signal.SIGKILL, count, folder),
    "kill -9, attention_gan": lambda folder, count: hit(
        "attention_gan", signal.SIGKILL, count, folder
    ),
    "SIGTERM, ragan": lambda folder, count: hit("ragan", signal.SIGTERM, -(-count // 5), folder),
    "a full disk": lambda folder, count: disk(folder, -(-count // 16)),
    "data removed": lambda folder, count: data(folder),
    "four workers": lambda folder, count: workers(folder),
}


def table(names, count):
    """Prints a row for each case; returns whether all went well."""
    good = True
    print("| case | what happened | failures |\n|---|---|---|", flush=True)
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            os.environ["TMPDIR"] = folder  # also for what killed processes leave
            told, failures = CASES[name](Path(folder), count)
        print(f"| {name} | {told} | {len(failures)} |", flush=True)
        for failure in failures:
            print(f"{name}: {failure}", file=sys.stderr)
        good = good and not failures
    return good


if __name__ == "__main__":
    if sys.argv[1:] == ["--serve"]:
        serve()
        sys.exit()
    count = [int(a.removeprefix("--kills=")) for a in sys.argv[1:] if a.startswith("--kills=")]
    chosen = [a for a in sys.argv[1:] if not a.startswith("--")] or list(CASES)
    sys.exit(0 if table(chosen, *(count or [100])) else 1)
