"""Runs the commands and the Python of docs/guides, in order, on a few rendered pictures.

    python tools/check_guides.py                       # every guide: `make guides`
    python tools/check_guides.py --keep=FOLDER serve   # some, keeping what they write

Each guide starts in a folder of its own, which holds the rooms of this checkout and the pictures of
PICTURES. Its commands get flags for a network of a few weights and two steps, its Python the same
number of steps. A server runs in the background until its guide ends. The first command that fails
ends the program with its output. Commands of NOT_RUN need what a checkout has not: they are named.
"""

import argparse
import os
import re
import shlex
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
from attention_zoo.tools.scale import RUNS  # noqa: E402

GUIDES = sorted((ROOT / "docs" / "guides").glob("*.md"))
NOT_RUN = ("docker", "hf", "kubectl", "pip")  # programs
PICTURES = {  # folder: number of pictures
    **{f"photos/train/{name}": 12 for name in ("fox", "horse")},
    **{f"photos/test/{name}": 8 for name in ("fox", "horse")},
    **{f"domains/train{domain}": 8 for domain in "AB"},
    **{f"domains/test{domain}": 12 for domain in "AB"},
    "more": 20,
}
STEPS, IMAGES = 2, 16  # of each training; of each score
START, WAIT = 300, 1800  # seconds until a server is there, and until a command ends
HOST = re.compile(r"^[\w.]+:222\d$")


def steps(text):
    """[("shell", command) or ("python", source)] of a page's indented lines and fenced Python.
    Python blocks without a command between them are one program."""
    found, fenced, command = [], None, ""
    for line in text.splitlines():
        if line.startswith("```"):
            if fenced and fenced[0] == "```python":
                before = found.pop()[1] + "\n" if found and found[-1][0] == "python" else ""
                found.append(("python", before + "\n".join(fenced[1:]) + "\n"))
            fenced = None if fenced else [line]
        elif fenced:
            fenced.append(line)
        elif line.startswith("    "):
            command += line.strip()
            if command.endswith("\\"):
                command = command[:-1]
            else:
                found.append(("shell", command))
                command = ""
    return found


def tiny_python(source):
    """Python source whose trainings take STEPS steps, and whose scores IMAGES images."""
    source = re.sub(r"\bsteps=[\d_]+", f"steps={STEPS}", source)
    return re.sub(r"\bnum=[\d_]+", f"num={IMAGES}", source)


def tiny_flags(arguments):
    """The flags that make a command of `main.py` a small one. A mistake raises UsageError."""
    from attention_zoo.cli import parser

    mode, given = parser.parse(arguments)
    flags = [f"--num={IMAGES}"] if "num" in given or "metrics" in given and mode == "train" else []
    if mode in ("publish", "import") and "output" not in given:
        raise SystemExit(f"it would write into this checkout: {shlex.join(arguments)}")
    if mode == "train":
        small = [f for f in RUNS[given.get("model", "ragan")] if not f.startswith("--dataset=")]
        if {"start", "backbone"} & dict(given.get("set", ())).keys():  # weights of their own width
            small = [flag for flag in small if not flag.startswith("--set=")]
        flags += [*small, f"--steps={STEPS}"]
    elif "image_size" in given:  # that of RUNS, which the scores of a run are of
        flags.append("--image_size=32")
    return flags


def tiny_command(command, ports=()):
    """A line of the shell as it is run, or None if it is not run. ports: of a server's REST and
    gRPC, or of workers."""
    command = re.sub(r"\s+#\s.*$", "", command)
    words = shlex.split(command)
    programs = [words[0], *(words[i + 1] for i, word in enumerate(words) if word == "&&")]
    if set(NOT_RUN) & set(programs):
        return None
    if "main.py" in words:
        flags = tiny_flags(words[words.index("main.py") + 1 :])
        return shlex.join([*words, *flags])
    if any(word.endswith("ssh.sh") for word in words):
        flags, free = tiny_flags(words[words.index("--") + 1 :]), iter(ports)
        places = [HOST.sub(lambda _: f"localhost:{next(free)}", word) for word in words]
        return shlex.join(["env", "LOCAL=1", *places, *flags])
    if "serving.local" in words:
        return f"{command} --rest={ports[0]} --grpc={ports[1]}"
    return command


def is_server(command):
    return "serving.local" in command or "--mode=demo" in command


def free_ports(count=2):
    """Numbers of ports that nothing listens on."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("localhost", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def make_folder(folder):
    """Links the checkout into a folder, whose PICTURES are drawn."""
    import numpy as np

    from attention_zoo.datasets import creatures

    for path in ROOT.iterdir():
        if path.name[0] != "." and path.name != "runs":
            (folder / path.name).symlink_to(path)
    for number, (name, count) in enumerate(PICTURES.items()):
        place, rng = folder / name, np.random.default_rng(number)
        place.mkdir(parents=True)
        kind = {"label": creatures.LABELS.index(place.name)} if "photos" in name else {}
        if "domains" in name:
            kind = {"coat": "AB".index(name[-1])}  # plain, striped
        for i in range(count):
            drawn = creatures.png(creatures.render(rng, **kind)["image"])
            (place / f"{i}.png").write_bytes(drawn)


class Guide:
    """One guide, run in a folder; a context that ends its servers."""

    def __init__(self, page, folder):
        self.page, self.folder, self.servers = page, folder, []
        self.output = folder / ".output"
        self.ports = free_ports()
        homes = {name: str(folder / ".cache") for name in ("XDG_CACHE_HOME", "TFDS_DATA_DIR")}
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self.environment = {
            **os.environ,
            **homes,
            "PATH": path,
            "PYTHON": sys.executable,
            "TF_CPP_MIN_LOG_LEVEL": "3",
        }

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for server in self.servers:
            if server.poll() is None:
                os.killpg(server.pid, signal.SIGKILL)
                server.wait()

    def run(self):
        for kind, text in steps(self.page.read_text()):
            if kind == "shell":
                self.shell(text)
            else:
                self.python(text)

    def python(self, source):
        for port, free in zip(("8501", "8500"), self.ports):  # REST, gRPC
            source = source.replace(port, str(free))
        program = self.folder / "guide.py"
        program.write_text("import main  # the checkout as a package\n" + tiny_python(source))
        self.wait([sys.executable, program.name], source.strip())

    def shell(self, text):
        command = tiny_command(text, self.ports if is_server(text) else free_ports())
        if command is None or "--mode=demo" in text and not has_gradio():
            print(f"  not run: {text}", flush=True)
        elif is_server(text):
            self.serve(command, text)
        else:
            self.wait(["bash", "-c", command], text)

    def wait(self, command, text):
        """Runs a command to its end."""
        begin = time.perf_counter()
        with self.output.open("w+") as output:
            process = self.start(command, output)
            try:
                code = process.wait(WAIT)
            except BaseException:
                os.killpg(process.pid, signal.SIGKILL)
                raise
        if code:
            self.fail(text, code)
        print(f"  {time.perf_counter() - begin:4.0f} s  {text.splitlines()[0]}", flush=True)

    def serve(self, command, text):
        """Starts a server and waits for its first line of output, which says that it listens."""
        lines = self.folder / ".server"
        with self.output.open("w") as errors, lines.open("w") as output:
            process = self.start(["bash", "-c", f"exec {command}"], output, errors)
        self.servers.append(process)
        end = time.monotonic() + START
        while not lines.read_text():
            if process.poll() is not None or time.monotonic() > end:
                self.fail(text, process.poll())
            time.sleep(0.2)
        print(f"  serves  {text}", flush=True)

    def start(self, command, output, errors=subprocess.STDOUT):
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            start_new_session=True,
        )

    def fail(self, text, code):
        name = self.page.name
        sys.exit(f"{self.output.read_text()}\nFAILED ({code}), a command of {name}:\n{text}")


def has_gradio():
    import importlib.util

    return importlib.util.find_spec("gradio") is not None


def check(page, keep=None):
    """Runs a guide. keep: a folder for what it writes; None: it goes."""
    print(page.name, flush=True)
    folder = Path(keep, page.stem) if keep else Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    try:
        make_folder(folder)
        with Guide(page, folder.absolute()) as guide:
            guide.run()
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("guides", nargs="*", help="names of pages, such as serve (default: all)")
    parser.add_argument("--keep", metavar="FOLDER", help="keeps what the guides write there")
    given = parser.parse_args()
    known = {page.stem: page for page in GUIDES}
    if unknown := set(given.guides) - known.keys():
        parser.error(f"no guide {unknown.pop()!r}: there are {', '.join(known)}")
    for name in given.guides or known:
        check(known[name], given.keep)
    return 0


if __name__ == "__main__":
    sys.exit(main())
