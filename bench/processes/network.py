"""Network namespaces on one bridge, one for each node and one for the clients, and what cuts and slows them.

Needs root. Whatever is made here is removed at the end; what a run that was killed left behind, by the next
one.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Final

CLIENTS: Final = "clients"
"""The member that is no node."""
_TOOLS: Final = ("ip", "nsenter", "iptables", "tc", "ss")
_PREFIX: Final = "quorate-"
_NAMESPACES: Final = Path("/run/netns")


class CannotRun(Exception):
    """Why there can be no namespaces here, for people."""


def check_machine() -> None:
    """Raises :class:`CannotRun` unless namespaces can be made and filtered on this machine."""
    if os.geteuid() != 0:
        raise CannotRun("network namespaces need root; run this as root")
    missing = [tool for tool in _TOOLS if shutil.which(tool) is None]
    if missing:
        raise CannotRun(f"not installed: {', '.join(missing)} (Debian: iproute2, iptables, util-linux)")
    name = f"{_PREFIX}{os.getpid()}-try"
    made = _try("ip", "netns", "add", name)
    if made is not None:
        raise CannotRun(f"no network namespace can be made here: {made}")
    try:
        inside = ("nsenter", f"--net={_NAMESPACES / name}")
        filtered = _try(*inside, "iptables", "-w", "-A", "INPUT", "-s", "10.0.0.1", "-j", "DROP")
        if filtered is not None:
            raise CannotRun(f"iptables does not work in a network namespace here: {filtered}")
    finally:
        run("ip", "netns", "del", name)


def _try(*arguments: str) -> str | None:
    """Runs a command; None, or the line with which it failed."""
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    return None if done.returncode == 0 else done.stderr.strip().splitlines()[-1]


def run(*arguments: str) -> None:
    """Runs a command; raises RuntimeError with what it said if it fails."""
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments)}: {done.stderr.strip()}")


class Rule:
    """One rule of a member's input filter, in force until it is lifted."""

    def __init__(self, network: Network, member: str, words: Sequence[str]) -> None:
        self._network = network
        self._member = member
        self._words = list(words)
        self._in_force = True
        network.inside(member, "iptables", "-w", "-A", "INPUT", *self._words)

    def lift(self) -> None:
        """Ends the rule. Harmless if it has ended."""
        if self._in_force:
            self._in_force = False
            self._network.inside(self._member, "iptables", "-w", "-D", "INPUT", *self._words)


class Network:
    """Members by name, each in a namespace of its own: the nodes, and :data:`CLIENTS`."""

    def __init__(self, nodes: Sequence[str]) -> None:
        self.nodes: Final = tuple(nodes)
        self.members: Final = (*nodes, CLIENTS)
        self._name: Final = f"{_PREFIX}{os.getpid()}-"
        self._comments: Final = count()

    def address(self, member: str) -> str:
        """A member's IP address."""
        return f"10.77.0.{self.members.index(member) + 1}"

    def command(self, member: str, *arguments: str) -> list[str]:
        """The command line that runs a command in a member's namespace, under the same process id."""
        return ["nsenter", f"--net={_NAMESPACES / (self._name + member)}", *arguments]

    def inside(self, member: str, *arguments: str) -> None:
        """Runs a command in a member's namespace."""
        run(*self.command(member, *arguments))

    def make(self) -> None:
        """Makes the namespaces, the bridge between them, and their addresses."""
        hub = self._name + "hub"
        run("ip", "netns", "add", hub)
        run("ip", "-n", hub, "link", "add", "bridge", "type", "bridge")
        run("ip", "-n", hub, "link", "set", "bridge", "up")
        for member in self.members:
            own = self._name + member
            run("ip", "netns", "add", own)
            run("ip", "-n", own, "link", "add", "eth0", "type", "veth", "peer", "name", member, "netns", hub)
            run("ip", "-n", hub, "link", "set", member, "master", "bridge", "up")
            run("ip", "-n", own, "addr", "add", f"{self.address(member)}/24", "dev", "eth0")
            run("ip", "-n", own, "link", "set", "lo", "up")
            run("ip", "-n", own, "link", "set", "eth0", "up")

    def remove(self) -> None:
        """Removes the namespaces, with all that is in them."""
        _remove(self._name)

    # --- Faults ---------------------------------------------------------------------------------------

    def cut(self, source: str, target: str) -> Rule:
        """Drops what ``source`` sends to ``target``."""
        return self._rule(target, ["-s", self.address(source)], ["-j", "DROP"])

    def lose(self, member: str, share: float) -> Rule:
        """Drops a share of the packets that a member would receive."""
        chance = ["-m", "statistic", "--mode", "random", "--probability", f"{share:.3f}"]
        return self._rule(member, chance, ["-j", "DROP"])

    def queue(self, member: str, number: int) -> Rule:
        """Hands the packets that a member would receive to whoever serves that queue in its namespace."""
        return self._rule(member, ["-p", "tcp"], ["-j", "NFQUEUE", "--queue-num", f"{number}"])

    def _rule(self, member: str, match: list[str], verdict: list[str]) -> Rule:
        comment = ["-m", "comment", "--comment", f"fault-{next(self._comments)}"]
        return Rule(self, member, [*match, *comment, *verdict])

    def narrow(self, member: str, kilobits: int) -> None:
        """Limits what a member sends to so many kbit/s."""
        self.inside(
            member, "tc", "qdisc", "replace", "dev", "eth0", "root", "tbf", "rate", f"{kilobits}kbit",
            "burst", "8kb", "latency", "400ms",
        )  # fmt: skip

    def widen(self, member: str) -> None:
        """Takes the limit back."""
        self.inside(member, "tc", "qdisc", "del", "dev", "eth0", "root")

    def reset(self, member: str) -> None:
        """Resets every connection of a member."""
        self.inside(member, "ss", "-K", "-H", "-t", "state", "established")


def _remove(prefix: str) -> None:
    if not _NAMESPACES.is_dir():
        return
    for path in sorted(_NAMESPACES.iterdir()):
        if path.name.startswith(prefix):
            run("ip", "netns", "del", path.name)


def remove_leftovers() -> None:
    """Removes the namespaces of runs whose process is gone."""
    if not _NAMESPACES.is_dir():
        return
    for path in sorted(_NAMESPACES.iterdir()):
        owner = path.name.removeprefix(_PREFIX).partition("-")[0]
        is_ours = path.name.startswith(_PREFIX) and owner.isdigit()
        if is_ours and not Path("/proc", owner).exists():
            run("ip", "netns", "del", path.name)


@contextmanager
def a_network(nodes: Sequence[str]) -> Iterator[Network]:
    """A network for nodes of these names, removed in the end. Raises :class:`CannotRun`."""
    check_machine()
    remove_leftovers()
    network = Network(nodes)
    try:
        network.make()
        yield network
    finally:
        network.remove()
