"""A job that at most one machine runs at a time, and whose results a paused former holder cannot spoil.

    quorate dev                                  # in another terminal
    python examples/nightly_job.py & python examples/nightly_job.py

The lock alone is not enough: a process may be paused, lose the lock, wake up and write before it notices. So
every write carries the grant's fencing token, and what is written to refuses a token lower than the highest
that it has seen. Here that is a map's entry; it could be a database row or a file's name.
"""

from __future__ import annotations

import argparse
import os

import trio

import quorate


async def publish(results: quorate.Map, token: int, text: str) -> bool:
    """Writes the result unless a later holder has written; whether it did."""
    while True:
        entry = await results.entry("latest")
        if entry is None:
            if await results.put_if_absent("latest", {"token": token, "text": text}):
                return True
        elif entry.value["token"] > token:
            return False
        elif await results.replace("latest", {"token": token, "text": text}, revision=entry.revision):
            return True


async def main(url: str, seconds: float) -> None:
    async with quorate.connect(url) as client:
        results = client.map("nightly-results")
        try:
            async with client.lock("nightly") as grant:
                print(f"pid {os.getpid()} holds the lock, token {grant.token}", flush=True)
                await trio.sleep(seconds)  # the job itself
                done = await publish(results, grant.token, f"by pid {os.getpid()}")
                print(f"pid {os.getpid()} {'published' if done else 'came too late'}", flush=True)
        except quorate.SessionLost:
            raise SystemExit("lost the lock in the middle of the job; somebody else runs it now") from None


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--url", default=os.environ.get("QUORATE_URL", "quorate://127.0.0.1:7400"))
    parser.add_argument("--seconds", type=float, default=2.0)
    options = parser.parse_args()
    trio.run(main, options.url, options.seconds)
