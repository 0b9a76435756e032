"""One leader among three processes, each of which is a member of the cluster itself: nothing else has to run.

    python examples/leader_election.py DIR 127.0.0.1:4321 127.0.0.1:4322 127.0.0.1:4323
    python examples/leader_election.py DIR 127.0.0.1:4322 127.0.0.1:4321 127.0.0.1:4323
    python examples/leader_election.py DIR 127.0.0.1:4323 127.0.0.1:4321 127.0.0.1:4322

Run one of these in each of three terminals: first comes the process's own address, then the others'. One of
them prints `Elected leader!`. Kill it, with -9 if you like, and within a few seconds another one does. Start
it again, and it takes its place in the line. Data is kept under DIR; clients of other processes are served
at ports 1000 above those given.

The same as a client of a cluster that runs already, such as that of `quorate dev`:

    python examples/leader_election.py --url quorate://127.0.0.1:7400
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import trio

import quorate

SESSION_S = 1.0
"""How long a leader may be out of reach before the next one is elected."""
CLIENT_PORTS = 1000


async def stand(client: quorate.Client, who: str) -> None:
    """Campaigns for good, and leads whenever elected."""
    election = client.election("example")
    while True:
        try:
            async with election.campaign(who) as term:
                print(f"{who}: term {term.term}", flush=True)
                print("Elected leader!", flush=True)
                await trio.sleep_forever()  # what only the leader does: cancelled when the lease is lost
        except (quorate.SessionLost, quorate.Deposed) as error:
            print(f"{who}: no longer the leader: {error}", flush=True)


async def as_member(directory: Path, own: str, others: list[str]) -> None:
    """Stands as a member of the cluster."""
    host, _, port = own.rpartition(":")
    if not port.isdigit():
        raise ValueError(f"an address is HOST:PORT, not {own!r}")
    config = quorate.ReplicaConfig(
        name=node_name(own), data=directory / node_name(own), listen=f"{host}:{int(port) + CLIENT_PORTS}",
        cluster={node_name(address): address for address in (own, *others)}, groups=1,
    )  # fmt: skip
    async with quorate.Replica(config) as replica, replica.client(session_timeout=SESSION_S) as client:
        await replica.ready()
        print(f"{own}: the cluster serves", flush=True)
        await stand(client, own)


def node_name(address: str) -> str:
    """A name that all members give to the one at ``address``."""
    return "n-" + "".join(character if character.isalnum() else "-" for character in address)


async def as_client(url: str) -> None:
    """Stands as a client."""
    async with quorate.connect(url, session_timeout=SESSION_S) as client:
        await stand(client, f"pid {os.getpid()}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("directory", nargs="?", type=Path)
    parser.add_argument("address", nargs="*", metavar="HOST:PORT", help="its own first, then the others'")
    parser.add_argument("--url", help="stand as a client of this cluster instead")
    options = parser.parse_args()
    code = 0
    try:
        if options.url is not None:
            trio.run(as_client, options.url)
        elif options.directory is not None and options.address:
            trio.run(as_member, options.directory, options.address[0], options.address[1:])
        else:
            parser.error("give DIR, the own HOST:PORT and the others', or --url")
    except* KeyboardInterrupt:
        code = 130
    except* (quorate.QuorateError, ValueError) as errors:
        print(*errors.exceptions, sep="\n", file=sys.stderr)
        code = 1
    raise SystemExit(code)
