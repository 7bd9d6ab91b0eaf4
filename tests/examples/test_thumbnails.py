"""The example with the thumbnails, run as its README says, on pictures that are made here."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

from dispatcher_core import Config, Dispatcher

EXAMPLE = Path(__file__).parents[2] / "examples" / "thumbnails"
SECRET = "thumbnails-0123456789-abcdefghij"
PATIENCE = 60.0
SIDE = 160

COLOURS = {
    "a.png": (200, 0, 0),
    "b c.jpg": (0, 150, 0),
    "d.gif": (0, 0, 250),
    "é.bmp": (90, 90, 90),
    "語.webp": (0, 180, 180),
}


@dataclass(frozen=True, slots=True)
class Applications:
    """App B, which runs, and app A beside it.

    Attributes:
        folder: the example's, copied.
        pictures: the folder that both see.
        url: where app B's receiver listens.
    """

    folder: Path
    pictures: Path
    url: str

    def run_a(self, *arguments: str) -> tuple[int, str, str]:
        """Exit code and output of app A's script."""
        ended = subprocess.run(
            (sys.executable, "make_contact_sheet.py", *arguments),
            cwd=self.folder / "app_a",
            env=environment(self.pictures) | {"DISPATCHER_BACKEND_URL": self.url},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        return ended.returncode, ended.stdout, ended.stderr

    def dispatcher(self) -> Dispatcher:
        """Another sender to app B."""
        return Dispatcher(Config(url=self.url, secret=SECRET, timeout=20, deadline=PATIENCE))


def environment(pictures: Path) -> dict[str, str]:
    """The environment of both applications."""
    settings = {"PICTURES": str(pictures), "DISPATCHER_BACKEND_SECRET": SECRET}
    return {**os.environ, **settings, "PYTHONUTF8": "1"}


@contextlib.contextmanager
def program(folder: Path, pictures: Path, *words: str) -> Iterator[Path]:
    """A command of Dispatcher that runs while the block does; gives the file with its output."""
    log = folder / f"{words[0]}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            (sys.executable, "-m", "dispatcher_core", *words),
            cwd=folder,
            env=environment(pictures),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield log
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(PATIENCE)
        finally:
            process.kill()
            process.wait()
    assert process.returncode == 0, log.read_text()


def found_in(log: Path, pattern: str) -> str:
    """What the first group of the pattern matches, as soon as the program has printed it."""
    deadline = time.monotonic() + PATIENCE
    while not (match := re.search(pattern, log.read_text())):
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.02)
    return match[1]


@pytest.fixture
def pictures(tmp_path):
    """A folder with a folder of pictures in it, each of one colour, and with a text."""
    folder = tmp_path / "pictures" / "holiday"
    folder.mkdir(parents=True)
    for name, colour in COLOURS.items():
        Image.new("RGB", (400, 200), colour).save(folder / name)
    (folder / "notes.txt").write_text("no picture")
    return folder.parent


@pytest.fixture
def applications(tmp_path, pictures):
    """App B as two programs, and app A, in a copy of the example."""
    folder = tmp_path / "example"
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("*.sqlite3*", ".env"))
    app_b = folder / "app_b"
    with (
        program(app_b, pictures, "serve", "--port", "0") as receiver,
        program(app_b, pictures, "work", "--processes", "2") as worker,
    ):
        url = found_in(receiver, r"listening on (http://\S+)\n")
        found_in(worker, r"(ready)\n")
        yield Applications(folder, pictures, url)


def is_colour(image: Image.Image, place: tuple[int, int], colour: tuple[int, int, int]) -> bool:
    """Whether a point has a colour, but for what JPEG makes of it."""
    point = image.convert("RGB").getpixel(place)
    return all(abs(one - other) <= 12 for one, other in zip(point, colour, strict=True))


def test_a_folder_becomes_a_contact_sheet(applications):
    """Each picture gets a thumbnail that fits, and the contact sheet shows them in order."""
    upright = Image.new("RGB", (300, 100), COLOURS["a.png"])
    exif = upright.getexif()
    exif[0x0112] = 6  # the camera was turned by a quarter
    upright.save(applications.pictures / "holiday" / "turned.jpg", exif=exif)
    code, output, errors = applications.run_a("holiday")
    made = applications.pictures / "holiday" / "thumbnails"
    assert (code, errors) == (0, "")
    assert re.fullmatch(r"batch \S+, 6 pictures\n.*\n.*\n", output)
    assert output.endswith(
        f"succeeded: 6 of 6 thumbnails made\nsee {made / 'contact-sheet.jpg'}\n"
    )
    expected = {*(f"{name}.jpg" for name in COLOURS), "turned.jpg.jpg", "contact-sheet.jpg"}
    assert {path.name for path in made.iterdir()} == expected
    for name, colour in COLOURS.items():
        with Image.open(made / f"{name}.jpg") as thumbnail:
            assert (thumbnail.format, thumbnail.size) == ("JPEG", (SIDE, SIDE // 2))
            assert is_colour(thumbnail, (80, 40), colour)
    with Image.open(made / "turned.jpg.jpg") as thumbnail:
        assert thumbnail.height == SIDE > thumbnail.width
    with Image.open(made / "contact-sheet.jpg") as sheet:
        assert sheet.size == (3 * SIDE, 2 * SIDE)
        colours = COLOURS | {"turned.jpg": COLOURS["a.png"]}
        for number, name in enumerate(sorted(colours)):
            row, column = divmod(number, 3)
            middle = (column * SIDE + SIDE // 2, row * SIDE + SIDE // 2)
            assert is_colour(sheet, middle, colours[name]), name
        assert is_colour(sheet, (SIDE // 2, 5), (255, 255, 255))


def test_a_broken_picture_is_written_down(applications):
    """The catch names the broken picture, nothing else follows; once mended all goes well."""
    broken = applications.pictures / "holiday" / "c.jpg"
    broken.write_bytes(b"\xff\xd8\xff\xe0 no picture")
    code, output, errors = applications.run_a("holiday")
    made = applications.pictures / "holiday" / "thumbnails"
    assert (code, errors) == (1, "")
    assert re.search(r"^failed: \d of 6 thumbnails made\nholiday/c.jpg: .", output, re.M)
    assert output.endswith(f"see {made / 'failed.txt'}\n")
    assert (made / "failed.txt").read_text() == "holiday/c.jpg\n"
    assert not (made / "contact-sheet.jpg").exists()

    Image.new("RGB", (10, 10)).save(broken)
    code, output, errors = applications.run_a("holiday")
    assert (code, errors) == (0, "")
    assert "succeeded: 6 of 6" in output
    assert (made / "contact-sheet.jpg").exists()
    assert not (made / "failed.txt").exists()


def test_nothing_outside_is_touched(applications, tmp_path):
    """A path that leads out of the folder, or a link that does, fails its job."""
    outside = tmp_path / "outside"
    outside.mkdir()
    Image.new("RGB", (10, 10)).save(outside / "secret.png")
    (applications.pictures / "link.png").symlink_to(outside / "secret.png")
    (applications.pictures / "linked").symlink_to(outside)
    (applications.pictures / "trap").mkdir()
    (applications.pictures / "trap" / "thumbnails").symlink_to(outside)
    Image.new("RGB", (10, 10)).save(applications.pictures / "trap" / "a.png")
    dispatcher = applications.dispatcher()
    paths = ("../outside/secret.png", str(outside / "secret.png"), "link.png")
    for path in (*paths, "linked/secret.png", "trap/a.png"):
        result = dispatcher.dispatch("make-thumbnail", {"picture": path}).raise_for_error()
        status = dispatcher.wait(result.id, PATIENCE)
        assert (status.state, status.error.type) == ("failed", "Fail"), path
        assert "is outside of the folder" in status.error.message
    assert [path.name for path in outside.iterdir()] == ["secret.png"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("empty",), 1, "there are no pictures in "),
        (("gone",), 1, "No such file or directory"),
        ((), 2, "usage: PICTURES=... make_contact_sheet.py FOLDER"),
        (("holiday",), 1, "DISPATCHER_BACKEND_SECRET"),
    ],
    ids=["empty", "missing", "no folder", "no secret"],
)
def test_what_app_a_refuses(pictures, arguments, code, message):
    """App A says in one line what is missing, and sends nothing."""
    (pictures / "empty").mkdir()
    ended = subprocess.run(
        (sys.executable, "make_contact_sheet.py", *arguments),
        cwd=EXAMPLE / "app_a",
        env={"PATH": os.environ["PATH"], "PICTURES": str(pictures)},
        capture_output=True,
        text=True,
    )
    assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (code, "", 1)
    assert message in ended.stderr
