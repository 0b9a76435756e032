"""Bytes of answers that hold several rows, bounded in rows and bytes.

A *page* is one byte, 1 if rows follow it in the table, and then for each row the length of its key (2 bytes),
that of its content (4 bytes), key and content. A *series* answers for the first of the keys asked about, in
their order: for each the length of its content (4 bytes, ``0xFFFFFFFF`` if it is missing) and the content.
Both hold at least one row if there is one, however long; beyond that they end at their bound.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import Any, Final

from primitives.arguments import within
from primitives.limits import PAGE_ROWS_MAX

_ROW: Final = struct.Struct(">HI")
_LENGTH: Final = struct.Struct(">I")
_MISSING: Final = 0xFFFFFFFF
_MISSING_BYTES: Final = _LENGTH.pack(_MISSING)


def asks_page(args: list[Any]) -> bool:
    """Whether these ask for a page: behind what it is to begin (which is for the machine to judge), how many
    rows it may have, and whether their contents are wanted."""
    return len(args) == 3 and within(args[1], 1, PAGE_ROWS_MAX) and type(args[2]) is bool


def encode_page(rows: Iterable[tuple[bytes, bytes]], rows_max: int, bytes_max: int) -> bytes:
    """A page of the first ``rows``: at most ``rows_max`` of them (from 1) in at most ``bytes_max`` bytes. Of
    the rows it takes one more than it holds, if there is one."""
    parts = [b"\x00"]
    size = 0
    for count, (key, content) in enumerate(rows):
        size += _ROW.size + len(key) + len(content)
        if count and (count == rows_max or size > bytes_max):
            parts[0] = b"\x01"
            break
        parts += (_ROW.pack(len(key), len(content)), key, content)
    return b"".join(parts)


def decode_page(data: bytes) -> tuple[list[tuple[bytes, bytes]], bool]:
    """The rows of a page, and whether more follow; ValueError or struct.error for other bytes."""
    rows: list[tuple[bytes, bytes]] = []
    at = 1
    while at < len(data):
        key_bytes, content_bytes = _ROW.unpack_from(data, at)
        at += _ROW.size
        end = at + key_bytes + content_bytes
        if end > len(data):
            raise ValueError("a row runs beyond its page")
        rows.append((data[at : at + key_bytes], data[at + key_bytes : end]))
        at = end
    return rows, data[:1] == b"\x01"


def encode_series(contents: Iterator[bytes | None], bytes_max: int) -> bytes:
    """A series of the first ``contents``, at least one of them, else at most ``bytes_max`` bytes."""
    parts: list[bytes] = []
    size = 0
    for content in contents:
        size += _LENGTH.size + (0 if content is None else len(content))
        if parts and size > bytes_max:
            break
        parts.append(_MISSING_BYTES if content is None else _LENGTH.pack(len(content)) + content)
    return b"".join(parts)


def decode_series(data: bytes) -> list[bytes | None]:
    """The contents of a series; ValueError or struct.error for other bytes."""
    contents: list[bytes | None] = []
    at = 0
    while at < len(data):
        (size,) = _LENGTH.unpack_from(data, at)
        at += _LENGTH.size
        if size == _MISSING:
            contents.append(None)
            continue
        if at + size > len(data):
            raise ValueError("a content runs beyond its series")
        contents.append(data[at : at + size])
        at += size
    return contents
