"""URLs of clusters: what they say, and one clear line for each that is wrong."""

from __future__ import annotations

import pytest

import quorate
from router.url import ClusterUrl, parse_url, split_address


@pytest.mark.parametrize(
    ("url", "addresses", "namespace"),
    [
        ("quorate://127.0.0.1:7400", ("127.0.0.1:7400",), ""),
        ("quorate://127.0.0.1:7400/", ("127.0.0.1:7400",), ""),
        ("quorate://localhost", ("localhost:7400",), ""),
        ("quorate://a:1,b:2,a:1/team", ("a:1", "b:2"), "team"),
        ("quorate://[::1]:7401/a%20b", ("[::1]:7401",), "a b"),
    ],
)
def test_a_url_is_read(url: str, addresses: tuple[str, ...], namespace: str) -> None:
    assert parse_url(url) == ClusterUrl(addresses, namespace)


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("", "begins with quorate://"),
        ("localhost:7400", "begins with quorate://"),
        ("http://localhost:7400", "begins with quorate://"),
        ("quorate:localhost", "begins with quorate://"),
        ("quorate://", "no host"),
        ("quorate:///space", "no host"),
        ("quorate://a:1,,b:2", "no host"),
        ("quorate://:7400", "host:port"),
        ("quorate://a:port", "host:port"),
        ("quorate://a:99999", "host:port"),
        ("quorate://a:0", "host:port"),
        ("quorate://a:", "lacks its port"),
        ("quorate://a:1/x/y", "one namespace"),
        ("quorate://a:1/%00", "control character"),
        ("quorate://a:1/" + "x" * 600, "at most 512"),
        ("quorate://a:1/#part", "'#'"),
        ("quorate://a:1/?colour=red", "unknown option 'colour'"),
        ("quorate://a:1/?nonsense", "options are not of the form"),
        ("quorates://a:1/", "neither TLS nor credentials"),
        ("quorate://me@a:1/", "neither TLS nor credentials"),
        ("quorate://a:1/?token_file=t", "neither TLS nor credentials"),
        ("quorate://" + ",".join(f"a:{port}" for port in range(1, 100)), "at most 64"),
        ("quorate://[::1", "not a URL"),
    ],
)
def test_a_wrong_url_is_one_clear_error(url: str, text: str) -> None:
    with pytest.raises(ValueError, match=text) as caught:
        quorate.connect(url)
    assert "\n" not in str(caught.value)


def test_a_url_that_is_no_text_is_a_type_error() -> None:
    with pytest.raises(TypeError):
        parse_url(7400)  # type: ignore[arg-type]


def test_the_environment_stands_in_for_a_url_that_is_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("QUORATE_URL", raising=False)
    with pytest.raises(ValueError, match="QUORATE_URL"):
        quorate.connect()
    monkeypatch.setenv("QUORATE_URL", "nonsense")
    with pytest.raises(ValueError, match="nonsense"):
        quorate.connect()


def test_addresses_are_taken_apart() -> None:
    assert split_address("[::1]:7400") == ("::1", 7400)
    assert split_address("host:1") == ("host", 1)
    with pytest.raises(ValueError, match="host:port"):
        split_address("host")


def test_a_refused_url_does_not_show_its_password() -> None:
    with pytest.raises(ValueError, match="credentials") as caught:
        parse_url("quorate://alice:hunter2@127.0.0.1:7400")
    assert "hunter2" not in str(caught.value)
