"""What a client asks of a cluster on behalf of administrators."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from primitives.catalog import decode_found
from primitives.codec import check_name, check_namespace, decode_value
from primitives.errors import Code, QuorateError, Unavailable
from primitives.ids import PrimitiveId
from primitives.registry import names
from router.client_driver import ClientDriver
from router.session_calls import Call
from router.slots import slot_of_name, slot_of_partition

_EVERYWHERE: Final = {"groups": "group", "session": "session", "session-end": "session-end"}
"""Operations that are asked of each group, and what they are called there."""


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
        """What each group's leader says, or the error; all are asked at once."""
        driver, core = self._driver, self._driver.core
        await driver.outcome(core.catalogs.map(driver.clock()))
        shard_map = core.shard_map
        if shard_map is None:
            raise Unavailable("no node was reached yet")
        calls: list[tuple[int, Call]] = []
        told: list[tuple[int, Any]] = []
        try:
            for group in sorted(shard_map.groups):
                calls.append((group, core.questions.admin(operation, [group, *arguments])))
            for at, call in calls:
                try:
                    answer = await driver.outcome(call)
                except QuorateError as error:
                    told.append((at, error))
                else:
                    told.append((at, None if answer is None else decode_value(answer.result)))
        finally:
            for _, call in calls:
                core.cancel(driver.clock(), call)
        return told

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
