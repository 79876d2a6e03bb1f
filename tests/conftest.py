"""Options of the whole test suite."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--chain",
        choices=("eth-tester", "anvil"),
        default="eth-tester",
        help="the chain under the end-to-end test",
    )
    parser.addoption(
        "--ipfs",
        default="dev",
        metavar="dev|js-ipfs|kubo|URL",
        help="the IPFS daemon under the store's and the end-to-end tests",
    )
