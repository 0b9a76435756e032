"""``quorate serve`` and ``quorate dev``: what runs nodes."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from ops import logs
from ops.arguments import Flag, Whole
from ops.config import GROUPS_DEFAULT, GROUPS_MAX, Leaders, Options, merge, read_file, settings
from ops.exits import Failure, UsageError

PORT: Final = 7400
DEV_NODES_MAX: Final = 9


async def serve(
    *, name: str | None = None, data: str | None = None, listen: str | None = None, peer: str | None = None,
    advertise: str | None = None, cluster: str | None = None, groups: Whole | None = None,
    replicas: Whole | None = None, leaders: Leaders | None = None, allow_plaintext: Flag | None = None,
    config: Path | None = None, log_level: logs.Level | None = None, until_eof: Flag = False,
) -> int:  # fmt: skip
    """Run one node of a cluster until interrupted.

    It prints "ready: HOST:PORT" once all groups have leaders and clients are served.

    Parameters
    ----------
    name
        This node's name in the cluster.
    data
        Directory of its store; made if need be. It belongs to this node for good.
    listen
        HOST:PORT for clients.
    peer
        HOST:PORT for other nodes; unless given, this node's in the cluster's list.
    advertise
        HOST:PORT where clients reach this node, if not at --listen.
    cluster
        Every founding node: n1=HOST:PEERPORT,n2=…; the same list for each. Unless given, this node alone.
    groups
        Data groups, 16 unless said. The founding nodes must agree.
    replicas
        Copies of each group: 3, or as many as nodes. The founding nodes must agree.
    leaders
        Spread, unless said: each node leads its share of the groups. Together: one node leads them all while
        it is up, which takes less processor time in all. The founding nodes must agree.
    allow_plaintext
        Permit addresses that other machines can reach, although traffic is not encrypted.
    config
        TOML file whose keys are the names of these options; what is given here wins.
    log_level
        What to log to standard error; info unless said.
    until_eof
        Also stop when standard input ends: so a node does not outlive what started it.
    """
    flags = Options(
        name=name, data=data, listen=listen, peer=peer, advertise=advertise, cluster=cluster, groups=groups,
        replicas=replicas, leaders=leaders, allow_plaintext=allow_plaintext, log_level=log_level,
    )  # fmt: skip
    try:
        chosen = settings(merge(flags, None if config is None else read_file(config)))
    except Failure as error:
        if config is None:
            raise UsageError(str(error)) from None
        raise
    logs.configure(chosen.log_level)
    from ops.serve import run  # loads the store, which no other command needs

    return await run(chosen, until_eof=until_eof)


async def dev(
    *, nodes: Whole = 3, port: Whole = PORT, data: Path | None = None, groups: Whole = GROUPS_DEFAULT,
    replicas: Whole | None = None, leaders: Leaders = "together", no_restart: Flag = False,
    log_level: logs.Level = "error",
) -> int:  # fmt: skip
    """Run a cluster on this machine until interrupted, each node a process of its own.

    It prints a line for each node with its name, pid and addresses, and "ready: quorate://…" once all groups
    have leaders and clients are served. A node that dies is reported and started again after two seconds.

    Parameters
    ----------
    nodes
        How many nodes.
    port
        Client port of the first one; the next ones follow, and peer ports are 100 higher.
    data
        Directory for the nodes' data, which stays; a temporary one, which does not, unless given.
    groups
        Data groups.
    replicas
        Copies of each group: 3, or as many as nodes.
    leaders
        Together: one node leads all groups, as nodes that share one machine's processors do more so. Spread:
        each leads its share.
    no_restart
        Leave a node that dies dead.
    log_level
        What the nodes log to standard error; a node that dies is reported anyway.
    """
    for flag, value, most in (("nodes", nodes, DEV_NODES_MAX), ("groups", groups, GROUPS_MAX)):
        if not 1 <= value <= most:
            raise UsageError(f"--{flag} {value}: expected a number from 1 to {most}")
    if replicas is not None and not 1 <= replicas <= nodes:
        raise UsageError(f"--replicas {replicas}: expected a number from 1 to {nodes}, the nodes")
    logs.configure(log_level)
    from ops.dev import DevOptions, run

    return await run(DevOptions(nodes, port, data, groups, replicas, leaders, not no_restart, log_level))
