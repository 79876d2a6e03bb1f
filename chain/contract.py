"""A contract on the chain: calls by name and typed errors."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, cached_property
from typing import Any, TypeVar

from eth_utils.address import to_checksum_address
from web3 import Web3
from web3.contract import Contract
from web3.exceptions import MismatchedABI, Web3ValidationError

from contracts.compiler import load_artifact
from ethereum.rpc import plain_errors
from ethereum.transactions import Receipt, Sender
from protocol.errors import Misconfigured, Unavailable
from protocol.types import Address

T = TypeVar("T")


class ContractClient:
    """The base of the clients: reads pinned to a block, writes by a wallet."""

    def __init__(self, w3: Web3, address: Address, artifact: str, sender: Sender | None) -> None:
        self.w3 = w3
        self.address = address
        self.block: int | None = None  # reads are of this block; of the latest when it is None
        self._sender = sender
        self._artifact = artifact

    @cached_property
    def chain_id(self) -> int:
        """The chain that the contract is on; asked for once."""
        with plain_errors():
            return int(self.w3.eth.chain_id)

    @property
    def head(self) -> int:
        """The number of the block that this client reads from, or else of the latest."""
        if self.block is not None:
            return self.block
        with plain_errors():
            return int(self.w3.eth.block_number)

    @property
    def sender(self) -> Sender:
        """The sender of transactions; Misconfigured when the client has no wallet."""
        if self._sender is None:
            raise Misconfigured(
                f"{self.address} was opened for reading: sending a transaction needs a wallet"
            )
        return self._sender

    def _read(self, name: str, *values: object, block: int | None = None) -> Any:
        """Return a view function's answer at `block`, else at `self.block`, else at the latest.

        Never at "pending": what waits in the pool may still be replaced by anybody.
        """
        chosen = self.block if block is None else block
        with plain_errors():
            return self._function(name, values).call(
                block_identifier="latest" if chosen is None else chosen
            )

    def _read_as(
        self, kind: Callable[[Any], T], name: str, *values: object, block: int | None = None
    ) -> T:
        """Return what `kind` makes of a view function's answer; read as by `_read`.

        Raises Unavailable when it is none: the node's fault, as the contract's code was compared.
        """
        answer = self._read(name, *values, block=block)
        try:
            return kind(answer)
        except (ValueError, TypeError) as error:
            raise Unavailable(
                f"the node's answer to {name} does not fit the contract's interface: {error}",
                service="chain",
            ) from error

    def _dry_run(self, name: str, *values: object) -> None:
        """Raise the Reverted that this call would end in if it were sent now."""
        with plain_errors():
            self._function(name, values).call({"from": to_checksum_address(self.sender.address)})

    def _write(self, name: str, *values: object) -> Receipt:
        """Send a call and return its receipt; raises as `Sender.send` does."""
        with _fitting(name, values):
            data = self._contract(name).encode_abi(name, args=values)
        return self.sender.send(self.address, bytes.fromhex(data.removeprefix("0x")))

    def _function(self, name: str, values: Sequence[object]) -> Any:
        with _fitting(name, values):
            return self._contract(name).functions[name](*values)

    def _contract(self, name: str) -> Contract:
        """Return the contract as if the function `name` were all it had."""
        # web3 checks and hashes every entry of the ABI it is given, when it makes a contract and
        # again at each call. With the federation's whole ABI a client takes three times as long to
        # open, and a read a sixth longer.
        return self.w3.eth.contract(
            address=to_checksum_address(self.address), abi=_entries(self._artifact)[name]
        )


@cache
def _entries(artifact: str) -> dict[str, list[Any]]:
    """Return a contract's functions by name: a list, since names may be overloaded."""
    found: dict[str, list[Any]] = {}
    for entry in load_artifact(artifact)["abi"]:
        if entry["type"] == "function":
            found.setdefault(entry["name"], []).append(entry)
    return found


@contextmanager
def _fitting(name: str, values: Sequence[object]) -> Iterator[None]:
    """Turn web3's complaints of values of the wrong type or size into Misconfigured."""
    try:
        yield
    except (MismatchedABI, Web3ValidationError) as error:
        # Bytes by their length only: they may be a salt, which is still secret.
        shown = ", ".join(
            f"{len(value)} bytes" if isinstance(value, bytes) else repr(value) for value in values
        )
        raise Misconfigured(f"the contract's {name} does not take ({shown})") from error
