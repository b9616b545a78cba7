"""The page of --mode=demo in Chromium, which asks nobody but this machine: `make browser`."""

import io
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import sync_playwright

from attention_zoo.cli import main
from attention_zoo.datasets import creatures, table

ROOT = Path(__file__).parents[1]
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
PATIENCE = 180_000  # ms; a network is loaded when it is first asked for
PROGRAM = """
import sys

HERE = ("127.0.0.1", "localhost", "::1", "0.0.0.0", None)

def tell(event, given):
    if event in ("socket.connect", "socket.getaddrinfo"):
        place = given[event == "socket.connect"]
        name = place[0] if isinstance(place, tuple) else place
        if name not in HERE:
            print("abroad", event, name, file=sys.stderr, flush=True)

sys.addaudithook(tell)
import main as checkout
from attention_zoo.cli import main
sys.exit(main.main(sys.argv[1:]))
"""
COMMON = ["--image_size=32", "--batch_size=4", "--steps=2", "--set=width=4"]
RUNS = {
    "attending": ["--model=dcgan", "--dataset=creatures/tiny", "--set=self_attention=true"],
    "taught": ["--model=ata_gan", "--dataset=creatures/tiny"],
    "guided": ["--model=gain", "--dataset=creatures/many/tiny", "--set=backbone=resnet9"],
    "regional": ["--model=ragan", "--dataset=creatures/tiny", "--set=encoder_width=4"],
    "striped": ["--model=attention_gan", "--dataset=creatures/plain2striped/tiny"],
}
RUNS["guided"] += ["--set=start="]
RUNS["striped"] += ["--set=blocks=1", "--set=masks=3"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder of runs of two steps each."""
    folder = tmp_path_factory.mktemp("runs")
    for name, flags in RUNS.items():
        assert main.main([*flags, *COMMON, f"--run_dir={folder / name}"]) == 0
    return folder


@pytest.fixture(scope="module")
def served(runs, tmp_path_factory):
    """(address of the page, the file that the server writes its stderr into)."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("log") / "stderr"
    command = [sys.executable, "-c", PROGRAM, "--mode=demo", f"--weights={runs}", f"--port={port}"]
    with log.open("w") as file:
        server = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=file, text=True)
        try:
            found = re.match(r"demo: (http\S+)", server.stdout.readline())
            assert found, log.read_text()
            yield found[1], log
        finally:
            server.terminate()
            server.wait()


@pytest.fixture(scope="module")
def page(served):
    """The page, open; in the end nothing went wrong in it, and nobody else was asked."""
    address, log = served
    wrong, asked = [], []
    with sync_playwright() as playwright:
        path = next(filter(None, map(shutil.which, CHROMIUM)), None)
        browser = playwright.chromium.launch(executable_path=path)
        context = browser.new_context(viewport={"width": 1280, "height": 900})

        def meet(route):
            asked.append(route.request.url)
            route.continue_()

        context.route("**/*", meet)
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.on("console", lambda said: said.type == "error" and wrong.append(said.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        after(page, lambda: page.goto(address), 1)
        yield page
        browser.close()
    assert wrong == []
    assert asked and {url for url in asked if not url.startswith((address, "data:"))} == set()
    assert [line for line in log.read_text().splitlines() if "abroad" in line] == []
    assert "Traceback" not in log.read_text()


def pixels(page, number=0):
    """The picture of that number in the open tab, as it was sent."""
    source = page.locator(".pixels:visible img").nth(number).get_attribute("src")
    return np.asarray(Image.open(io.BytesIO(page.request.get(source).body())))


def after(page, act, number=0):
    """The same once `act` has changed it."""
    image = page.locator(".pixels:visible img").nth(number)
    old = image.evaluate("e => e.src") if image.count() else None
    act()
    page.wait_for_function(
        """([number, old]) => {
            const all = [...document.querySelectorAll(".pixels img")].filter(e => e.offsetParent)
            return all.length > number && all[number].src && all[number].src != old
        }""",
        arg=[number, old],
    )
    page.wait_for_timeout(500)  # for the others of the same answer
    return pixels(page, number)


def choose(page, name):
    page.get_by_label("Model and weights").locator("visible=true").click()
    name = re.compile(f"{name}$")
    page.get_by_role("option", name=name).locator("visible=true").click()


def send(page, path):
    """Drops a file into the open tab's picture, in place of what is there."""
    clear = page.locator(".given:visible").get_by_label("Remove Image")
    if clear.count():
        clear.click()
    page.locator(".given:visible input[type=file]").set_input_files(path)


def message(page):
    """The message that is on the page; takes it away."""
    text = page.get_by_test_id("toast-body").inner_text()
    page.get_by_test_id("toast-close").click()
    page.get_by_test_id("toast-body").wait_for(state="detached")
    return text


def press(page, name):
    page.get_by_role("button", name=name, exact=True).locator("visible=true").click()


def scored(page):
    """The classes that the open tab has scores of."""
    return set(page.locator("[data-testid$=confidence-set]:visible .text").all_inner_texts())


def written(path, size):
    """The path of a picture of that width and height."""
    coarse = np.random.default_rng(0).integers(0, 256, (6, 9, 3), "uint8")
    Image.fromarray(coarse).resize(size).save(path)
    return path


def test_samples_of_the_zoo(page):
    first = after(page, lambda: choose(page, "ragan:cifar10"))
    assert first.shape == (1024, 1024, 3) and first.std() > 20
    page.get_by_label("Seed").fill("7")
    other = after(page, lambda: press(page, "Draw"))
    assert abs(other.astype(int) - first).mean() > 10
    assert np.array_equal(other[:256:8, :256:8], pixels(page, 1)[::16, ::16])  # the first of them
    grid = page.locator(".pixels:visible img").first
    clicked = after(page, lambda: grid.click(position={"x": 20, "y": 220}), 1)
    assert np.array_equal(other[256:512:8, :256:8], clicked[::16, ::16])  # of 4 x 4, 492 pixels


def test_a_sample_is_looked_at(page):
    def look():
        press(page, "Look at this sample")
        page.get_by_role("tab", name="Look", selected=True).wait_for()

    after(page, look)
    shown = after(page, lambda: choose(page, "resnet9:cifar10"))
    assert shown.shape == (512, 600, 3) and shown.std() > 20  # with the scale of the colours
    red = (shown == (255, 0, 0)).all(-1).sum()
    assert 100 < red < 512 * 512 / 10  # a box
    assert len(scored(page) & set(table.CIFAR10)) == 5
    page.get_by_role("tab", name="Sample").click()


def test_where_a_pixel_looks(page):
    before = after(page, lambda: choose(page, "attending"), 1)
    grid = page.locator(".pixels:visible img").first
    clicked = after(page, lambda: grid.click(position={"x": 20, "y": 40}), 1)
    red = [np.argwhere((p == (255, 0, 0)).all(-1)).mean(0) for p in (before, clicked)]
    assert (abs(red[0] - 264) < 9).all()  # the middle
    side = grid.bounding_box()["width"] / 4
    assert (abs(red[1] - np.array([40, 20]) / side * 512) < 17).all()


def test_the_regions_of_a_reference(page, tmp_path):
    after(page, lambda: choose(page, "regional"))
    assert page.locator(".given:visible").count() == 1
    shown = after(page, lambda: send(page, written(tmp_path / "a.png", (40, 40))), 1)
    assert shown.shape == (1024, 1196, 3) and shown.std() > 20
    assert page.get_by_text("where the reference is looked at").count() == 1
    after(page, lambda: choose(page, "dcgan:creatures"))
    assert page.locator(".given:visible").count() == 0


def test_translations(page, tmp_path):
    page.get_by_role("tab", name="Translate").click()
    there = after(page, lambda: page.locator(".gallery:visible img").first.click())
    assert there.shape == (512, 512, 3) and there.std() > 5
    captions = page.locator(".caption-label:visible")
    captions.nth(5).wait_for()
    assert captions.all_inner_texts()[1:4] == ["mask 1", "mask 2", "mask of the background"]
    back = after(page, lambda: page.get_by_label("b2a").check())
    assert abs(back.astype(int) - there).mean() > 0.1
    other = after(page, lambda: send(page, written(tmp_path / "a.jpg", (90, 62))))
    assert other.shape == (372, 540, 3)


def test_looks(page, tmp_path):
    page.get_by_role("tab", name="Look").click()
    after(page, lambda: send(page, written(tmp_path / "a.jpg", (90, 62))))
    for name in ("guided", "taught", "resnet9:creatures"):
        shown = after(page, lambda name=name: choose(page, name))
        assert shown.shape == (372, 632, 3) and shown.std() > 10
    assert len(scored(page) & set(creatures.LABELS)) == 5


def test_what_cannot_be_shown_gets_a_message_and_the_page_goes_on(page, tmp_path):
    page.get_by_role("tab", name="Look").click()
    (tmp_path / "broken.png").write_bytes(b"no picture")
    Image.new("L", (10_000, 5_000)).save(tmp_path / "huge.png")
    send(page, tmp_path / "broken.png")
    assert message(page).count("not a picture") == 1
    send(page, tmp_path / "huge.png")
    assert "50 million pixels" in message(page)
    page.locator(".given:visible").get_by_label("Remove Image").click()
    press(page, "Look")
    assert "give a picture" in message(page)
    page.get_by_role("tab", name="Sample").click()
    page.get_by_label("Seed").fill("ten")
    press(page, "Draw")
    assert "'ten'" in message(page)
    page.get_by_label("Seed").fill("11")
    assert after(page, lambda: press(page, "Draw")).std() > 20


def test_a_port_that_is_taken(served):
    port = served[0].rstrip("/").rpartition(":")[2]
    command = [sys.executable, "main.py", "--mode=demo", f"--port={port}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and f"port {port} is taken" in done.stderr
