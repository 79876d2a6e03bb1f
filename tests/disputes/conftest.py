"""Federations with a challenge window, on either chain."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chain.anvil import needs_anvil, running_anvil
from tests.disputes.lies import TERMS
from tests.world import World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A federation on a dev chain, its standby bonded."""
    with World(tmp_path, **TERMS) as world:
        world.stand_by()
        yield world


@pytest.fixture(scope="session")
def anvil() -> Iterator[str]:
    with running_anvil() as url:
        yield url


@pytest.fixture(params=["dev chain", pytest.param("anvil", marks=needs_anvil)])
def either(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[World]:
    """A federation on a dev chain, and one on anvil."""
    url = request.getfixturevalue("anvil") if request.param == "anvil" else None
    with World(tmp_path, rpc_url=url, **TERMS) as world:
        world.stand_by()
        yield world
