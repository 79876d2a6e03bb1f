"""Federations with a challenge window."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from aggregator.keeping import Keeper
from tests.disputes.lies import TERMS
from tests.ethereum.anvil import shared_anvil
from tests.world import World


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A federation on anvil, its standby bonded; who withholds something does not put it back."""
    monkeypatch.setattr(Keeper, "is_due", lambda self: False)
    with World(tmp_path, **TERMS) as world:
        world.stand_by()
        yield world


@pytest.fixture(scope="session")
def anvil() -> str:
    return shared_anvil()
