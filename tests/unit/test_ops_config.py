"""A node's settings from flags and TOML: what is refused, and with which words."""

from __future__ import annotations

from pathlib import Path

import pytest

from ops.config import Address, Options, merge, parse_address, read_file, settings
from ops.exits import FAILED, Failure

BASE = Options(name="n1", data="d", listen="127.0.0.1:7400", peer="127.0.0.1:7500")
THREE = "n1=127.0.0.1:7500,n2=127.0.0.1:7501,n3=127.0.0.1:7502"


def with_(**changes: object) -> Options:
    return merge(Options(**changes), BASE)  # type: ignore[arg-type]  # tests pass wrong types on purpose


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "n1.toml"
    path.write_text(text)
    return path


def test_a_node_without_a_list_is_a_cluster_of_its_own() -> None:
    chosen = settings(BASE)
    assert chosen.cluster == {"n1": Address("127.0.0.1", 7500)}
    assert (chosen.groups, chosen.replicas, chosen.log_level) == (16, 1, "info")
    assert chosen.advertise == chosen.listen


def test_three_copies_unless_said() -> None:
    assert settings(with_(cluster=THREE)).replicas == 3
    assert settings(with_(cluster=THREE, replicas=1)).replicas == 1


def test_the_peer_address_is_the_lists_unless_said() -> None:
    options = Options(name="n2", data="d", listen="localhost:1", cluster=THREE)
    assert settings(options).peer == Address("127.0.0.1", 7501)


def test_keys_of_the_file_are_the_flags_names_and_flags_win(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        'name = "n1"\ndata = "d"\nlisten = "127.0.0.1:1"\ngroups = 4\nallow-plaintext = true\n'
        'log-level = "debug"\n[cluster]\nn1 = "127.0.0.1:2"\nn2 = "10.0.0.2:2"\n',
    )
    chosen = settings(merge(Options(groups=8), read_file(path)))
    assert (chosen.groups, chosen.replicas, chosen.log_level) == (8, 2, "debug")
    assert chosen.cluster["n2"] == Address("10.0.0.2", 2)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nane = 1", "unknown key 'nane'; the nearest valid one is 'name'"),
        ("log_level = 1", "unknown key 'log_level'; the nearest valid one is 'log-level'"),
        ("zzz = 1", "unknown key 'zzz'; the nearest valid one is"),
        ("http = '127.0.0.1:1'", "'http' is not offered in this release"),
        ("groups = 'many'", "expected `int"),
        ("log-level = 'loud'", "invalid enum value 'loud'"),
        ("groups = ", "is not TOML"),
    ],
)
def test_a_wrong_file_is_one_line_that_names_the_key(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(Failure) as caught:
        read_file(write(tmp_path, text))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.code == FAILED


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(Failure, match=r"cannot read .*none\.toml: no such file"):
        read_file(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": ""}, "--name is missing"),
        ({"name": "a b"}, "'a b' is not a node's name"),
        ({"name": "x\ny"}, "is not a node's name"),
        ({"listen": "7400"}, "expected HOST:PORT"),
        ({"listen": "127.0.0.1:0"}, "from 1 to 65535"),
        ({"listen": "127.0.0.1:٣"}, "from 1 to 65535"),
        ({"listen": "::1:7400"}, "in brackets"),
        ({"listen": "0.0.0.0:7400"}, "--allow-plaintext"),
        ({"peer": "node1.example:7500"}, "--allow-plaintext"),
        ({"cluster": "n1"}, "'n1' is not NAME=HOST:PEERPORT"),
        ({"cluster": "n2=127.0.0.1:1"}, "lists n2, but this node is n1"),
        ({"cluster": "n1=127.0.0.1:1,n1=127.0.0.1:2"}, "lists n1 twice"),
        ({"cluster": "n1=127.0.0.1:1,n2=127.0.0.1:1"}, "lists 127.0.0.1:1 twice"),
        ({"cluster": ",".join(f"n{i}=127.0.0.1:{i}" for i in range(1, 66))}, "65 nodes"),
        ({"groups": 0}, "--groups 0: expected a number from 1"),
        ({"replicas": 2}, "--replicas 2: expected a number from 1 to 1"),
    ],
)
def test_each_mistake_is_named(changes: dict[str, object], words: str) -> None:
    with pytest.raises(Failure) as caught:
        settings(with_(**changes))
    assert words in str(caught.value)


def test_addresses_that_others_reach_are_permitted_on_request() -> None:
    assert settings(with_(listen="0.0.0.0:7400", allow_plaintext=True)).listen == Address("0.0.0.0", 7400)


def test_an_ipv6_address_stands_in_brackets() -> None:
    address = parse_address("[::1]:7400", "listen")
    assert address == Address("::1", 7400)
    assert address.loopback
    assert str(address) == "[::1]:7400"
