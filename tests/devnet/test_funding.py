"""`commonweight devnet fund`: ether and tokens for a wallet, and a clear line for each mistake."""

from decimal import Decimal
from pathlib import Path

import pytest

from chain.location import FederationLocation
from devnet.funding import fund, read_amount
from ethereum.wallet import Wallet
from protocol.errors import Misconfigured
from protocol.types import read_address
from runtime.settings import write_location
from tests.world import TOKEN, World

CHECKSUMMED = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"


def test_an_address_may_be_in_any_case() -> None:
    for text in (CHECKSUMMED, CHECKSUMMED.lower(), "0x" + CHECKSUMMED[2:].upper()):
        assert read_address(text) == CHECKSUMMED
    for text in ("", "0x7099", CHECKSUMMED[2:], CHECKSUMMED + "0", "0x" + "g" * 40):
        with pytest.raises(Misconfigured, match="expected 0x and 40 hex digits"):
            read_address(text)


def test_an_amount_is_a_decimal_number() -> None:
    assert read_amount("2.5") == 25 * 10**17
    assert read_amount("0.000000000000000001") == 1
    for text in ("-1", "many", "nan", "inf", "0.0000000000000000001"):
        with pytest.raises(Misconfigured, match="expected a number such as"):
            read_amount(text)


def test_a_wallet_gets_ether_and_the_federations_tokens(tmp_path: Path) -> None:
    with World(tmp_path / "world") as world:
        file, to = tmp_path / "federation.json", Wallet.create().address
        location = FederationLocation(
            chain_id=world.w3.eth.chain_id,
            address=world.address,
            deployment_block=world.deployment_block,
            rpc_url="http://127.0.0.1:1",  # where the devnet was the last time
            ipfs_url=world.daemon.url,
        )
        write_location(file, location)
        held = fund(world.rpc_url, to, TOKEN // 2, 3 * TOKEN, file)
        assert held == {"tokens": Decimal(3), "ether": Decimal("0.5")}
        assert world.token.balance_of(to) == 3 * TOKEN
        with pytest.raises(Misconfigured, match="of the federation's tokens"):
            fund(world.rpc_url, to, 0, 10**9 * TOKEN, file)
        write_location(file, location.model_copy(update={"address": to}))
        with pytest.raises(Misconfigured, match="is not on the devnet's chain"):
            fund(world.rpc_url, to, 0, TOKEN, file)
