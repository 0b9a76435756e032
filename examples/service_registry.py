"""A registry of the instances of a service: who is there, and who has just come or gone.

    quorate dev                                           # in another terminal
    python examples/service_registry.py watch
    python examples/service_registry.py serve 10.0.0.1:80     # in a third one, and in a fourth

An instance's entry is bound to its session, so it goes when the instance ends, and also, after the session's
timeout, when it is killed or cut off. Whoever watches hears of each change once, in order.
"""

from __future__ import annotations

import argparse
import os

import trio

import quorate

SESSION_S = 2.0


def instances(client: quorate.Client, service: str) -> quorate.Map:
    """The registry's map of a service: address to what is known of the instance there."""
    return client.map(f"instances of {service}", pinned=True)


async def serve(url: str, service: str, address: str) -> None:
    """Is registered for as long as it runs."""
    async with quorate.connect(url, session_timeout=SESSION_S) as client:
        registry = instances(client, service)
        registered = False
        async for state in client.session.states():
            if state == "lost":
                registered = False  # The entry has gone with what the session held.
            elif not registered:
                await registry.put(address, {"pid": os.getpid()}, session=True)
                registered = True
                print(f"{address} is registered", flush=True)


async def watch(url: str, service: str) -> None:
    """Keeps the list of those who are there, and says who comes and goes."""
    async with quorate.connect(url) as client:
        present: set[str] = set()
        async with instances(client, service).watch(initial=True) as events:
            async for event in events:
                if event.kind in ("listed", "put"):
                    if event.key not in present:
                        print(f"{event.key} is there (pid {event.value['pid']})", flush=True)
                    present.add(event.key)
                elif event.kind in ("removed", "expired"):
                    present.discard(event.key)
                    print(f"{event.key} is gone; left: {', '.join(sorted(present)) or 'nobody'}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--url", default=os.environ.get("QUORATE_URL", "quorate://127.0.0.1:7400"))
    parser.add_argument("--service", default="web")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("watch")
    serving = commands.add_parser("serve")
    serving.add_argument("address", help="what others connect to")
    options = parser.parse_args()
    try:
        if options.command == "watch":
            trio.run(watch, options.url, options.service)
        else:
            trio.run(serve, options.url, options.service, options.address)
    except KeyboardInterrupt:
        raise SystemExit(130) from None
