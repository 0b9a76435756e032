"""A program that follows its configuration: what there is at the start, then each change, none left out.

    quorate dev                                  # in another terminal
    python examples/configuration.py follow
    python examples/configuration.py set log_level debug     # in a third one

A watch begins with a listing and goes on from there without a gap, through lost connections and changes of
leaders. Should the program have been cut off for longer than the history is kept, it says so, and begins
anew.
"""

from __future__ import annotations

import argparse
import json
import os
from typing import Any

import trio

import quorate


async def follow(url: str, name: str) -> None:
    """Keeps a copy of the configuration, and says how it changes."""
    async with quorate.connect(url) as client:
        while True:
            settings: dict[Any, Any] = {}
            try:
                async with client.map(name, pinned=True).watch(initial=True, progress=True) as events:
                    async for event in events:
                        take(settings, event)
            except (quorate.Compacted, quorate.WatchOverflow) as error:
                print(f"beginning anew: {error}", flush=True)


def take(settings: dict[Any, Any], event: quorate.Event) -> None:
    """Applies one event to the copy."""
    if event.kind in ("listed", "put"):
        settings[event.key] = event.value
        print(f"{event.key} = {json.dumps(event.value)}", flush=True)
    elif event.kind in ("removed", "expired"):
        settings.pop(event.key, None)
        print(f"{event.key} is gone", flush=True)
    elif event.kind in ("cleared", "deleted"):
        settings.clear()
        print("all settings are gone", flush=True)


async def change(url: str, name: str, key: str, text: str) -> None:
    """Sets one key, for all who follow."""
    try:
        value = json.loads(text)
    except ValueError:
        value = text
    async with quorate.connect(url) as client:
        await client.map(name, pinned=True).put(key, value)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--url", default=os.environ.get("QUORATE_URL", "quorate://127.0.0.1:7400"))
    parser.add_argument("--map", default="configuration")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("follow")
    setting = commands.add_parser("set")
    setting.add_argument("key")
    setting.add_argument("value", help="JSON if it parses as such, else text")
    options = parser.parse_args()
    try:
        if options.command == "follow":
            trio.run(follow, options.url, options.map)
        else:
            trio.run(change, options.url, options.map, options.key, options.value)
    except KeyboardInterrupt:
        raise SystemExit(130) from None
