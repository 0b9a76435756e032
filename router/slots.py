"""Where a key lives: the hashes that take names, partitions and entry keys to slots.

All three are ``xxh3_64`` over the cluster's own salt and a routing key, so that nobody outside can choose
keys that meet in one slot of every cluster.
"""

from __future__ import annotations

import struct
import unicodedata
from functools import lru_cache
from typing import Final

from xxhash import xxh3_64_intdigest

from primitives.ids import SLOTS, PrimitiveId, SlotId

_PARTITION: Final = struct.Struct(">HQH")


def slot_of_name(salt: bytes, namespace: str, name: str) -> SlotId:
    """The slot that holds a name's catalog row, and the whole of a pinned primitive.

    The routing key is the namespace, a zero byte and the name, both in NFC UTF-8.
    """
    if not name.isascii():
        name = unicodedata.normalize("NFC", name)
    if not namespace.isascii():
        namespace = unicodedata.normalize("NFC", namespace)
    return SlotId(xxh3_64_intdigest(b"".join((salt, namespace.encode(), b"\0", name.encode()))) % SLOTS)


@lru_cache(4096)
def slot_of_partition(salt: bytes, primitive: PrimitiveId, partition: int) -> SlotId:
    """The slot of a spread primitive's partition; the routing key is its id and the number (12 bytes)."""
    return SlotId(xxh3_64_intdigest(salt + _PARTITION.pack(primitive[0], primitive[1], partition)) % SLOTS)


def partition_of_key(salt: bytes, key: bytes, partitions: int) -> int:
    """Which of a spread primitive's ``partitions`` (at least 1) holds the entry of an encoded key."""
    return xxh3_64_intdigest(salt + key) % partitions
