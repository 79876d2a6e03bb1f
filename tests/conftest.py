"""Options of the whole test suite."""

from pathlib import Path

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--chain",
        choices=("eth-tester", "anvil"),
        default="eth-tester",
        help="the chain under the end-to-end test",
    )
    parser.addoption(
        "--faults-to", type=Path, help="write what became of each schedule of tests/faults here"
    )
