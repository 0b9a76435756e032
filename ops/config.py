"""What a node is told at its start: flags, a TOML file whose keys are the flags' names, and their checks.

A flag wins over the file. Every mistake is a :class:`~ops.exits.Failure` of one line that names the key.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, NamedTuple

import msgspec

from ops.exits import Failure
from ops.logs import Level
from shards.founding import NODES_MAX

Leaders = Literal["spread", "together"]
"""Whether each node is to lead its share of the groups, or one of them all."""
GROUPS_DEFAULT: Final = 16
GROUPS_MAX: Final = 4096
REPLICAS_DEFAULT: Final = 3
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
_NOT_OFFERED: Final = frozenset({"http", "join"})
"""Keys of the documented command that this release does not know yet."""


class Address(NamedTuple):
    """A host, as a name or a number, and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def loopback(self) -> bool:
        """Whether only this machine reaches it; a name other than ``localhost`` counts as reachable."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


class Options(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, rename="kebab", frozen=True):
    """The flags of ``serve`` as given: None where neither the command line nor the file says anything."""

    name: str | None = None
    data: str | None = None
    listen: str | None = None
    peer: str | None = None
    advertise: str | None = None
    cluster: str | dict[str, str] | None = None
    groups: int | None = None
    replicas: int | None = None
    leaders: Leaders | None = None
    allow_plaintext: bool | None = None
    log_level: Level | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """What ``serve`` runs with, checked and complete."""

    name: str
    data: Path
    listen: Address
    peer: Address
    advertise: Address
    """Where clients reach this node."""
    cluster: Mapping[str, Address]
    """Peer address by name, of every founding node, this one included."""
    groups: int
    replicas: int
    leaders: Leaders
    log_level: Level


def read_file(path: Path) -> Options:
    """The options in a TOML file. Raises Failure: not readable, not TOML, an unknown key (with the nearest
    valid one), or a value of another type."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise Failure(f"cannot read {path}: {(error.strerror or str(error)).lower()}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Failure(f"{path} is not TOML: {' '.join(str(error).split())}") from None
    keys = [field.encode_name for field in msgspec.structs.fields(Options)]
    for key in table:
        if key in _NOT_OFFERED:
            raise Failure(f"{path}: {key!r} is not offered in this release")
        if key not in keys:
            nearest = difflib.get_close_matches(key, keys, n=1, cutoff=0.0)[0]
            raise Failure(f"{path}: unknown key {key!r}; the nearest valid one is {nearest!r}")
    try:
        return msgspec.convert(table, Options)
    except msgspec.ValidationError as error:
        raise Failure(f"{path}: {str(error)[:1].lower()}{str(error)[1:]}") from None


def merge(flags: Options, file: Options | None) -> Options:
    """``flags``, and from ``file`` what they leave open."""
    if file is None:
        return flags
    given = {name: value for name, value in msgspec.structs.asdict(flags).items() if value is not None}
    return msgspec.structs.replace(file, **given)


def settings(options: Options) -> Settings:
    """Checks ``options`` and fills in what is silent. Raises Failure."""
    name = check_node_name(_required(options.name, "name"))
    data = Path(_required(options.data, "data"))
    listen = parse_address(_required(options.listen, "listen"), "listen")
    cluster = _cluster(options.cluster)
    if cluster and name not in cluster:
        raise Failure(f"--cluster lists {', '.join(sorted(cluster))}, but this node is {name}")
    if options.peer is not None:
        peer = parse_address(options.peer, "peer")
    elif name in cluster:
        peer = cluster[name]
    else:
        raise Failure("--peer is missing")
    cluster = cluster or {name: peer}
    advertise = listen if options.advertise is None else parse_address(options.advertise, "advertise")
    if not options.allow_plaintext:
        for flag, address in (("listen", listen), ("peer", peer)):
            if not address.loopback:
                raise Failure(
                    f"--{flag} {address} can be reached from other machines, and traffic is not encrypted; "
                    "--allow-plaintext permits it"
                )
    groups = _within(options.groups, GROUPS_DEFAULT, GROUPS_MAX, "groups")
    replicas = _within(options.replicas, min(REPLICAS_DEFAULT, len(cluster)), len(cluster), "replicas")
    return Settings(
        name, data, listen, peer, advertise, cluster, groups, replicas, options.leaders or "spread",
        options.log_level or "info",
    )


def parse_address(text: str, flag: str) -> Address:
    """``HOST:PORT`` or ``[IPV6]:PORT``; the port is 1 to 65535. Raises Failure."""
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise Failure(f"--{flag} {text}: an IPv6 address stands in brackets, [{host}]:{port}")
    if not colon or not host or any(character.isspace() for character in host):
        raise Failure(f"--{flag} {text}: expected HOST:PORT")
    if not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise Failure(f"--{flag} {text}: the port is a number from 1 to 65535")
    return Address(host, int(port))


def check_node_name(name: str) -> str:
    """``name``, if it may be a node's: letters, digits, ``_``, ``.`` and ``-``, at most 63, beginning with a
    letter or digit. Raises Failure."""
    if not _NAME.fullmatch(name):
        raise Failure(f"{name!r} is not a node's name: 1 to 63 letters, digits, '_', '.' or '-'")
    return name


def _required(value: str | None, flag: str) -> str:
    if not value:
        raise Failure(f"--{flag} is missing")
    return value


def _within(value: int | None, default: int, most: int, flag: str) -> int:
    if value is None:
        return default
    if not 1 <= value <= most:
        raise Failure(f"--{flag} {value}: expected a number from 1 to {most}")
    return value


def _cluster(given: str | Mapping[str, str] | None) -> dict[str, Address]:
    """Peer addresses by name, from ``n1=HOST:PORT,n2=…`` or a table of the same."""
    if given is None:
        return {}
    pairs: list[tuple[str, str]] = []
    if isinstance(given, str):
        for part in given.split(","):
            name, equals, address = part.strip().partition("=")
            if not equals:
                raise Failure(f"--cluster: {part.strip()!r} is not NAME=HOST:PEERPORT")
            pairs.append((name, address))
    else:
        pairs.extend(given.items())
    cluster: dict[str, Address] = {}
    for name, text in pairs:
        peer = parse_address(text, "cluster")
        if check_node_name(name) in cluster:
            raise Failure(f"--cluster lists {name} twice")
        if peer in cluster.values():
            raise Failure(f"--cluster lists {peer} twice")
        cluster[name] = peer
    if not 1 <= len(cluster) <= NODES_MAX:
        raise Failure(f"--cluster lists {len(cluster)} nodes; 1 to {NODES_MAX} can found a cluster")
    return cluster
