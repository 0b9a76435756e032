"""A child process that runs while something is held, and is stopped when that is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Final

import trio
from trio import TaskStatus

from ops.exits import NO_COMMAND, NO_EXECUTION, Failure

GRACE_S: Final = 5.0
"""From TERM to KILL."""
_LOOK_S: Final = 0.02
"""How often to look whether the rest of a group has ended; nothing announces it."""
_FORWARDED: Final = (
    signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2,
)  # fmt: skip
_FROM_TERMINAL: Final = (signal.SIGINT, signal.SIGQUIT)
"""What a terminal sends to every process of its foreground group by itself."""


class Child:
    """One run of a command. Signals that reach this process go on to it.

    Without a terminal it leads a session and process group of its own, and all of that group is signalled,
    so that a shell's own children end too; what it leaves running there is stopped when it ends. At a
    terminal it shares this process's group: the terminal's own signals reach it directly, and what is
    forwarded or stops it goes to it alone.
    """

    def __init__(self, process: trio.Process, *, leads_group: bool) -> None:
        self._process: Final = process
        self._leads_group: Final = leads_group

    @classmethod
    async def start(cls, command: Sequence[str], environment: Mapping[str, str]) -> Child:
        """Starts ``command`` with ``environment`` on top of this process's. Raises Failure with the codes of
        the shell if there is no such program (127) or it cannot be executed (126)."""
        leads_group = not sys.stdin.isatty()
        try:
            process = await trio.lowlevel.open_process(
                command, env={**os.environ, **environment}, start_new_session=leads_group
            )
        except FileNotFoundError:
            raise Failure(f"no such command: {command[0]}", NO_COMMAND) from None
        except (OSError, subprocess.SubprocessError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise Failure(f"cannot run {command[0]}: {reason.lower()}", NO_EXECUTION) from None
        return cls(process, leads_group=leads_group)

    async def wait(self, *, grace_s: float = GRACE_S) -> int:
        """The child's exit code once it ends; 128 and the signal's number if one killed it.

        What is left of the group that it led then gets TERM, ``grace_s``, then KILL, and has ended before
        this returns. When cancelled, that holds for the child as well, and the cancellation is delivered
        afterwards.
        """
        try:
            async with trio.open_nursery() as nursery:
                await nursery.start(self._forward_signals)
                code = await self._process.wait()
                nursery.cancel_scope.cancel()
        finally:
            await self._stop(grace_s)
        return code if code >= 0 else 128 - code

    async def _forward_signals(self, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        with trio.open_signal_receiver(*_FORWARDED) as signals:
            task_status.started()
            async for number in signals:
                if self._leads_group or number not in _FROM_TERMINAL:
                    self._send(number)

    def _send(self, number: int) -> None:
        try:
            if self._leads_group:
                os.killpg(self._process.pid, number)
            else:
                self._process.send_signal(signal.Signals(number))
        except ProcessLookupError:
            return  # It ended between our look and the signal: what was wanted is so.

    def _alive(self) -> bool:
        """Whether the child, or anything of the group that it leads, still runs. What has ended and was not
        waited for by a parent of its own counts as running."""
        if self._process.poll() is None:
            return True
        try:
            if self._leads_group:
                os.killpg(self._process.pid, 0)
        except (ProcessLookupError, PermissionError):
            return False
        return self._leads_group

    async def _until_alone(self) -> None:
        """Waits for the rest of the group that the ended child led."""
        while True:
            if not self._alive():
                return
            await trio.sleep(_LOOK_S)

    async def _stop(self, grace_s: float) -> None:
        with trio.CancelScope(shield=True):
            if not self._alive():
                return
            self._send(signal.SIGTERM)
            with trio.move_on_after(grace_s):
                await self._process.wait()
                await self._until_alone()
            if self._alive():
                self._send(signal.SIGKILL)
            await self._process.wait()
