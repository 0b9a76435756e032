"""Fixtures of tests in more than one folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.devprocess import Dev, Run


@pytest.fixture(scope="module")
def dev() -> Iterator[Dev]:
    """A cluster for the tests of one file."""
    with Dev() as running:
        running.wait_until_ready()
        yield running


@pytest.fixture
def run(dev: Dev, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """A command line, run in this process: its exit code, standard output and standard error."""
    from ops import runner  # Which tests of single parts need not load.

    monkeypatch.setenv("QUORATE_URL", dev.url)

    def call(*tokens: str) -> tuple[int, str, str]:
        code = runner.run(tokens)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


@pytest.fixture(scope="module")
def short_ranges() -> Iterator[None]:
    """Histories drop even two rows as a range, as tests with small histories need it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("primitives.history.SWEPT_MIN", 2)
        yield
