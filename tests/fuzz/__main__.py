"""Fuzzes the reading of messages and the verifying of signatures, guided by coverage.

``python -m fuzz --seconds 120 [TARGET ...]``, in the folder ``tests``. Whatever it writes goes
into a temporary folder.
"""

import argparse
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from . import decoding, verifying

TARGETS = {"decoding": decoding, "verifying": verifying}
OPTIONS = ("-timeout=10", "-max_len=2048", "-print_final_stats=1")

_COUNT = re.compile(r"stat::number_of_executed_units: *([0-9]+)")
_CHATTER = re.compile(r"#[0-9]+\s+(?:NEW|REDUCE) |INFO: Instrumenting ")
_FOUND = ("crash-*", "timeout-*", "oom-*", "leak-*")


def main() -> int:
    """Run the targets one after the other, up to the first that finds something.

    Returns:
        0 if nothing was found, 1 if something was.
    """
    given = _arguments()
    names = given.targets or list(TARGETS)
    seconds = max(1, given.seconds // len(names))
    for name in names:
        start = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
            found, count = _run(name, Path(folder), seconds)
        print(f"{name}: {count:,} inputs in {time.monotonic() - start:.0f} s", flush=True)
        if found is not None:
            print(f"{name}: found by\n{found}\nkeep it as a test in tests/core, and mend the code")
            return 1
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m fuzz")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=" or ".join(TARGETS))
    parser.add_argument("--seconds", type=int, default=120, help="for all together")
    given = parser.parse_args()
    for name in given.targets:
        if name not in TARGETS:
            parser.error(f"there is no target {name!r}: there are {', '.join(TARGETS)}")
    return given


def _run(name: str, folder: Path, seconds: int) -> tuple[str | None, int]:
    """Run one target.

    Returns:
        What was found, None for nothing; and how many inputs were tried.
    """
    corpus = folder / "corpus"
    corpus.mkdir()
    for number, seed in enumerate(TARGETS[name].seeds()):
        (corpus / str(number)).write_bytes(seed)
    words = folder / "words"
    words.write_text("".join(f'"{_escaped(word)}"\n' for word in TARGETS[name].WORDS))
    process = subprocess.Popen(
        [
            *(sys.executable, "-B", "-m", "fuzz.target", name, str(corpus), *OPTIONS),
            *(f"-max_total_time={seconds}", f"-dict={words}", f"-artifact_prefix={folder}/"),
        ],
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    count = _follow(process)
    return _found(process.wait(), folder), count


def _follow(process: subprocess.Popen[str]) -> int:
    """Show most of what the process says until it ends; the number of inputs that it counted."""
    count = 0
    assert process.stderr is not None
    with process.stderr as lines:
        for line in lines:
            if not _CHATTER.match(line):
                sys.stderr.write(line)
            if match := _COUNT.match(line):
                count = int(match[1])
    return count


def _found(code: int, folder: Path) -> str | None:
    files = [path for pattern in _FOUND for path in folder.glob(pattern)]
    if code == 0 and not files:
        return None
    inputs = [f"{path.name}: {path.read_bytes()!r}" for path in files]
    return "\n".join(inputs) or f"no input: the target ended with code {code}"


def _escaped(word: bytes) -> str:
    """A word as a dictionary of libFuzzer writes it."""
    return "".join(f"\\x{byte:02x}" for byte in word)


if __name__ == "__main__":
    sys.exit(main())
