"""A daemon, a store and a lying proxy for each test that asks."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.dev_daemon import DevIpfsDaemon
from storage.ipfs import ContentStore
from tests.storage.lying_proxy import LyingProxy


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[DevIpfsDaemon]:
    with DevIpfsDaemon(tmp_path / "repo") as daemon:
        yield daemon


@pytest.fixture
def store(daemon: DevIpfsDaemon) -> ContentStore:
    return ContentStore(daemon.url, timeout_s=10)


@pytest.fixture
def proxy(daemon: DevIpfsDaemon) -> Iterator[LyingProxy]:
    with LyingProxy(daemon.url) as proxy:
        yield proxy
