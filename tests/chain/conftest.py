"""One chain of each kind, and a federation on it that every test finds untouched."""

from collections.abc import Iterator

import pytest
from web3 import Web3

from devnet.accounts import dev_keys
from devnet.tester import connect_tester
from ethereum.rpc import connect
from ethereum.wallet import Wallet
from tests.chain.anvil import running_anvil
from tests.chain.stage import Stage, make_stage, undone


@pytest.fixture(scope="session")
def rpc_url() -> Iterator[str]:
    with running_anvil() as url:
        yield url


@pytest.fixture(scope="session")
def w3(rpc_url: str) -> Web3:
    return connect(rpc_url)


@pytest.fixture(scope="session")
def wallets() -> tuple[Wallet, ...]:
    return tuple(Wallet.from_key(key) for key in dev_keys()[:8])


@pytest.fixture(scope="session")
def _stage(w3: Web3, wallets: tuple[Wallet, ...]) -> Stage:
    return make_stage(w3, wallets)


@pytest.fixture(scope="session")
def _tester_stage(wallets: tuple[Wallet, ...]) -> Stage:
    return make_stage(connect_tester(), wallets)


@pytest.fixture
def stage(_stage: Stage) -> Iterator[Stage]:
    with undone(_stage.w3):
        yield _stage


@pytest.fixture(params=["_stage", "_tester_stage"], ids=["anvil", "eth-tester"])
def either_stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    """The stage on anvil, and the one on eth-tester."""
    stage: Stage = request.getfixturevalue(request.param)
    with undone(stage.w3):
        yield stage
