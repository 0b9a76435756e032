"""Every peer, with what one must know to compare it. Nothing of a peer is imported before it is used."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from bench.peers.etcd_server import etcd_go_version, etcd_version, start_etcd
from bench.peers.installing import first, missing_file, missing_module, missing_program, package_version
from bench.peers.native_programs import (
    ETCD_NATIVE_WORKLOADS,
    ZOOKEEPER_NATIVE_WORKLOADS,
    etcd_command,
    missing_etcd_program,
    missing_zookeeper_program,
    zookeeper_command,
)
from bench.peers.nats_server import nats_version, start_nats
from bench.peers.peer import Peer
from bench.peers.pipeline_server import start_pipeline
from bench.peers.pysyncobj_server import DEFAULT, SHORT, Periods, start_pysyncobj
from bench.peers.zookeeper_server import JARS, start_zookeeper, zookeeper_version
from bench.runs.recording import LoaderArguments
from bench.runs.subjects import Subject

ETCD_WORKLOADS: Final = frozenset({
    "write", "read", "read-sequential", "mixed", "counter", "lock", "lock-contended", "sessions", "fanout",
    "recovery",
})  # fmt: skip
ZOOKEEPER_WORKLOADS: Final = frozenset({
    "write", "read", "read-sequential", "mixed", "counter", "lock", "lock-contended", "election", "queue",
    "sessions", "recovery",
})  # fmt: skip
NATS_WORKLOADS: Final = frozenset({"write", "read", "mixed", "queue", "sessions", "fanout"})
PYSYNCOBJ_WORKLOADS: Final = frozenset({"write", "counter", "queue"})
PIPELINE_WORKLOADS: Final = frozenset({"write"})

ETCD_NOTE: Final = "syncs each write before it is acknowledged; callers are connected to the leader"
ZOOKEEPER_NOTE: Final = (
    "syncs each write before it is acknowledged; callers are connected to the leader; a linearizable read is"
    " a sync and a get, and ZooKeeper's sync asks the leader, not a quorum"
)
NATS_NOTE: Final = (
    "does not sync each write: JetStream syncs every two minutes; reads ask the leader of the bucket's"
    " stream, not a quorum"
)
PYSYNCOBJ_NOTE: Final = (
    "does not sync: its journal is a mapped file; the load runs inside the leader's process, whose processor"
    " time counts as the servers'"
)
PIPELINE_NOTE: Final = (
    "a measuring stick, not a system: it syncs each write, and has no elections, sessions, groups, reads or"
    " safety"
)


def zookeeper_servers() -> str | None:
    """Why ZooKeeper cannot be started; None if it can."""
    return first((
        missing_program("java", "default-jre-headless"),
        missing_file(
            JARS / "zookeeper.jar", "ZooKeeper is not installed",
            "run `make install-peers` as root, or `apt-get install zookeeper`",
        ),
    ))  # fmt: skip


def reasons(*asked: Callable[[], str | None]) -> Callable[[], str | None]:
    """The first reason that any of them has."""
    return lambda: first(one() for one in asked)


def python(module: str) -> Callable[[LoaderArguments], list[str]]:
    """The command line of a module of ours."""
    return lambda arguments: arguments.command(module)


def with_client(server: Callable[[], str], *packages: str) -> Callable[[], str]:
    """The versions of a server and of clients in Python."""
    return lambda: ", ".join([server(), *map(package_version, packages)])


def _pysyncobj(name: str, title: str, periods: Periods) -> Peer:
    return Peer(
        name=name, title=title, server=name, workloads=PYSYNCOBJ_WORKLOADS, note=PYSYNCOBJ_NOTE,
        starter=partial(start_pysyncobj, periods=periods),
        loader=python("bench.peers.pysyncobj_load"),
        lacks=partial(missing_module, "pysyncobj", "pysyncobj"),
        versions=partial(package_version, "pysyncobj"),
    )  # fmt: skip


_ETCD: Final = partial(missing_program, "etcd", "etcd-server")
SUBJECTS: Final[tuple[Subject, ...]] = (
    Peer(
        name="etcd", title="etcd (Python, aetcd)", server="etcd", workloads=ETCD_WORKLOADS, note=ETCD_NOTE,
        starter=start_etcd, loader=python("bench.peers.etcd_load"),
        lacks=reasons(_ETCD, partial(missing_module, "aetcd", "aetcd")),
        versions=with_client(etcd_version, "aetcd", "grpcio"),
    ),
    Peer(
        name="etcd-native", title="etcd (Go)", server="etcd", workloads=ETCD_NATIVE_WORKLOADS,
        note=f"{ETCD_NOTE}, 64 on a connection",
        starter=start_etcd, loader=etcd_command,
        lacks=reasons(_ETCD, missing_etcd_program), versions=etcd_go_version,
    ),
    Peer(
        name="zookeeper", title="ZooKeeper (Python, kazoo)", server="zookeeper",
        workloads=ZOOKEEPER_WORKLOADS, note=ZOOKEEPER_NOTE,
        starter=start_zookeeper, loader=python("bench.peers.zookeeper_load"),
        lacks=reasons(zookeeper_servers, partial(missing_module, "kazoo", "kazoo")),
        versions=with_client(zookeeper_version, "kazoo"),
    ),
    Peer(
        name="zookeeper-native", title="ZooKeeper (Java, asynchronous)", server="zookeeper",
        workloads=ZOOKEEPER_NATIVE_WORKLOADS, note=f"{ZOOKEEPER_NOTE}; 64 callers on a connection",
        starter=start_zookeeper, loader=zookeeper_command,
        lacks=reasons(zookeeper_servers, missing_zookeeper_program),
        versions=zookeeper_version,
    ),
    Peer(
        name="nats", title="NATS JetStream key-value (Python, nats-py)", server="nats",
        workloads=NATS_WORKLOADS, note=NATS_NOTE,
        starter=start_nats, loader=python("bench.peers.nats_load"),
        lacks=reasons(
            partial(missing_program, "nats-server", "nats-server"), partial(missing_module, "nats", "nats-py")
        ),
        versions=with_client(nats_version, "nats-py"),
    ),
    _pysyncobj("pysyncobj", "PySyncObj", DEFAULT),
    _pysyncobj("pysyncobj-tuned", "PySyncObj, every 2 ms", SHORT),
    Peer(
        name="floor", title="bare pipeline", server="floor", workloads=PIPELINE_WORKLOADS, note=PIPELINE_NOTE,
        starter=start_pipeline, loader=python("bench.peers.pipeline_load"), lacks=lambda: None,
        versions=with_client(lambda: "the pipeline of this checkout", "rocksdict"),
    ),
)  # fmt: skip
