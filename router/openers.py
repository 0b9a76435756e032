"""Openers: a client's handles, by type and name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from primitives.handle import LINEARIZABLE, ClientPort, Handle, ReadLevel
from primitives.registry import handle as handle_class

if TYPE_CHECKING:
    from primitives.counter import Counter
    from primitives.election import Election
    from primitives.list import List
    from primitives.lock import Lock
    from primitives.map import Map
    from primitives.queue import Queue
    from primitives.set import Set
    from primitives.value import Value


class Openers:
    """What a client opens primitives with. Openers do no input or output: the first write creates the
    primitive. ``namespace`` is the client's unless given."""

    def __init__(self, namespace: str, port: ClientPort | None = None) -> None:
        """``port`` is what handles use, if it is not the client itself."""
        self._namespace: Final = namespace
        self._port: Final = port

    @property
    def namespace(self) -> str:
        """The namespace of names that are given without one."""
        return self._namespace

    def open(self, type_name: str, name: str, *, namespace: str | None = None, **options: Any) -> Handle:
        """A handle of any registered type, by the type's name. Raises ValueError for an unknown type."""
        try:
            made: Any = handle_class(type_name)
        except KeyError:
            raise ValueError(f"there is no primitive of type {type_name!r}") from None
        space = self._namespace if namespace is None else namespace
        return cast(Handle, made(self._port or self, space, name, **options))

    def map(
        self, name: str, *, namespace: str | None = None, partitions: int | None = None,
        pinned: bool = False, read: ReadLevel = LINEARIZABLE,
    ) -> Map:  # fmt: skip
        """The map called ``name``; see :class:`~primitives.map.Map`."""
        return cast("Map", self.open(
            "map", name, namespace=namespace, partitions=partitions, pinned=pinned, read=read
        ))  # fmt: skip

    def counter(self, name: str, *, namespace: str | None = None, read: ReadLevel = LINEARIZABLE) -> Counter:
        """The counter called ``name``; see :class:`~primitives.counter.Counter`."""
        return cast("Counter", self.open("counter", name, namespace=namespace, read=read))

    def lock(self, name: str, *, namespace: str | None = None, read: ReadLevel = LINEARIZABLE) -> Lock:
        """The lock called ``name``; see :class:`~primitives.lock.Lock`."""
        return cast("Lock", self.open("lock", name, namespace=namespace, read=read))

    def value(self, name: str, *, namespace: str | None = None, read: ReadLevel = LINEARIZABLE) -> Value:
        """The value called ``name``; see :class:`~primitives.value.Value`."""
        return cast("Value", self.open("value", name, namespace=namespace, read=read))

    def set(
        self, name: str, *, namespace: str | None = None, partitions: int | None = None,
        pinned: bool = False, read: ReadLevel = LINEARIZABLE,
    ) -> Set:  # fmt: skip
        """The set called ``name``; see :class:`~primitives.set.Set`."""
        return cast("Set", self.open(
            "set", name, namespace=namespace, partitions=partitions, pinned=pinned, read=read
        ))  # fmt: skip

    def queue(
        self, name: str, *, namespace: str | None = None, capacity: int | None = None,
        read: ReadLevel = LINEARIZABLE,
    ) -> Queue:  # fmt: skip
        """The queue called ``name``; see :class:`~primitives.queue.Queue`."""
        return cast("Queue", self.open("queue", name, namespace=namespace, capacity=capacity, read=read))

    def election(
        self, name: str, *, namespace: str | None = None, read: ReadLevel = LINEARIZABLE
    ) -> Election:
        """The election called ``name``; see :class:`~primitives.election.Election`."""
        return cast("Election", self.open("election", name, namespace=namespace, read=read))

    def list(self, name: str, *, namespace: str | None = None, read: ReadLevel = LINEARIZABLE) -> List:
        """The list called ``name``; see :class:`~primitives.list.List`."""
        return cast("List", self.open("list", name, namespace=namespace, read=read))
