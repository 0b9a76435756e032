"""A sequence in rows: a tree of blocks that finds, inserts and removes by index in a few rows, however long.

It is a B+ tree ordered by place alone. A leaf holds up to ``BLOCK_MAX`` items of ``ITEM_BYTES``; an inner
block holds up to as many children, each with how many items are below it. Blocks have at least a quarter of
that, but for those at the right edge, which appending fills one after the other. So a million items are four
levels deep, and a change of one writes about one block of each.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from primitives.errors import InvariantViolation
from primitives.machine import Table, TableView
from primitives.records import U64

ITEM_BYTES: Final = 10
BLOCK_MAX: Final = 64
BLOCK_MIN: Final = BLOCK_MAX // 4

_LEAF: Final = b"\x00"
_INNER: Final = b"\x01"
_CHILD: Final = struct.Struct(">QQ")


class Shape(NamedTuple):
    """What must be kept of a sequence besides its blocks. Empty at first."""

    root: int = 0
    """Number of the root block; 0: there is none."""
    made: int = 0
    """Blocks made so far; numbers are not used again."""
    size: int = 0
    """Items."""


class _Block:
    """A block in memory, either of ``items`` or of ``children``."""

    __slots__ = ("children", "items", "leaf")

    def __init__(self, items: list[bytes], children: list[tuple[int, int]], *, leaf: bool) -> None:
        self.items: Final = items
        self.children: Final = children
        """Number, and how many items are below."""
        self.leaf: Final = leaf

    @property
    def width(self) -> int:
        """How many items or children it has."""
        return len(self.items) if self.leaf else len(self.children)

    @property
    def size(self) -> int:
        """How many items it has or are below."""
        return len(self.items) if self.leaf else sum([count for _, count in self.children])

    def cut(self, at: int) -> _Block:
        """Takes away everything from ``at`` on, as a block of its own."""
        other = _Block(self.items[at:], self.children[at:], leaf=self.leaf)
        del self.items[at:], self.children[at:]
        return other

    def join(self, other: _Block) -> None:
        """Appends what another block has."""
        self.items.extend(other.items)
        self.children.extend(other.children)


def items_of(row: bytes) -> list[bytes]:
    """The items of a block's row, none if it is no leaf."""
    if row[:1] != _LEAF:
        return []
    return [row[at : at + ITEM_BYTES] for at in range(1, len(row), ITEM_BYTES)]


def _encode(block: _Block) -> bytes:
    if block.leaf:
        return _LEAF + b"".join(block.items)
    return _INNER + b"".join([_CHILD.pack(*child) for child in block.children])


def _decode(row: bytes) -> _Block:
    if row[:1] == _LEAF:
        return _Block(items_of(row), [], leaf=True)
    return _Block([], list(_CHILD.iter_unpack(row[1:])), leaf=False)


class Sequence:
    """A sequence whose blocks are rows of a table under ``prefix``. Changes are in memory until
    :meth:`save`; then :attr:`shape` is to be kept, too. Indexes must be in range."""

    __slots__ = ("_blocks", "_changed", "_made", "_prefix", "_root", "_size", "_view")

    def __init__(self, view: TableView, prefix: bytes, shape: Shape) -> None:
        self._view: Final = view
        self._prefix: Final = prefix
        self._root, self._made, self._size = shape
        self._blocks: Final[dict[int, _Block]] = {}
        self._changed: Final[dict[int, bool]] = {}
        """By number: whether the block is still there."""

    @property
    def shape(self) -> Shape:
        """What is to be kept."""
        return Shape(self._root, self._made, self._size)

    def get(self, index: int) -> bytes:
        """The item at ``index``, 0 to size - 1."""
        return next(self.walk(index))

    def walk(self, index: int) -> Iterator[bytes]:
        """The items from ``index`` on, 0 to size. The sequence must not change meanwhile."""
        if index >= self._size:
            return
        path = self._path(index, inserting=False)
        while path:
            number, at = path.pop()
            block = self._block(number)
            if block.leaf:
                yield from block.items[at:]
            elif at + 1 < len(block.children):
                path.append((number, at + 1))
                number = block.children[at + 1][0]
                while not (block := self._block(number)).leaf:
                    path.append((number, 0))
                    number = block.children[0][0]
                path.append((number, 0))

    def insert(self, index: int, item: bytes) -> None:
        """Puts ``item`` before the item at ``index``, 0 to size."""
        if not self._root:
            self._root = self._make(_Block([], [], leaf=True))
        appended = index == self._size
        path = self._path(index, inserting=True)
        self._size += 1
        number, at = path.pop()
        self._block(number).items.insert(at, item)
        new = self._split(number, appended=appended)
        while path:
            parent, at = path.pop()
            children = self._block(parent).children
            children[at] = (number, children[at][1] + 1)
            if new:
                grown = self._block(new).size
                children[at] = (number, children[at][1] - grown)
                children.insert(at + 1, (new, grown))
            number = parent
            new = self._split(number, appended=appended)
        if new:
            halves = [(half, self._block(half).size) for half in (number, new)]
            self._root = self._make(_Block([], halves, leaf=False))

    def replace(self, index: int, item: bytes) -> bytes:
        """Sets the item at ``index``, 0 to size - 1; returns the one before."""
        number, at = self._path(index, inserting=False)[-1]
        items = self._block(number).items
        before, items[at] = items[at], item
        self._changed[number] = True
        return before

    def remove(self, index: int) -> bytes:
        """Takes out the item at ``index``, 0 to size - 1, and returns it."""
        path = self._path(index, inserting=False)
        self._size -= 1
        number, at = path.pop()
        item = self._block(number).items.pop(at)
        self._changed[number] = True
        while path:
            parent, at = path.pop()
            children = self._block(parent).children
            children[at] = (number, children[at][1] - 1)
            self._changed[parent] = True
            if self._block(number).width < BLOCK_MIN and len(children) > 1:
                self._even_out(children, max(at - 1, 0))
            number = parent
        root = self._block(self._root)
        while not root.leaf and len(root.children) == 1:
            self._changed[self._root] = False
            self._root = root.children[0][0]
            root = self._block(self._root)
        return item

    def save(self, table: Table) -> None:
        """Writes the blocks that changed."""
        for number, is_there in self._changed.items():
            key = self._prefix + U64.pack(number)
            if is_there:
                table.put(key, _encode(self._blocks[number]))
            else:
                table.delete(key)
        self._changed.clear()

    def _even_out(self, children: list[tuple[int, int]], at: int) -> None:
        """Joins the children at ``at`` and behind it, or shares what they have."""
        (left, _), (right, _) = children[at : at + 2]
        block = self._block(left)
        block.join(self._block(right))
        self._changed[left] = True
        if block.width <= BLOCK_MAX:
            self._changed[right] = False
            children[at : at + 2] = [(left, block.size)]
            return
        self._blocks[right] = other = block.cut(block.width // 2)
        self._changed[right] = True
        children[at : at + 2] = [(left, block.size), (right, other.size)]

    def _split(self, number: int, *, appended: bool) -> int:
        """Notes that a block changed; splits it if it is too wide: the number of the new one behind it, or
        0. What was appended to the whole sequence leaves the left one full."""
        self._changed[number] = True
        block = self._block(number)
        if block.width <= BLOCK_MAX:
            return 0
        return self._make(block.cut(BLOCK_MAX if appended else block.width // 2))

    def _path(self, index: int, *, inserting: bool) -> list[tuple[int, int]]:
        """Numbers of the blocks from the root to the leaf, each with the place of its child or item."""
        path: list[tuple[int, int]] = []
        number = self._root
        while not (block := self._block(number)).leaf:
            at = 0
            last = len(block.children) - 1
            while at < last and index >= block.children[at][1] + inserting:
                index -= block.children[at][1]
                at += 1
            path.append((number, at))
            number = block.children[at][0]
        path.append((number, index))
        return path

    def _make(self, block: _Block) -> int:
        self._made += 1
        self._blocks[self._made] = block
        self._changed[self._made] = True
        return self._made

    def _block(self, number: int) -> _Block:
        block = self._blocks.get(number)
        if block is None:
            row = self._view.get(self._prefix + U64.pack(number))
            if row is None:
                raise InvariantViolation(f"a sequence lacks its block {number}")
            block = self._blocks[number] = _decode(row)
        return block
