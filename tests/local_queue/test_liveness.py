"""Who is alive, told by locks that the kernel drops at death."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dispatcher_local_queue.liveness import LifeLock, birth_of, dead, gone, new_life_id

OWN = """
import os, sys
from pathlib import Path
from dispatcher_local_queue.liveness import LifeLock, birth_of

sys.path.insert(0, sys.argv[2])
import heirs

lock = LifeLock(Path(sys.argv[1]))
child = getattr(heirs, sys.argv[3])()
print(os.getpid(), birth_of(os.getpid()), child, sep=";", flush=True)
sys.stdin.read()
"""

HEIRS = """
import ctypes, multiprocessing, os, signal, subprocess, sys

SLEEPER = [sys.executable, "-c", "import signal; signal.pause()"]

def nobody():
    return 0

def fork():
    pid = os.fork()
    if pid == 0:
        signal.pause()
    return pid

def double_fork():
    read, write = os.pipe()
    if os.fork() == 0:
        pid = os.fork()
        if pid == 0:
            signal.pause()
        os.write(write, str(pid).encode())
        os._exit(0)
    os.wait()
    return int(os.read(read, 20))

def multiprocessing_fork():
    process = multiprocessing.get_context("fork").Process(target=signal.pause)
    process.start()
    return process.pid

def subprocess_with_all_descriptors():
    return subprocess.Popen(SLEEPER, close_fds=False).pid

def fork_in_c():
    pid = ctypes.CDLL(None).fork()
    if pid == 0:
        signal.pause()
    return pid
"""


class Owner:
    """A process that holds a lock, and perhaps has a child."""

    def __init__(self, process, lock: Path, doomed_child) -> None:
        self.process = process
        self.lock = lock
        pid, self.birth, child = process.stdout.readline().strip().split(";")
        self.pid, self.child = int(pid), int(child)
        if self.child:
            doomed_child(self.child)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def own(script, tmp_path, doomed_child):
    """Starts a process that takes a lock, then has a child in some way."""
    (tmp_path / "heirs.py").write_text(HEIRS)

    def own(way: str = "nobody") -> Owner:
        lock = tmp_path / "owner.lock"
        return Owner(script(OWN, lock, tmp_path, way), lock, doomed_child)

    return own


def is_dead(lock: Path) -> bool:
    with dead(lock) as answer:
        return answer


def alive(pid: int) -> bool:
    return birth_of(pid) != ""


def test_ids_are_never_used_again() -> None:
    """Each life has an id of its own, fit for a file name."""
    ids = {new_life_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert all(id.isalnum() and len(id) == 16 for id in ids)


def test_who_holds_the_lock_is_alive(tmp_path) -> None:
    """While the lock is held its owner is not dead, and the file is for its owner alone."""
    lock = LifeLock(tmp_path / "a.lock")
    assert is_dead(tmp_path / "a.lock") is False
    assert (tmp_path / "a.lock").stat().st_mode & 0o777 == 0o600
    lock.release()
    assert not (tmp_path / "a.lock").exists()


def test_a_killed_owner_is_dead(own) -> None:
    """The kernel drops the lock of a killed process."""
    owner = own()
    assert is_dead(owner.lock) is False
    owner.kill()
    assert is_dead(owner.lock) is True
    assert owner.lock.exists()


def test_one_finds_out_at_a_time(own) -> None:
    """While one looks at a dead owner, another does not find it dead, and later does."""
    owner = own()
    owner.kill()
    with dead(owner.lock) as first, dead(owner.lock) as second:
        assert (first, second) == (True, False)
    assert is_dead(owner.lock) is True


def test_a_missing_file_is_no_death(tmp_path) -> None:
    """What is not there says nothing, and the look does not make it."""
    assert is_dead(tmp_path / "missing.lock") is False
    assert not (tmp_path / "missing.lock").exists()


def test_a_link_is_not_followed(own, tmp_path) -> None:
    """A link in place of a lock file says nothing."""
    owner = own()
    owner.kill()
    (tmp_path / "link.lock").symlink_to(owner.lock)
    assert is_dead(tmp_path / "link.lock") is False


def test_a_stopped_process_is_alive(own) -> None:
    """A process that is suspended keeps its lock: it may go on at any time."""
    owner = own()
    os.kill(owner.pid, signal.SIGSTOP)
    os.waitid(os.P_PID, owner.pid, os.WSTOPPED | os.WNOWAIT)
    assert is_dead(owner.lock) is False
    assert gone(owner.pid, owner.birth) is False
    os.kill(owner.pid, signal.SIGCONT)


@pytest.mark.parametrize(
    "way", ["fork", "double_fork", "multiprocessing_fork", "subprocess_with_all_descriptors"]
)
def test_a_child_does_not_inherit_the_lock(own, way, wait_until) -> None:
    """A dead process is dead, though a child that it left behind runs on."""
    owner = own(way)
    assert is_dead(owner.lock) is False
    owner.kill()
    wait_until(lambda: is_dead(owner.lock), timeout=5)
    assert alive(owner.child)
    assert gone(owner.pid, owner.birth) is True


def test_a_fork_in_c_inherits_the_lock(own) -> None:
    """A fork that Python knows nothing of keeps the lock; pid and birth tell of the death."""
    owner = own("fork_in_c")
    assert gone(owner.pid, owner.birth) is False
    owner.kill()
    assert alive(owner.child)
    assert is_dead(owner.lock) is False
    assert gone(owner.pid, owner.birth) is True


def test_a_file_that_was_taken_away(tmp_path) -> None:
    """Who holds the lock can tell that its file is gone, or is another one now."""
    path = tmp_path / "a.lock"
    lock = LifeLock(path)
    assert lock.replaced() is False
    path.unlink()
    assert lock.replaced() is True
    path.touch()
    assert lock.replaced() is True
    other = LifeLock(path)
    assert other.replaced() is False
    assert lock.replaced() is True
    lock.release()
    other.release()


def test_birth_tells_processes_apart() -> None:
    """Every process has a birth, always the same one, and one that ended has none."""
    mine, parents = birth_of(os.getpid()), birth_of(os.getppid())
    assert mine == birth_of(os.getpid()) != ""
    assert parents not in ("", mine)
    process = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert birth_of(process.pid) == "", "a zombie has ended"
    process.wait()
    assert birth_of(process.pid) == ""


def test_birth_of_an_awkward_name(tmp_path, script) -> None:
    """A program whose name has blanks and brackets cannot forge its birth."""
    program = tmp_path / "a) Z 1 (b"
    program.symlink_to(sys.executable)
    process = subprocess.Popen([program, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        plain = script("input()")
        assert birth_of(process.pid).split()[:2] == birth_of(plain.pid).split()[:2]
        assert birth_of(process.pid).split()[2].isdigit()
    finally:
        process.communicate(b"\n")


def test_a_living_process_is_not_gone() -> None:
    """A process that has the birth it had is there."""
    assert gone(os.getpid(), birth_of(os.getpid())) is False


def test_a_pid_that_is_used_again() -> None:
    """Another process with the pid of an earlier one, even of this very boot, is not it."""
    boot, namespace, start = birth_of(os.getpid()).split()
    assert gone(os.getpid(), f"{boot} {namespace} {int(start) - 1}") is True


def test_what_this_machine_cannot_know() -> None:
    """A process of another boot or pid namespace, or without a birth, may well be alive."""
    boot, namespace, start = birth_of(os.getpid()).split()
    assert gone(os.getpid(), f"{boot[::-1]} {namespace} {start}") is False
    assert gone(os.getpid(), f"{boot} pid:[1] {start}") is False
    assert gone(os.getpid(), "") is False
    assert gone(2**22 + 1, "") is False
