"""A contract on the chain: calls by name, typed errors, and a check that it is there at all."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

from eth_utils.address import to_checksum_address
from web3 import Web3
from web3.contract import Contract
from web3.exceptions import MismatchedABI, Web3ValidationError

from contracts.compiler import load_artifact
from ethereum.rpc import plain_errors
from ethereum.transactions import Receipt, Sender
from protocol.errors import Misconfigured
from protocol.types import Address


class ContractClient:
    """What the clients of one contract share: reads pinned to a block, writes by a wallet."""

    def __init__(self, w3: Web3, address: Address, artifact: str, sender: Sender | None) -> None:
        self.w3 = w3
        self.address = address
        self.block: int | None = None  # reads are of this block; of the latest when it is None
        self._sender = sender
        self._contract: Contract = w3.eth.contract(
            address=to_checksum_address(address), abi=load_artifact(artifact)["abi"]
        )

    @cached_property
    def chain_id(self) -> int:
        """The chain that the contract is on; asked for once."""
        with plain_errors():
            return int(self.w3.eth.chain_id)

    @property
    def head(self) -> int:
        """The block that this client reads from, or the latest."""
        if self.block is not None:
            return self.block
        with plain_errors():
            return int(self.w3.eth.block_number)

    @property
    def sender(self) -> Sender:
        """Who writes; Misconfigured when the client was made without a wallet."""
        if self._sender is None:
            raise Misconfigured(
                f"{self.address} was opened for reading: sending a transaction needs a wallet"
            )
        return self._sender

    def _read(self, name: str, *values: object, block: int | None = None) -> Any:
        """Return what a view function answers at `block`, else at `self.block`, else at the latest.

        Never at "pending": what waits in the pool is anybody's to replace.
        """
        chosen = self.block if block is None else block
        with plain_errors():
            return self._function(name, values).call(
                block_identifier="latest" if chosen is None else chosen
            )

    def _dry_run(self, name: str, *values: object) -> None:
        """Raise the Reverted that sending this call would end in now, if it would."""
        with plain_errors():
            self._function(name, values).call({"from": to_checksum_address(self.sender.address)})

    def _write(self, name: str, *values: object) -> Receipt:
        """Send a call and return its receipt. Raises as `Sender.send` does."""
        with _fitting(name, values):
            data = self._contract.encode_abi(name, args=values)
        return self.sender.send(self.address, bytes.fromhex(data.removeprefix("0x")))

    def _function(self, name: str, values: Sequence[object]) -> Any:
        with _fitting(name, values):
            return self._contract.functions[name](*values)


@contextmanager
def _fitting(name: str, values: Sequence[object]) -> Iterator[None]:
    """Turn what web3 says of values of the wrong type or size into Misconfigured."""
    try:
        yield
    except (MismatchedABI, Web3ValidationError) as error:
        # Bytes by their length only: one may be a salt that nobody should see yet.
        shown = ", ".join(
            f"{len(value)} bytes" if isinstance(value, bytes) else repr(value) for value in values
        )
        raise Misconfigured(f"the contract's {name} does not take ({shown})") from error
