"""A data directory belongs to one node, is used by one process at a time, and keeps what it was told."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from primitives.errors import InvariantViolation
from shards.checksum import crc32c
from shards.identity import DirectoryRefused, InUse, StoreDirectory
from shards.ports import StoreDamaged
from shards.smallfile import SmallFileDamaged, read_small_file, write_small_file

HOLDER = """
import sys
from pathlib import Path
from shards.identity import StoreDirectory
directory = StoreDirectory.open(Path(sys.argv[1]), "n1")
print(directory.store_id.hex(), flush=True)
sys.stdin.read()
"""


def test_new_directory_is_private_and_keeps_the_id_it_drew(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "data"
    directory = StoreDirectory.open(path, "n1")
    store_id = directory.store_id
    directory.close()
    directory.close()
    assert len(store_id) == 16
    assert path.stat().st_mode & 0o777 == 0o700
    assert all(file.stat().st_mode & 0o077 == 0 for file in path.iterdir())
    directory = StoreDirectory.open(path, "n1")
    assert directory.store_id == store_id
    assert not directory.has_database
    directory.close()


def test_two_new_directories_draw_different_ids(tmp_path: Path) -> None:
    one, other = StoreDirectory.open(tmp_path / "1", "n1"), StoreDirectory.open(tmp_path / "2", "n1")
    assert one.store_id != other.store_id
    one.close()
    other.close()


def test_directory_open_to_others_is_made_private(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir(mode=0o755)
    StoreDirectory.open(tmp_path / "data", "n1").close()
    assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700


def test_directory_in_use_names_the_process_that_holds_it(tmp_path: Path) -> None:
    path = tmp_path / "data"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        store_id = bytes.fromhex(holder.stdout.readline().decode())
        with pytest.raises(DirectoryRefused, match=f"in use by process {holder.pid}: stop it"):
            StoreDirectory.open(path, "n1")
        holder.kill()
    # The lock ends with its process, however that ended.
    directory = StoreDirectory.open(path, "n1")
    assert directory.store_id == store_id
    with pytest.raises(InUse, match="open in this process already"):
        StoreDirectory.open(path, "n1")
    directory.close()


def test_directory_of_another_node_is_refused(tmp_path: Path) -> None:
    StoreDirectory.open(tmp_path / "data", "n1").close()
    with pytest.raises(DirectoryRefused, match="directory of node 'n1', not of 'n2'"):
        StoreDirectory.open(tmp_path / "data", "n2")
    StoreDirectory.open(tmp_path / "data", "n1").close()


def test_directory_with_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(DirectoryRefused, match=r"holds other files \(notes.txt\)"):
        StoreDirectory.open(tmp_path, "n1")


def test_path_that_is_no_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(DirectoryRefused, match="directory"):
            StoreDirectory.open(path, "n1")


def test_newer_format_is_refused(tmp_path: Path) -> None:
    StoreDirectory.open(tmp_path / "data", "n1").close()
    fields = read_small_file(tmp_path / "data" / "store")
    assert fields is not None
    write_small_file(tmp_path / "data" / "store", {**fields, "format": 2})
    with pytest.raises(DirectoryRefused, match="has format 2, this program knows 1"):
        StoreDirectory.open(tmp_path / "data", "n1")


def test_founding_set_is_recorded_once(tmp_path: Path) -> None:
    directory = StoreDirectory.open(tmp_path / "data", "n1")
    assert directory.founding is None
    told = {"n1": directory.store_id, "n2": bytes(16), "n3": bytes(range(16))}
    directory.record_founding(told)
    directory.record_founding(told)
    with pytest.raises(InvariantViolation):
        directory.record_founding({**told, "n3": bytes(16)})
    directory.close()
    directory = StoreDirectory.open(tmp_path / "data", "n1")
    assert directory.founding == told
    directory.close()


def test_marked_directory_never_opens_again(tmp_path: Path) -> None:
    directory = StoreDirectory.open(tmp_path / "data", "n1")
    assert not directory.is_damaged
    directory.mark_damaged("a first reason")
    directory.mark_damaged("a second reason")
    assert directory.is_damaged
    directory.close()
    for _ in range(2):
        with pytest.raises(StoreDamaged, match="a first reason"):
            StoreDirectory.open(tmp_path / "data", "n1")
    (tmp_path / "data" / "damaged").write_bytes(b"")
    with pytest.raises(StoreDamaged, match="unreadable"):
        StoreDirectory.open(tmp_path / "data", "n1")


@pytest.mark.parametrize("name", ["store", "founding", "recovering"])
def test_altered_small_file_is_damage(tmp_path: Path, name: str) -> None:
    directory = StoreDirectory.open(tmp_path / "data", "n1")
    directory.record_founding({"n1": directory.store_id})
    directory.require_round(5)
    directory.close()
    content = bytearray((tmp_path / "data" / name).read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "data" / name).write_bytes(content)

    def use() -> None:
        opened = StoreDirectory.open(tmp_path / "data", "n1")
        try:
            assert opened.required_round >= 0
        finally:
            opened.close()

    for _ in range(2):
        with pytest.raises(StoreDamaged):
            use()


@pytest.mark.parametrize("left", ["rocks", "founding"])
def test_store_whose_identity_is_gone_is_damage(tmp_path: Path, left: str) -> None:
    directory = StoreDirectory.open(tmp_path / "data", "n1")
    directory.record_founding({"n1": directory.store_id})
    directory.close()
    (tmp_path / "data" / "store").unlink()
    if left == "rocks":
        (tmp_path / "data" / "founding").unlink()
        (tmp_path / "data" / "rocks").mkdir()
    with pytest.raises(StoreDamaged, match=f"holds {left}, and no identity"):
        StoreDirectory.open(tmp_path / "data", "n1")


def test_file_left_half_written_by_a_crash_means_nothing(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "store.new").write_bytes(b'{"format')
    directory = StoreDirectory.open(tmp_path / "data", "n1")
    assert len(directory.store_id) == 16
    directory.close()


def test_small_file_holds_what_was_written_or_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "small"
    assert read_small_file(path) is None
    write_small_file(path, {"b": 1, "a": "text"})
    assert read_small_file(path) == {"a": "text", "b": 1}
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(SmallFileDamaged):
            read_small_file(path)
    line = json.dumps([1]).encode()
    path.write_bytes(line + b"\n%08x\n" % crc32c(line))
    with pytest.raises(SmallFileDamaged, match="no fields"):
        read_small_file(path)
