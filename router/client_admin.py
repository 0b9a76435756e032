"""What a client asks of a cluster on behalf of administrators."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any, Final

import trio

from primitives.catalog import decode_found
from primitives.codec import check_name, check_namespace, decode_value
from primitives.errors import Code, Overloaded, QuorateError, Unavailable
from primitives.ids import GroupId, PrimitiveId
from primitives.registry import names
from router.client_driver import ClientDriver
from router.session_calls import Call
from router.slots import slot_of_name, slot_of_partition

_EVERYWHERE: Final = {"groups": "group", "session": "session", "session-end": "session-end"}
"""Operations that are asked of each group, and what they are called there."""
ASKED_AT_ONCE: Final = 50
"""Groups that are asked at the same time."""
PAUSE_S: Final = 0.1
"""How long to wait for a node that takes no more; it does again with its next tick."""


class Administrator:
    """Requests of one client."""

    __slots__ = ("_driver",)

    def __init__(self, driver: ClientDriver) -> None:
        self._driver: Final = driver

    async def ask(self, namespace: str, operation: str, arguments: Sequence[Any]) -> Any:
        """Does an operation; see ``Client.admin``."""
        if operation == "primitive-info":
            return await self._primitive(namespace, *arguments)
        if operation not in _EVERYWHERE:
            answer = await self._driver.outcome(self._driver.core.questions.admin(operation, list(arguments)))
            return None if answer is None else decode_value(answer.result)
        if operation.startswith("session"):
            arguments = [bytes.fromhex(one) if isinstance(one, str) else one for one in arguments]
        told = await self._of_each_group(_EVERYWHERE[operation], list(arguments))
        if operation == "groups":
            return [
                {"group": group, "error": str(value)} if isinstance(value, QuorateError) else value
                for group, value in told
            ]
        for _, value in told:
            if isinstance(value, QuorateError):
                raise value
        if operation == "session":
            return [one for _, found in told for one in found]
        return [group for group, ended in told if ended]

    async def _of_each_group(self, operation: str, arguments: list[Any]) -> list[tuple[int, Any]]:
        """What each group's leader says, or the error, in the order of the groups. Some are asked at a time,
        and a group whose node takes no more requests for now is asked again until the caller's time limit:
        nodes bound what they take at once, and have more groups than that."""
        driver, core = self._driver, self._driver.core
        await driver.outcome(core.catalogs.map(driver.clock()))
        shard_map = core.shard_map
        if shard_map is None:
            raise Unavailable("no node was reached yet")
        waiting: deque[GroupId] = deque(sorted(shard_map.groups))
        asked: deque[tuple[GroupId, Call]] = deque()
        told: dict[int, Any] = {}
        try:
            while waiting or asked:
                while waiting and len(asked) < ASKED_AT_ONCE:
                    group = waiting.popleft()
                    asked.append((group, core.questions.admin(operation, [group, *arguments])))
                group, call = asked[0]
                try:
                    answer = await driver.outcome(call)
                except Overloaded:
                    waiting.append(group)
                    await trio.sleep(PAUSE_S)
                except QuorateError as error:
                    told[group] = error
                else:
                    told[group] = None if answer is None else decode_value(answer.result)
                asked.popleft()
        finally:
            for _, call in asked:
                core.cancel(driver.clock(), call)
        return sorted(told.items())

    async def _primitive(self, namespace: str, name: str) -> dict[str, Any] | None:
        """What a name means, and where its partitions are."""
        driver, core = self._driver, self._driver.core
        space, called = check_namespace(namespace), check_name(name)
        answer = await driver.outcome(core.catalogs.lookup(driver.clock(), space, called))
        shard_map = core.shard_map
        if answer is None or answer.code != Code.OK or shard_map is None:
            return None
        found = decode_found(answer.result)
        slot = slot_of_name(shard_map.salt, space, called)
        primitive = PrimitiveId(slot, found.revision)
        slots = [slot_of_partition(shard_map.salt, primitive, at) for at in range(found.partitions)] or [slot]
        return {
            "name": called, "namespace": space, "type": names().get(found.type, f"type {found.type}"),
            "id": [slot, found.revision], "created": found.revision, "pinned": not found.partitions,
            "config": found.config, "deleting": found.deleting,
            "partitions": [
                {"partition": at, "slot": place, "group": shard_map.group(place)}
                for at, place in enumerate(slots)
            ],
        }  # fmt: skip
