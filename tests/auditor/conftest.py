"""One honest federation of two finalized rounds, which nobody changes."""

from collections.abc import Iterator

import pytest

from auditor.check_result import CheckResult
from contracts.enums import Status
from tests.world import World


@pytest.fixture(scope="package")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with World(tmp_path_factory.mktemp("played")) as world:
        for _ in range(2):
            assert world.play() is Status.FINALIZED
        yield world


@pytest.fixture(scope="package")
def fresh(played: World) -> list[CheckResult]:
    """What an audit without a cache finds."""
    lines = played.audit()
    assert all(line.passed for line in lines)
    return lines
