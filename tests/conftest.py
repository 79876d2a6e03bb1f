"""Options of the whole test suite."""

from pathlib import Path

import pytest
from hypothesis import settings

# How fast a machine is says nothing about whether the code is right.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--chain",
        choices=("anvil", "eth-tester"),
        default="anvil",
        help="the devnet's chain under the end-to-end test",
    )
    parser.addoption(
        "--ipfs",
        default="dev",
        metavar="dev|kubo|URL",
        help="the IPFS daemon under the store's and the end-to-end tests",
    )
    parser.addoption(
        "--faults-to",
        type=Path,
        metavar="FILE",
        help="add what became of each schedule of tests/faults, and pass over those that FILE "
        "says were survived",
    )
    parser.addoption(
        "--faults-part", metavar="N/M", help="of the schedules of tests/faults, the Nth of M parts"
    )
