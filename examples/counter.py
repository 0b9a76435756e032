"""Many tasks count together: every increment takes effect exactly once, whatever is retried.

    quorate dev                                  # in another terminal
    python examples/counter.py --tasks 64 --times 200

The counter grows by exactly tasks x times, even if nodes are killed meanwhile.
"""

from __future__ import annotations

import argparse
import os

import trio

import quorate


async def main(url: str, name: str, tasks: int, times: int) -> None:
    async with quorate.connect(url) as client:
        counter = client.counter(name)
        before = await counter.get()

        async def count() -> None:
            for _ in range(times):
                await counter.increment()

        async with trio.open_nursery() as nursery:
            for _ in range(tasks):
                nursery.start_soon(count)
        after = await counter.get()
    print(f"{name}: {before} + {tasks} x {times} = {after}")
    if after - before != tasks * times:
        raise SystemExit("somebody else counted, too")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--url", default=os.environ.get("QUORATE_URL", "quorate://127.0.0.1:7400"))
    parser.add_argument("--name", default="visits")
    parser.add_argument("--tasks", type=int, default=16)
    parser.add_argument("--times", type=int, default=100)
    options = parser.parse_args()
    trio.run(main, options.url, options.name, options.tasks, options.times)
