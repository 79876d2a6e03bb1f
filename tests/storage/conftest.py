"""A daemon, a store and a lying proxy for each test that asks."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from devnet.ipfs.daemon import DevIpfsDaemon
from storage.ipfs import ContentStore
from tests.storage.lying_proxy import LyingProxy
from tests.storage.other_daemons import running_ipfs


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[DevIpfsDaemon]:
    with DevIpfsDaemon(tmp_path / "repo") as daemon:
        yield daemon


@pytest.fixture(scope="session")
def other_ipfs(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[str | None]:
    """The RPC address of the daemon that --ipfs asks for in place of ours."""
    kind = request.config.getoption("--ipfs")
    if kind == "dev":
        yield None
        return
    with running_ipfs(kind, tmp_path_factory.mktemp("ipfs")) as url:
        yield url


@pytest.fixture
def store(daemon: DevIpfsDaemon, other_ipfs: str | None) -> ContentStore:
    return ContentStore(other_ipfs or daemon.url, timeout_s=10)


@pytest.fixture
def proxy(daemon: DevIpfsDaemon) -> Iterator[LyingProxy]:
    with LyingProxy(daemon.url) as proxy:
        yield proxy
