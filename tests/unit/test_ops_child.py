"""The child of ``lock run``: its environment, signals, exit code, and its end when the lease is lost."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest
import trio

from ops.child import Child
from ops.exits import NO_COMMAND, NO_EXECUTION, Failure


async def start(source: str, **environment: str) -> Child:
    return await Child.start([sys.executable, "-c", source], environment)


async def written(path: Path) -> str:
    """What the child wrote to ``path``, once it is there."""
    with trio.fail_after(10):
        while True:
            if await trio.Path(path).exists() and (text := await trio.Path(path).read_text()):
                return text
            await trio.sleep(0.005)


def gone(pid: int) -> bool:
    """Whether the process ended; one that nobody waited for counts as ended."""
    try:
        return "Z" in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return True


async def test_the_exit_code_is_the_childs() -> None:
    assert await (await start("raise SystemExit(42)")).wait() == 42


async def test_a_child_killed_by_a_signal_gives_128_and_its_number() -> None:
    child = await start("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    assert await child.wait() == 128 + signal.SIGKILL


async def test_the_environment_is_added_to_ours() -> None:
    source = (
        "import os; "
        "raise SystemExit(os.environ['QUORATE_FENCING_TOKEN'] != '7' or 'PATH' not in os.environ)"
    )
    assert await (await start(source, QUORATE_FENCING_TOKEN="7")).wait() == 0


async def test_a_command_that_cannot_run_has_the_shells_codes(tmp_path: Path) -> None:
    with pytest.raises(Failure, match="no such command: ") as caught:
        await Child.start([str(tmp_path / "none")], {})
    assert caught.value.code == NO_COMMAND
    (tmp_path / "data").write_text("x")
    with pytest.raises(Failure, match="permission denied") as caught:
        await Child.start([str(tmp_path / "data")], {})
    assert caught.value.code == NO_EXECUTION


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
async def test_signals_are_forwarded(tmp_path: Path, number: signal.Signals) -> None:
    seen = tmp_path / "seen"
    child = await start(
        "import pathlib, signal, sys, time\n"
        f"signal.signal({int(number)}, lambda *_: sys.exit(33))\n"
        f"pathlib.Path({str(seen)!r}).write_text('x')\n"
        "while True: time.sleep(1)"
    )
    codes: list[int] = []

    async def wait() -> None:
        codes.append(await child.wait())

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await written(seen)
            os.kill(os.getpid(), number)
    assert codes == [33]


async def test_cancelling_ends_the_child_and_all_of_its_group_before_it_is_delivered(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    inner = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
    child = await start(
        "import os, pathlib, subprocess, sys, time\n"
        f"inner = subprocess.Popen([sys.executable, '-c', {inner!r}])\n"
        f"pathlib.Path({str(pids)!r}).write_text(f'{{os.getpid()}} {{inner.pid}}')\n"
        "time.sleep(60)"
    )
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:

            async def wait() -> None:
                await child.wait(grace_s=0.2)

            nursery.start_soon(wait)
            outer_pid, inner_pid = map(int, (await written(pids)).split())
            nursery.cancel_scope.cancel()
        assert gone(outer_pid)
        while not gone(inner_pid):  # noqa: ASYNC110  # its parent is gone, so nothing announces its end
            await trio.sleep(0.005)


async def test_what_a_child_leaves_running_is_stopped_when_it_ends(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    inner = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); time.sleep(60)"
    child = await start(
        "import pathlib, subprocess, sys\n"
        f"inner = subprocess.Popen([sys.executable, '-c', {inner!r}])\n"
        f"pathlib.Path({str(pids)!r}).write_text(str(inner.pid))\n"
        "sys.exit(3)"
    )
    with trio.fail_after(10):
        assert await child.wait(grace_s=5.0) == 3
        pid = int(await written(pids))
        while not gone(pid):  # noqa: ASYNC110  # its parent is gone, so nothing announces its end
            await trio.sleep(0.005)
