"""Federations with a challenge window, on either chain."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chain.anvil import running_tester, shared_anvil
from tests.disputes.lies import TERMS
from tests.world import World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A federation on anvil, its standby bonded."""
    with World(tmp_path, **TERMS) as world:
        world.stand_by()
        yield world


@pytest.fixture(scope="session")
def anvil() -> str:
    return shared_anvil()


@pytest.fixture(scope="session")
def tester() -> Iterator[str]:
    with running_tester() as url:
        yield url


@pytest.fixture(params=["anvil", "tester"], ids=["anvil", "eth-tester"])
def either(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[World]:
    """A federation on anvil, and one on eth-tester; both chains are processes."""
    url = request.getfixturevalue(request.param)
    with World(tmp_path, rpc_url=url, **TERMS) as world:
        world.stand_by()
        yield world
