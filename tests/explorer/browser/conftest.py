"""Tests in a real browser: `make test-explorer`, or `pytest tests/explorer/browser --browser PATH`.

Nothing here is collected without --browser, since most machines have no Chromium. With it, one that
is missing is a failure.
"""

from pathlib import Path

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--browser", metavar="PATH", help="collect these; the Chromium to drive")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    return None if config.getoption("browser", default=None) else True
