"""Tests on a real Kubo and a real geth: `make test-real`, or `pytest tests/real --real`.

Nothing here is collected without --real, since most machines have neither program. With it a
program that is missing is a failure.
"""

from pathlib import Path

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--real", action="store_true", help="collect these; needs `make daemons`")
    parser.addoption("--chaos-seed", type=int, default=1, help="of the chaos to play")
    parser.addoption("--chaos-faults", type=int, default=24, help="how many faults it has")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    return None if config.getoption("real", default=False) else True
