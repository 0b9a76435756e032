"""Where a cluster is: ``quorate[s]://[user@]host:port[,host:port…]/[namespace][?options]``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit

from primitives.codec import check_namespace
from primitives.errors import TooLarge

VARIABLE: Final = "QUORATE_URL"
"""The environment's variable that stands in for a URL that is not given."""
PORT: Final = 7400
"""The port of an address that names none."""
ADDRESSES_MAX: Final = 64
_CREDENTIALS: Final = frozenset(("ca", "cert", "key", "token_file"))


@dataclass(frozen=True, slots=True)
class ClusterUrl:
    """A parsed URL."""

    addresses: tuple[str, ...]
    """``host:port`` of each node named, an IPv6 host in brackets; at least one."""
    namespace: str
    """The namespace of names that give none; the empty one is the default."""


def parse_url(url: str) -> ClusterUrl:
    """What ``url`` says. Raises TypeError unless it is a str, ValueError with a text for people if it is not
    a URL of a cluster, or asks for what this release does not offer."""
    if not isinstance(url, str):
        raise TypeError(f"a URL is a str, not {type(url).__name__}")
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise ValueError(f"not a URL: {url!r}: {error}") from None
    if parts.scheme not in ("quorate", "quorates") or not url.startswith(f"{parts.scheme}://"):
        raise ValueError(f"the URL begins with quorate://, not like {url!r}")
    if parts.fragment:
        raise ValueError(f"the URL has a part behind '#': {url!r}")
    options = _options(url, parts.query)
    _, at, hosts = parts.netloc.rpartition("@")
    if parts.scheme == "quorates" or at or options:
        what = "quorates://" if parts.scheme == "quorates" else "a user" if at else options[0]
        raise ValueError(f"this release offers neither TLS nor credentials, but the URL asks for {what}")
    addresses = tuple(dict.fromkeys(_address(url, host) for host in hosts.split(",")))
    if len(addresses) > ADDRESSES_MAX:
        raise ValueError(f"the URL names {len(addresses)} addresses; at most {ADDRESSES_MAX} are taken")
    return ClusterUrl(addresses, _namespace(url, parts.path))


def _options(url: str, query: str) -> list[str]:
    if not query:
        return []
    try:
        options = [name for name, _ in parse_qsl(query, keep_blank_values=True, strict_parsing=True)]
    except ValueError:
        raise ValueError(f"the URL's options are not of the form ?name=value&…: {url!r}") from None
    for name in options:
        if name not in _CREDENTIALS:
            known = ", ".join(sorted(_CREDENTIALS))
            raise ValueError(f"the URL has an unknown option {name!r}; known are {known}")
    return options


def _address(url: str, host: str) -> str:
    if not host:
        raise ValueError(f"the URL names no host, or an empty one: {url!r}")
    try:
        parts = urlsplit(f"//{host}")
        name, port = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError(f"{host!r} is not of the form host:port: {error}") from None
    if not name or port == 0 or any(character.isspace() for character in name):
        raise ValueError(f"{host!r} is not of the form host:port")
    if host.endswith(":"):
        raise ValueError(f"{host!r} lacks its port")
    return f"[{name}]:{port or PORT}" if ":" in name else f"{name}:{port or PORT}"


def _namespace(url: str, path: str) -> str:
    name = unquote(path.removeprefix("/"))
    if "/" in name:
        raise ValueError(f"the URL's path is one namespace, without '/': {url!r}")
    try:
        return check_namespace(name)
    except TooLarge as error:
        raise ValueError(str(error)) from None


def split_address(address: str) -> tuple[str, int]:
    """Host and port of ``host:port``; raises ValueError for anything else."""
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isdecimal():
        raise ValueError(f"{address!r} is not of the form host:port")
    return host.removeprefix("[").removesuffix("]"), int(port)
