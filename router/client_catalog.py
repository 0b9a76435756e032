"""What a client does with names: deleting primitives, finding out what exists."""

from __future__ import annotations

import unicodedata
from collections.abc import AsyncIterator
from typing import Final, NamedTuple

from primitives.catalog import Listed, decode_listed
from primitives.codec import check_name, check_namespace
from primitives.errors import Code, Unavailable
from primitives.handle import Reference
from primitives.ids import GroupId
from primitives.registry import names
from router.client_driver import ClientDriver
from router.session_calls import Call


class Listing(NamedTuple):
    """A primitive, as :meth:`Client.primitives` tells it."""

    name: str
    type: str
    """As the opener on the client is called."""
    created: int
    """The revision of its creation."""
    partitions: int
    """0 if it is pinned."""


class _Pages:
    """Names of one group that were fetched, and where to go on."""

    __slots__ = ("after", "found", "group")

    def __init__(self, group: GroupId) -> None:
        self.group: Final = group
        self.found: list[Listed] = []
        """In reversed order, so that the next is the last."""
        self.after = ""


class Catalog:
    """Names, as one client asks for them."""

    __slots__ = ("_driver",)

    def __init__(self, driver: ClientDriver) -> None:
        self._driver: Final = driver

    async def delete(self, ref: Reference) -> bool:
        """Deletes a primitive; see ``ClientPort``."""
        driver = self._driver
        answer = await driver.outcome(driver.core.catalogs.delete(driver.clock(), ref))
        driver.core.catalogs.forget(ref)
        return answer is not None and answer.code == Code.OK

    async def exists(self, namespace: str, name: str) -> bool:
        """Whether any primitive has that name."""
        space, called = check_namespace(namespace), check_name(name)
        driver = self._driver
        answer = await driver.outcome(driver.core.catalogs.lookup(driver.clock(), space, called))
        return answer is not None and answer.code == Code.OK

    async def names(self, namespace: str, prefix: str, type: str | None) -> AsyncIterator[Listing]:
        """Names in their order, a page of each group at a time."""
        kinds = names()
        numbers = {name: number for number, name in kinds.items()}
        if type is not None and type not in numbers:
            raise ValueError(f"there is no primitive of type {type!r}")
        space, wanted = check_namespace(namespace), unicodedata.normalize("NFC", prefix)
        number = 0 if type is None else numbers[type]
        driver = self._driver
        await driver.outcome(driver.core.catalogs.map(driver.clock()))
        shard_map = driver.core.shard_map
        if shard_map is None:
            raise Unavailable("no node was reached yet")
        every = [_Pages(group) for group in sorted({GroupId(group) for group in shard_map.owners})]
        await self._fetch(every, space, wanted, number)
        while any(pages.found for pages in every):
            first = min((pages for pages in every if pages.found), key=_next_name)
            one = first.found.pop()
            if not first.found and first.after:
                await self._fetch([first], space, wanted, number)
            kind = kinds.get(one.type, f"type {one.type}")
            yield Listing(one.name, kind, one.revision, one.partitions)

    async def _fetch(self, every: list[_Pages], space: str, prefix: str, type: int) -> None:
        """Gets the next pages of groups, asking all of them at once; of a group whose page had none of the
        type, the one behind it."""
        driver, core = self._driver, self._driver.core
        while every:
            calls: list[tuple[_Pages, Call]] = []
            try:
                for pages in every:
                    call = core.catalogs.names(
                        driver.clock(), pages.group, space, prefix, pages.after, type
                    )
                    calls.append((pages, call))
                for pages, call in calls:
                    answer = await driver.outcome(call)
                    if answer is not None:
                        found, pages.after = decode_listed(answer.result)
                        pages.found = found[::-1]
            finally:
                for _, call in calls:
                    core.cancel(driver.clock(), call)
            every = [pages for pages in every if not pages.found and pages.after]


def _next_name(pages: _Pages) -> bytes:
    return pages.found[-1].name.encode()
