"""The factory: founds federations, and lists those it has founded.

    factory = Factory(w3, address, sender)
    federation = factory.create(terms, [aggregator])

contracts/deployments.json names a factory for each public chain that has one.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak
from web3 import Web3
from web3.types import LogReceipt

from chain.authentic import FACTORY, check_factory
from chain.contract import ContractClient
from chain.federation import Federation
from chain.log_pages import read_logs
from chain.records import Terms
from contracts.compiler import CONTRACTS_DIR
from ethereum.transactions import Sender
from ethereum.wallet import Wallet
from protocol.errors import Unavailable
from protocol.types import Address, Digest, parse_address

_CREATED: Final = keccak(text="FederationCreated(address,address,bytes32)")


@dataclass(frozen=True)
class FactoryLocation:
    """A factory's address, and a block at or before its deployment."""

    address: Address
    block: int


@dataclass(frozen=True)
class Founded:
    """A federation that a factory founded, and the block in which it did."""

    federation: Address
    sponsor: Address
    spec_digest: Digest
    block: int


class Factory(ContractClient):
    """The factory at `address`; it founds nothing without a wallet.

    Raises Misconfigured when there is no contract at the address, or not this version's factory.
    """

    def __init__(self, w3: Web3, address: Address, wallet: Wallet | Sender | None = None) -> None:
        sender = Sender(w3, wallet) if isinstance(wallet, Wallet) else wallet
        super().__init__(w3, parse_address(address), FACTORY, sender)
        check_factory(w3, self.address)

    def create(self, terms: Terms, aggregators: Sequence[Address]) -> Federation:
        """Return a new federation with its `deployment_block`; the sender is its sponsor.

        The first of `aggregators` leads, the others stand by in this order. Raises Reverted,
        without sending, with the name of a term that is out of range; else as `Sender.send` does.
        """
        receipt = self._write("create", terms.to_abi(), list(aggregators))
        for log in receipt.logs:
            if str(log["address"]) == self.address:
                founded = _decode(log)
                block = receipt.block_number
                return Federation(self.w3, founded.federation, self.sender, deployment_block=block)
        raise Unavailable(
            "the Ethereum RPC's receipt of the founding names no federation", service="chain"
        )

    def federations(self, from_block: int = 0) -> list[Founded]:
        """Return what this factory founded from `from_block` on, oldest first."""
        logs = read_logs(self.w3, self.address, from_block, topics=["0x" + _CREATED.hex()])
        return [_decode(log) for log in logs]


def known_factory(chain_id: int) -> FactoryLocation | None:
    """Return the factory of a public chain that this version knows; None when it knows none."""
    known = json.loads((CONTRACTS_DIR / "deployments.json").read_text(encoding="utf-8"))
    entry = known.get(str(chain_id))
    return None if entry is None else FactoryLocation(Address(entry["address"]), entry["block"])


def _decode(log: LogReceipt) -> Founded:
    if len(log["topics"]) != 4:
        raise Unavailable(
            "the node's log of FederationCreated does not fit its interface", service="chain"
        )
    # All three fields are indexed: an address is at the end of its topic.
    federation, sponsor, spec_digest = (bytes(topic) for topic in log["topics"][1:4])
    return Founded(
        Address(to_checksum_address(federation[12:])),
        Address(to_checksum_address(sponsor[12:])),
        Digest(spec_digest),
        int(log["blockNumber"]),
    )
