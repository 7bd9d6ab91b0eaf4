"""Which file systems are refused."""

import logging
from pathlib import Path

import pytest

from dispatcher_core import QueueError, QueueUnavailable
from dispatcher_local_queue import SQLiteQueue
from dispatcher_local_queue.filesystem import check_file_system, file_system_of

TABLE = """\
25 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
26 25 0:23 / /data rw,relatime shared:2 master:1 - nfs4 server:/export rw
27 26 8:2 / /data/local rw - xfs /dev/sdb1 rw
28 25 0:24 / /mnt/two\\040words rw - cifs //server/share rw
29 25 0:25 / /mnt/donn\u00e9es rw - fuse.sshfs host: rw
30 25 0:26 / /host rw - virtiofs shared rw
34 25 0:26 / /wsl rw - 9p drives rw
35 25 0:27 / /mnt/tab\011and\134backslash rw - nfs server:/odd rw
31 25 8:3 / /over rw - nfs4 server:/old rw
32 31 8:4 / /over rw - btrfs /dev/sdc rw
"""


@pytest.fixture
def mounts(tmp_path) -> Path:
    """A table of mounts as the kernel writes it, with a name that is not UTF-8."""
    table = tmp_path / "mountinfo"
    odd = b"33 25 8:5 / /mnt/\xff rw - ext4 /dev/sdd rw\n"
    table.write_bytes(TABLE.encode("utf-8") + odd)
    return table


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/srv/app", "ext4"),
        ("/data/queue", "nfs4"),
        ("/data", "nfs4"),
        ("/database", "ext4"),
        ("/data/local/queue", "xfs"),
        ("/mnt/two words/queue", "cifs"),
        ("/mnt/donn\u00e9es", "fuse.sshfs"),
        ("/mnt/tab\tand\\backslash", "nfs"),
        ("/over/queue", "btrfs"),
    ],
)
def test_the_mount_that_counts(folder, kind, mounts) -> None:
    """The longest mount point counts, the last one where there are several."""
    assert file_system_of(Path(folder), mounts) == kind


@pytest.mark.parametrize("folder", ["/data/queue", "/mnt/two words", "/mnt/donn\u00e9es"])
def test_a_network_file_system_is_refused(folder, mounts) -> None:
    """A folder on a network is refused by name, with the setting to change."""
    with pytest.raises(QueueError, match=rf"{folder} .*set DISPATCHER_QUEUE_URL"):
        check_file_system(Path(folder), mounts)


@pytest.mark.parametrize(("folder", "kind"), [("/host/queue", "virtiofs"), ("/wsl", "9p")])
def test_a_folder_of_the_host_is_warned_of(folder, kind, mounts, caplog) -> None:
    """A folder that a virtual machine shares with its host may work, so it is a warning."""
    with caplog.at_level(logging.WARNING, "dispatcher.queue"):
        check_file_system(Path(folder), mounts)
    assert folder in caplog.text
    assert f"({kind})" in caplog.text


def test_a_link_to_a_network(tmp_path) -> None:
    """A link counts as the place to which it leads."""
    (tmp_path / "far").mkdir()
    (tmp_path / "near").symlink_to(tmp_path / "far")
    table = tmp_path / "mountinfo"
    table.write_text(f"25 1 8:1 / / rw - ext4 a rw\n26 25 0:1 / {tmp_path}/far rw - cifs b rw\n")
    with pytest.raises(QueueError, match=r"near is on a network file system \(cifs\)"):
        check_file_system(tmp_path / "near", table)


def test_a_link_to_itself(tmp_path, mounts, message) -> None:
    """A link that leads nowhere is no error of its own; what is put there is refused clearly."""
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    check_file_system(loop, mounts)
    with pytest.raises(QueueUnavailable, match=r"Too many levels of symbolic links; let this"):
        SQLiteQueue(loop / "queue.sqlite3").put(message())


def test_a_local_file_system_is_fine(mounts, caplog) -> None:
    """A local disk says nothing; neither does a machine without a table of mounts."""
    check_file_system(Path("/srv/app"), mounts)
    check_file_system(Path("/data"), mounts.with_name("missing"))
    assert caplog.text == ""
