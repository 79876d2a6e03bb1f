"""One dev chain, and a federation on it that every test finds untouched."""

from collections.abc import Iterator

import pytest
from web3 import Web3

from chain.devchain import DevChain, dev_keys
from chain.rpc import connect
from chain.wallet import Wallet
from tests.chain.stage import Stage, make_stage, undone


@pytest.fixture(scope="session")
def rpc_url() -> Iterator[str]:
    with DevChain() as chain:
        yield chain.url


@pytest.fixture(scope="session")
def w3(rpc_url: str) -> Web3:
    return connect(rpc_url)


@pytest.fixture(scope="session")
def wallets() -> tuple[Wallet, ...]:
    return tuple(Wallet.from_key(key) for key in dev_keys()[:8])


@pytest.fixture(scope="session")
def _stage(w3: Web3, wallets: tuple[Wallet, ...]) -> Stage:
    return make_stage(w3, wallets)


@pytest.fixture
def stage(_stage: Stage) -> Iterator[Stage]:
    with undone(_stage.w3):
        yield _stage
