"""Puts every line of a word list into a map through one client with many tasks, and reads it back.

    apt-get install wamerican                    # Debian's list: /usr/share/dict/american-english
    quorate dev                                  # in another terminal
    python examples/load_words.py --verify

Any text file does: each distinct line becomes a key, and its number in the file the value. Kill nodes
meanwhile as you like, as long as a majority comes back: every line that was counted is there.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import trio
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

import quorate

WORDS = "/usr/share/dict/american-english"
KEY_BYTES_MAX = 1024


def lines(path: Path) -> dict[str, int]:
    """Each distinct line that can be a key, with its number."""
    found: dict[str, int] = {}
    with path.open(encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, start=1):
            word = line.rstrip("\n")
            if word and len(word.encode()) <= KEY_BYTES_MAX:
                found.setdefault(word, number)
    return found


async def each(
    what: str, words: dict[str, int], tasks: int, do: Callable[[str, int], Awaitable[None]]
) -> None:
    """Calls ``do`` for every word, by ``tasks`` tasks, and shows progress and rate."""
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"), TimeElapsedColumn(),
    )  # fmt: skip
    console = Console(stderr=True)
    started = trio.current_time()
    done = 0

    async def work(shared: Iterator[tuple[str, int]]) -> None:
        nonlocal done
        for word, number in shared:
            await do(word, number)
            done += 1

    async def watch(progress: Progress) -> None:
        bar = progress.add_task(what, total=len(words), rate="")
        while True:
            rate = done / max(trio.current_time() - started, 0.001)
            progress.update(bar, completed=done, rate=f"{rate:,.0f}/s")
            await trio.sleep(0.2)

    with Progress(*columns, console=console, transient=True) as progress:
        async with trio.open_nursery() as display:
            display.start_soon(watch, progress)
            shared = iter(words.items())
            async with trio.open_nursery() as nursery:
                for _ in range(tasks):
                    nursery.start_soon(work, shared)
            display.cancel_scope.cancel()
    seconds = trio.current_time() - started
    print(f"{what}: {done} in {seconds:.1f} s, {done / max(seconds, 0.001):,.0f} a second", flush=True)


async def main(url: str, name: str, path: Path, tasks: int, load: bool, verify: bool) -> None:
    words = lines(path)
    wrong: list[str] = []
    async with quorate.connect(url) as client:
        entries = client.map(name)

        async def put(word: str, number: int) -> None:
            await entries.put(word, number)

        async def compare(word: str, number: int) -> None:
            if await entries.get(word) != number:
                wrong.append(word)

        if load:
            await each("put", words, tasks, put)
        if verify:
            await each("compared", words, tasks, compare)
            size = await entries.size()
            print(f"{len(words) - len(wrong)} of {len(words)} entries are right; the map has {size}")
    if wrong:
        raise SystemExit(f"{len(wrong)} entries are missing or wrong, such as {wrong[:5]}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("file", nargs="?", type=Path, default=Path(WORDS))
    parser.add_argument("--url", default=os.environ.get("QUORATE_URL", "quorate://127.0.0.1:7400"))
    parser.add_argument("--map", default="words")
    parser.add_argument("--tasks", type=int, default=256)
    parser.add_argument("--verify", action="store_true", help="read every entry back and compare")
    parser.add_argument("--only-verify", action="store_true", help="do not put, only read back and compare")
    options = parser.parse_args()
    if not options.file.is_file():
        raise SystemExit(f"{options.file} is not there: apt-get install wamerican, or give another file")
    verify = options.verify or options.only_verify
    trio.run(
        main, options.url, options.map, options.file, options.tasks, not options.only_verify, verify
    )
