"""A plugin of pytest that plants a bug before any test is imported.

``pytest -p tests.mutations.plugin --mutation NAME``; without a name it only makes runs alike: hypothesis
tries the same examples each time, keeps none, and does not spend time to make a failing one smaller.
"""

from __future__ import annotations

import resource

import pytest
from hypothesis import Phase, settings

from tests.mutations.bugs import MUTATIONS, plant

_PATCH = pytest.MonkeyPatch()


def pytest_addoption(parser: pytest.Parser) -> None:
    """The plugin's options."""
    parser.addoption("--mutation", choices=sorted(MUTATIONS), help="plant this bug")
    parser.addoption("--mutation-seconds", type=int, help="processor time after which the run is ended")


def pytest_configure(config: pytest.Config) -> None:
    """Plants the bug."""
    seconds = config.getoption("--mutation-seconds")
    if seconds:
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    phases = (Phase.explicit, Phase.generate)
    settings.register_profile("planted", derandomize=True, database=None, phases=phases)
    settings.load_profile("planted")
    name = config.getoption("--mutation")
    if name:
        plant(_PATCH, name)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Takes it back."""
    _PATCH.undo()
