"""Interrupts trainings (SIGKILL, SIGTERM, a full disk, deleted data, the death of a worker),
resumes them, and compares the results with those of an uninterrupted run.

    python tools/chaos.py [--kills=N] [CASE ...]     all of CASES, or some; prints a Markdown table

`make chaos` runs it. The random moments have a fixed seed. The processes are forked from one that
has imported TensorFlow but has not used it.
"""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import main as checkout  # noqa: E402, F401  makes the folder the package attention_zoo
from attention_zoo.experiments import run_directory as run  # noqa: E402
from attention_zoo.tools.scale import RUNS, cluster_configs  # noqa: E402

EVERY = ("--steps=12", "--log_every=1", "--sample_every=4", "--save_every=2", "--eval_every=3")
PHASES = ("start", "training", "writing")  # when a process gets the signal
GRACE = 30  # seconds from SIGTERM to the end that clusters usually allow
MINUTE = 60  # seconds allowed from a worker's death to the end of the others
PRIVATE = ("unshare", "-rm")  # runs a command in its own mount namespace


class ForkServer:
    """Starts processes of main.py by forking one that has imported its modules.

    prefix: of the command of the server's process, for example PRIVATE.
    """

    def __init__(self, *prefix):
        command = [*prefix, sys.executable, __file__, "--serve"]
        environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"}
        environment["OPENBLAS_NUM_THREADS"] = "1"  # NumPy starts threads when it is imported
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def ask(self, **request):
        """The integer that the server answers to a request, see `serve`."""
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def start(self, log, *flags, **environment):
        """Starts main.py with flags; returns the process id. It writes to log.out and log.err."""
        return self.ask(log=str(log), flags=flags, environment=environment)

    def wait(self, process):
        """Waits for the end of a process that `start` returned; returns its exit code."""
        return self.ask(wait=process)

    def run(self, log, *flags):
        """Runs main.py with flags; returns its exit code."""
        return self.wait(self.start(log, *flags))

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def serve():
    """The process of a ForkServer: answers each request, a line of JSON, with an integer."""
    from attention_zoo.common.quiet import import_tensorflow

    import_tensorflow(lean=True)  # a library below pandas starts a thread
    import tensorflow_datasets  # noqa: F401

    from attention_zoo.cli import main
    from attention_zoo.evaluate import mask_health, scorer, swd, two_stage  # noqa: F401
    from attention_zoo.experiments import training, workers  # noqa: F401
    from attention_zoo.reports import run_report  # noqa: F401
    from attention_zoo.trainers import attention_gan, callbacks, dcgan, ragan  # noqa: F401

    assert len(os.listdir("/proc/self/task")) == 1, "an import has started a thread: cannot fork"
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            print(os.waitstatus_to_exitcode(os.waitpid(request["wait"], 0)[1]), flush=True)
            continue
        if "command" in request:
            print(subprocess.run(request["command"]).returncode, flush=True)
            continue
        process = os.fork()
        if not process:
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            for kind, end in ((1, ".out"), (2, ".err")):
                os.dup2(os.open(request["log"] + end, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), kind)
            os.environ.update(request["environment"])
            sys.exit(main.main(request["flags"]))
        print(process, flush=True)


def has_ended(process):
    """Has the process ended? It must not have been waited for."""
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


def wait_until(process, condition, pause=0.005):
    """Waits for a condition; returns False if the process ends first."""
    while not has_ended(process):
        if condition():
            return True
        time.sleep(pause)
    return False


def count_rows(folder):
    """The number of rows in a run directory's metrics.jsonl."""
    metrics = folder / "metrics.jsonl"
    return metrics.read_bytes().count(b"\n") if metrics.exists() else 0


def is_writing(folder):
    """Does a run directory contain a temporary file?"""
    return any(folder.rglob("*.part"))


def differences(a, b):
    """The names of what differs in two run directories: metrics, newest weights, pictures."""
    names = []
    if (a / "metrics.jsonl").read_bytes() != (b / "metrics.jsonl").read_bytes():
        names.append("metrics.jsonl")
    newest = [run.list_checkpoints(folder)[-1] for folder in (a, b)]
    first, second = (run.read_checkpoint(path) for path in newest)
    if newest[0].name != newest[1].name or first.keys() != second.keys():
        names.append(f"{newest[0].name}, {newest[1].name}")
    names += [k for k in first if k in second and first[k].tobytes() != second[k].tobytes()]
    pictures = [{p.relative_to(r): p.read_bytes() for p in r.rglob("*.png")} for r in (a, b)]
    return names + ["pictures"] * (pictures[0] != pictures[1])


def damage(folder):
    """Messages about unreadable files in a run directory, temporary ones aside."""
    try:
        if (folder / "run.json").exists():
            run.read_record(folder)
        for path in run.list_checkpoints(folder):
            run.read_checkpoint(path)
    except run.RunError as error:
        return [str(error)]
    return []


def has_resumed(log):
    """Does a process's log say that it resumes a run?"""
    return "resumes at step" in Path(f"{log}.err").read_text()


def last_line(log):
    """The last line of a process's stderr."""
    text = Path(f"{log}.err").read_text().replace("\r", "\n").strip()
    return text.splitlines()[-1] if text else ""


def kill_at_random(model, signal_number, count, folder):
    """Sends a signal to a model's runs at `count` random moments, and resumes each until it ends.

    Like all cases, returns (summary, [failure]).
    """
    rng, server, failures = random.Random(f"{model} {signal_number}"), ForkServer(), []
    flags = (f"--model={model}", *RUNS[model], *EVERY, f"--data_dir={folder / 'data'}")
    whole, log = folder / "whole", folder / "log"
    server.run(log, *flags, f"--run_dir={folder / 'first'}")  # also prepares the data
    begun = time.monotonic()
    child = server.start(log, *flags, f"--run_dir={whole}")
    wait_until(child, lambda: count_rows(whole))
    first = time.monotonic() - begun
    if server.wait(child):
        return "", [f"the run fails: {last_line(log)}"]
    rest = time.monotonic() - begun - first
    hits, resumes, runs, unfinished, slowest = dict.fromkeys(PHASES, 0), 0, 0, 0, 0.0

    def wait_for_moment(child, place, phase):
        """Waits for a random moment in a phase; returns False if the process ends first."""
        wait = rng.uniform(0, first)
        if phase != "start":
            metrics = place / "metrics.jsonl"
            before = metrics.stat().st_mtime_ns if metrics.exists() else 0
            if not wait_until(
                child, lambda: count_rows(place) and metrics.stat().st_mtime_ns != before
            ):
                return False
            wait = rng.uniform(0, rest / 2)
        end = time.monotonic() + wait
        if not wait_until(child, lambda: time.monotonic() > end) or phase != "writing":
            return not has_ended(child)
        return wait_until(child, lambda: is_writing(place), 0.0005)

    while sum(hits.values()) < count:
        place, runs, finished = folder / f"run{runs}", runs + 1, False
        for attempt in range(6):
            child = server.start(log, *flags, f"--run_dir={place}")
            phase = PHASES[sum(hits.values()) % len(PHASES)]
            kill = attempt < 5 and sum(hits.values()) < count
            kill = kill and wait_for_moment(child, place, phase)
            if kill:
                os.kill(child, signal_number)
            begun = time.monotonic()
            code = server.wait(child)
            output = Path(f"{log}.out").read_text()
            finished = "run directory:" in output
            resumes += has_resumed(log)
            failures += damage(place)
            if kill:
                slowest = max(slowest, time.monotonic() - begun)
                unfinished += is_writing(place)
                hits[phase] += not finished
            silent = not output and not last_line(log)
            no_handler = code == -signal_number and (silent or finished)  # not yet, or no longer
            unclean = code or is_writing(place)
            if kill and signal_number == signal.SIGTERM and unclean and not no_handler:
                tail = [*output.splitlines(), last_line(log)][-2:]
                failures.append(f"exit code {code} after SIGTERM ({phase}): {tail}")
            if finished or (code and not kill):
                break
        if not finished:
            failures.append(f"{place.name} does not end: exit code {code}, {last_line(log)}")
            continue
        failures += [f"{place.name} differs: {name}" for name in differences(place, whole)]
        shutil.rmtree(place)
    server.close()
    summary = ", ".join(f"{n} at {phase}" for phase, n in hits.items())
    summary = f"{sum(hits.values())} ({summary}), {runs} runs, {resumes} resumes"
    if signal_number == signal.SIGTERM:
        if slowest > GRACE:
            failures.append(f"{slowest:.0f} s from SIGTERM to the end")
        return f"{summary}, at most {slowest:.1f} s to the end", failures
    return f"{summary}, {unfinished} files left half-written", failures


def dcgan_flags(*flags):
    """Flags of a run of DCGAN, the fastest model."""
    return ("--model=dcgan", *RUNS["dcgan"], *EVERY, *flags)


def fill_disk(folder, count):
    """Fills the disk of runs at a random moment, until the process has ended."""
    rng, server, failures = random.Random(0), ForkServer(*PRIVATE), []
    log, mount = folder / "log", folder / "disk"
    mount.mkdir()
    if server.ask(command=["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", str(mount)]):
        server.close()
        return "not tried: no tmpfs can be mounted here", []
    outside = Path(f"/proc/{server.process.pid}/root{mount}")  # the mount, for this process
    kinds = {"saves": (), "logs": [f"--{k}=60" for k in ("steps", "save_every", "eval_every")]}
    data_dir = f"--data_dir={folder / 'data'}"
    kinds = {kind: dcgan_flags(data_dir, *more) for kind, more in kinds.items()}
    for kind, flags in kinds.items():
        server.run(log, *flags, f"--run_dir={folder / kind}")
    full = resumes = 0
    for trial in range(count):
        kind = list(kinds)[trial % 2]
        place = outside / f"run{trial}"
        for attempt in range(4):
            target = count_rows(place) + rng.randrange(6)
            child = server.start(log, *kinds[kind], f"--run_dir={mount / place.name}")
            if attempt < 3:
                wait_until(child, lambda: count_rows(place) >= target)  # noqa: B023
                with open(outside / "filler", "wb", buffering=0) as filler:
                    while not has_ended(child):
                        try:
                            filler.write(bytes(4096))
                        except OSError:
                            time.sleep(0.001)
            code, message = server.wait(child), last_line(log)
            (outside / "filler").unlink(missing_ok=True)
            failures += damage(place)
            resumes += has_resumed(log)
            if code == 0:
                break
            full += 1
            if code != 2 or "No space left on device" not in message or is_writing(place):
                failures.append(f"exit code {code}: {message}")
        failures += [f"{place.name} differs: {n}" for n in differences(place, folder / kind)]
        shutil.rmtree(place)
    server.close()
    return f"{full} ends by a full disk, {count} runs, {resumes} resumes", failures


def delete_data(folder):
    """Deletes a folder of images, and its prepared copy, while a run trains on it."""
    import numpy as np
    from PIL import Image

    server, failures = ForkServer(), []
    log, images, prepared = folder / "log", folder / "images", folder / "data"
    images.mkdir()
    for i in range(24):
        pixels = np.random.default_rng(i).integers(0, 255, (40, 40, 3), "uint8")
        Image.fromarray(pixels).save(images / f"{i}.png")
    flags = dcgan_flags(f"--dataset=folder:{images}", f"--data_dir={prepared}")
    whole, place = folder / "whole", folder / "run"
    server.run(log, *flags, f"--run_dir={whole}")
    child = server.start(log, *flags, f"--run_dir={place}")
    wait_until(child, lambda: count_rows(place))
    os.kill(child, signal.SIGSTOP)
    shutil.rmtree(images)
    shutil.rmtree(prepared)
    os.kill(child, signal.SIGCONT)
    if server.wait(child):
        failures.append(last_line(log))
    failures += differences(place, whole)
    code = server.run(log, *flags, f"--run_dir={place}", "--steps=20")
    if code != 2 or "is not a folder" not in last_line(log):
        failures.append(f"exit code {code}: {last_line(log)}")
    server.close()
    failures += differences(place, whole)
    return f"goes on to the end; the next start: {last_line(log)}", failures


def kill_workers(folder):
    """Kills a worker of four, and later the chief. The others must end, and all must resume."""
    server, failures, summary = ForkServer(), [], []
    flags = dcgan_flags(f"--data_dir={folder / 'data'}")
    server.run(folder / "log", *flags, f"--run_dir={folder / 'one'}")
    flags += ("--strategy=multi_worker", "--steps=60")

    def start(place):
        return [
            server.start(folder / f"log{i}", *flags, f"--run_dir={place}", TF_CONFIG=config)
            for i, config in enumerate(cluster_configs(4))
        ]

    def finish(children):
        codes = [server.wait(child) for child in children]
        if any(codes):
            failures.append(
                f"exit codes {codes}: {[last_line(folder / f'log{i}') for i in range(4)]}"
            )

    whole, place = folder / "whole", folder / "run"
    finish(start(whole))
    for victim, target in ((2, 10), (0, 30)):
        children = start(place)
        wait_until(children[victim], lambda: count_rows(place) >= target)  # noqa: B023
        os.kill(children[victim], signal.SIGKILL)
        begun, others = time.monotonic(), [i for i in range(4) if i != victim]
        while not all(has_ended(children[i]) for i in others):
            if time.monotonic() >= begun + 5 * MINUTE:
                break
            time.sleep(0.1)
        seconds = time.monotonic() - begun
        summary.append(f"worker {victim} killed: the others end after {seconds:.0f} s")
        for i in range(4):
            if not has_ended(children[i]):
                failures.append(f"worker {i} does not end")
                os.kill(children[i], signal.SIGKILL)
            code, message = server.wait(children[i]), last_line(folder / f"log{i}")
            if i in others and (code != 1 or "has lost another" not in message):
                failures.append(f"worker {i}: exit code {code}, {message}")
        if seconds > MINUTE:
            failures.append(f"{seconds:.0f} s until the others ended")
    finish(start(place))
    resumed = re.search(r"resumes at step \d+", Path(f"{folder / 'log0'}.err").read_text())[0]
    server.close()
    return f"{'; '.join(summary)}; {resumed}", failures + differences(place, whole)


CASES = {
    "kill -9, ragan": lambda folder, count: kill_at_random("ragan", signal.SIGKILL, count, folder),
    "kill -9, attention_gan": lambda folder, count: kill_at_random(
        "attention_gan", signal.SIGKILL, count, folder
    ),
    "SIGTERM, ragan": lambda folder, count: kill_at_random(
        "ragan", signal.SIGTERM, -(-count // 5), folder
    ),
    "a full disk": lambda folder, count: fill_disk(folder, -(-count // 16)),
    "data removed": lambda folder, count: delete_data(folder),
    "four workers": lambda folder, count: kill_workers(folder),
}


def table(names, count):
    """Prints a row for each case; returns True if there are no failures."""
    passed = True
    print("| case | what happened | failures |\n|---|---|---|", flush=True)
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            os.environ["TMPDIR"] = folder  # killed processes leave files there
            summary, failures = CASES[name](Path(folder), count)
        print(f"| {name} | {summary} | {len(failures)} |", flush=True)
        for failure in failures:
            print(f"{name}: {failure}", file=sys.stderr)
        passed = passed and not failures
    return passed


if __name__ == "__main__":
    if sys.argv[1:] == ["--serve"]:
        serve()
        sys.exit()
    count = [int(a.removeprefix("--kills=")) for a in sys.argv[1:] if a.startswith("--kills=")]
    names = [a for a in sys.argv[1:] if not a.startswith("--")] or list(CASES)
    sys.exit(0 if table(names, *(count or [100])) else 1)
