"""Reading the write-ahead log: framing, several files, and what counts as proof."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import pytest

from shards.checksum import crc32c
from shards.layout import ROUND_KEY, encode_round
from shards.wal import BLOCK_BYTES, WalBatch, WalFault, judge, read_wal


def varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def batch(number: int, synced: int, size: int = 50) -> bytes:
    row = encode_round(number, synced)
    first = b"\x05" + varint(2) + varint(len(ROUND_KEY)) + ROUND_KEY + varint(len(row)) + row
    return struct.pack("<QI", number * 10, 2) + first + b"\x05\x01\x01k" + varint(size) + bytes(size)


class Wal:
    """Writes batches as RocksDB frames them."""

    def __init__(self, log_number: int | None = None) -> None:
        self.content = bytearray()
        self.log_number = log_number

    def add(self, payload: bytes) -> Wal:
        header = 7 if self.log_number is None else 11
        begin = True
        while True:
            room = BLOCK_BYTES - len(self.content) % BLOCK_BYTES
            if room < header:
                self.content += bytes(room)
                continue
            part, payload = payload[: room - header], payload[room - header :]
            more = bool(payload)
            kind = (2 if more else 1) if begin else (3 if more else 4)
            self._record(kind, part)
            begin = False
            if not payload:
                return self

    def _record(self, kind: int, part: bytes) -> None:
        covered = bytes([kind])
        if self.log_number is not None:
            covered = bytes([kind + 4]) + struct.pack("<I", self.log_number)
        crc = crc32c(covered + part)
        masked = ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
        self.content += struct.pack("<IH", masked, len(part)) + covered + part


def rounds(content: bytes, log_number: int = 9) -> list[int | str]:
    return [
        item.row.round if isinstance(item, WalBatch) else item.what for item in read_wal(content, log_number)
    ]


@pytest.mark.parametrize("log_number", [None, 9])
@pytest.mark.parametrize("size", [1, 300, 5_000, 40_000, 200_000])
def test_batches_of_any_size_are_read_across_blocks(log_number: int | None, size: int) -> None:
    wal = Wal(log_number)
    for number in range(30):
        wal.add(batch(number, 0, size + number))
    assert rounds(bytes(wal.content)) == list(range(30))


def test_header_that_just_fits_and_one_that_does_not_are_both_read() -> None:
    for rest in range(16):
        wal = Wal().add(batch(0, 0, 1))
        room = BLOCK_BYTES - len(wal.content) - 7
        fixed = len(batch(1, 0, 300)) - 300
        wal.add(batch(1, 0, room - fixed - rest - 1))
        wal.add(batch(2, 0)).add(batch(3, 0))
        assert rounds(bytes(wal.content)) == [0, 1, 2, 3]


def test_records_of_a_files_former_life_are_faults() -> None:
    assert rounds(bytes(Wal(8).add(batch(0, 0)).content)) == ["no whole record"]


def test_reading_goes_on_behind_a_fault_in_the_same_block() -> None:
    wal = Wal()
    marks = [0]
    for number in range(10):
        wal.add(batch(number, 0))
        marks.append(len(wal.content))
    wal.content[marks[4] + 4] ^= 0xFF  # its length
    found = list(read_wal(bytes(wal.content), 9))
    assert [item.row.round for item in found if isinstance(item, WalBatch)] == [0, 1, 2, 3, 5, 6, 7, 8, 9]
    assert [item.offset for item in found if isinstance(item, WalFault)] == [marks[4]]


def test_reading_goes_on_behind_a_lost_block() -> None:
    wal = Wal()
    for number in range(60):
        wal.add(batch(number, 0, 5_000))
    wal.content[BLOCK_BYTES : 2 * BLOCK_BYTES] = random.Random(1).randbytes(BLOCK_BYTES)
    found = rounds(bytes(wal.content))
    assert found[0] == 0
    assert found[-1] == 59
    assert "no whole record" in found


def test_batch_without_our_row_is_a_fault() -> None:
    wal = Wal().add(batch(0, 0)).add(b"\0" * 12 + b"\x05\x01\x01k\x01v").add(b"").add(batch(1, 0))
    assert rounds(bytes(wal.content)) == [0, "a batch that tells no round", "a batch that tells no round", 1]


def test_unfinished_batch_at_the_end_is_a_fault() -> None:
    wal = Wal().add(batch(0, 0)).add(batch(1, 0, 100_000))
    assert rounds(bytes(wal.content[: BLOCK_BYTES * 2])) == [0, "a batch without its end"]


def files(path: Path, contents: dict[int, Wal]) -> Path:
    for number, wal in contents.items():
        (path / f"{number:06}.log").write_bytes(bytes(wal.content))
    return path


def wal(*batches: tuple[int, int]) -> Wal:
    made = Wal()
    for number, synced in batches:
        made.add(batch(number, synced))
    return made


def test_rounds_that_go_on_in_the_next_file_are_sound(tmp_path: Path) -> None:
    verdict = judge(files(tmp_path, {9: wal((4, 2), (5, 3)), 10: wal((6, 4)), 11: wal()}))
    assert (verdict.fault, verdict.last, verdict.synced, verdict.is_damage) == (None, 6, 4, False)


def test_files_are_taken_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    verdict = judge(files(tmp_path, {999_999: wal((4, 2)), 1_000_000: wal((5, 3))}))
    assert (verdict.fault, verdict.last) == (None, 5)


def test_missing_rounds_between_files_are_damage_if_they_were_synced(tmp_path: Path) -> None:
    verdict = judge(files(tmp_path, {9: wal((4, 2)), 11: wal((6, 5))}))
    assert verdict.is_damage
    assert verdict.lost == 5


def test_missing_rounds_between_files_are_a_torn_tail_if_they_were_not_synced(tmp_path: Path) -> None:
    path = files(tmp_path, {9: wal((4, 2)), 11: wal((6, 4)), 12: wal((7, 4))})
    verdict = judge(path)
    assert not verdict.is_damage
    assert verdict.last == 4
    assert verdict.cut == (path / "000011.log", 0)
    assert verdict.beyond == (path / "000012.log",)


def test_fault_ahead_of_the_first_batch_is_judged_by_the_one_behind_it(tmp_path: Path) -> None:
    for synced, is_damage in ((6, True), (5, True), (4, False)):
        broken = wal((5, 0), (6, synced))
        broken.content[20] ^= 1
        assert judge(files(tmp_path, {9: broken})).is_damage is is_damage


def test_log_whose_content_is_in_tables_does_not_count(tmp_path: Path) -> None:
    # It ended in a torn tail, and the numbers from 5 on were given again by the process that came after.
    torn = wal((4, 2), (5, 3))
    torn.content[-1] ^= 1
    path = files(tmp_path, {9: torn, 12: wal((5, 4), (6, 5), (7, 6))})
    assert judge(path, 9).is_damage
    verdict = judge(path, 10)
    assert (verdict.fault, verdict.last, verdict.synced) == (None, 7, 6)


def test_no_log_at_all_is_sound(tmp_path: Path) -> None:
    verdict = judge(tmp_path)
    assert (verdict.fault, verdict.last, verdict.synced, verdict.is_damage) == (None, None, 0, False)
