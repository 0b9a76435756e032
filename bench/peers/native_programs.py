"""The load generators that are built from sources of ours, with the systems' own clients in Go and Java."""

from __future__ import annotations

from typing import Final

from bench.peers.installing import HOW_CLIENTS, NATIVE, missing_file
from bench.peers.serving import find_program
from bench.peers.zookeeper_server import CLASSPATH
from bench.runs.recording import LoaderArguments

ETCD_PROGRAM: Final = NATIVE / "etcd-load"
ZOOKEEPER_CLASSES: Final = NATIVE / "zookeeper-load"
ZOOKEEPER_MAIN: Final = "ZookeeperLoad"
ETCD_NATIVE_WORKLOADS: Final = frozenset({
    "write", "read", "read-sequential", "mixed", "counter", "lock", "lock-contended", "election", "sessions",
    "fanout",
})  # fmt: skip
ZOOKEEPER_NATIVE_WORKLOADS: Final = frozenset({"write", "read", "read-sequential", "mixed", "fanout"})
HEAP: Final = "-Xmx1000m"


def missing_etcd_program() -> str | None:
    """Why the program in Go cannot be used; None if it can."""
    what = "the load generator in Go is not built"
    return missing_file(ETCD_PROGRAM, what, f"install Go 1.21 or newer and {HOW_CLIENTS}")


def missing_zookeeper_program() -> str | None:
    """Why the program in Java cannot be used; None if it can."""
    return missing_file(
        ZOOKEEPER_CLASSES / f"{ZOOKEEPER_MAIN}.class", "the load generator in Java is not built",
        f"install default-jdk-headless and {HOW_CLIENTS}",
    )  # fmt: skip


def etcd_command(asked: LoaderArguments) -> list[str]:
    """The command line of the program in Go."""
    return [str(ETCD_PROGRAM), *options(asked)]


def zookeeper_command(asked: LoaderArguments) -> list[str]:
    """The command line of the program in Java."""
    return [
        find_program("java") or "java", HEAP, "-Dorg.slf4j.simpleLogger.defaultLogLevel=error",
        "-cp", f"{ZOOKEEPER_CLASSES}:{CLASSPATH}", ZOOKEEPER_MAIN, *options(asked),
    ]  # fmt: skip


def options(asked: LoaderArguments) -> list[str]:
    """What both are asked for, in the same words."""
    shape = asked.shape
    found = [
        "--target", asked.target, "--workload", shape.workload, "--callers", f"{shape.callers}",
        "--value-bytes", f"{shape.value_bytes}", "--keys", f"{shape.keys}", "--seconds", f"{asked.seconds}",
        "--warm-up", f"{asked.warm_up}",
    ]  # fmt: skip
    return found if shape.rate is None else [*found, "--rate", f"{shape.rate}"]
