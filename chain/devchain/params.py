"""Reading the parameters of JSON-RPC: hex quantities, data, addresses and block references."""

from dataclasses import dataclass
from typing import Any, Literal

from chain.devchain.rpc_error import invalid_params

Tag = Literal["earliest", "latest", "safe", "finalized", "pending"]
TAGS: tuple[Tag, ...] = ("earliest", "latest", "safe", "finalized", "pending")


@dataclass(frozen=True)
class BlockReference:
    """A block by tag, number or hash: exactly one of the three is set."""

    tag: Tag | None = None
    number: int | None = None
    hash: bytes | None = None

    def __str__(self) -> str:
        if self.hash is not None:
            return "0x" + self.hash.hex()
        return str(self.number if self.tag is None else self.tag)


LATEST = BlockReference(tag="latest")


def read_quantity(value: Any, name: str) -> int:
    """Return the integer of a hex quantity ("0x1f"); a JSON integer is taken as well."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    if isinstance(value, str) and value.startswith(("0x", "0X")) and len(value) > 2:
        try:
            return int(value[2:], 16)
        except ValueError:
            pass
    raise invalid_params(f'{name}: expected a hex quantity such as "0x1f", got {_shown(value)}')


def read_bytes(value: Any, name: str, size: int | None = None) -> bytes:
    """Return the bytes of a hex string with 0x; of exactly `size` bytes when it is given."""
    wanted = "hex data with 0x" if size is None else f"{size} bytes of hex data with 0x"
    if isinstance(value, str) and value.startswith(("0x", "0X")):
        try:
            data = bytes.fromhex(value[2:])
        except ValueError:
            data = None
        if data is not None and (size is None or len(data) == size):
            return data
    raise invalid_params(f"{name}: expected {wanted}, got {_shown(value)}")


def read_address(value: Any, name: str) -> bytes:
    """Return the 20 bytes of an address, in any case of letters."""
    return read_bytes(value, name, 20)


def read_block(value: Any, name: str = "block") -> BlockReference:
    """Return what block is meant: a tag, a quantity, a 32-byte hash, or an EIP-1898 object."""
    if value is None:
        return LATEST
    if isinstance(value, dict):
        if "blockHash" in value:
            return BlockReference(hash=read_bytes(value["blockHash"], name, 32))
        if "blockNumber" in value:
            return read_block(value["blockNumber"], name)
        raise invalid_params(f"{name}: expected blockHash or blockNumber, got {_shown(value)}")
    for tag in TAGS:
        if value == tag:
            return BlockReference(tag=tag)
    if isinstance(value, str) and len(value) == 66:
        return BlockReference(hash=read_bytes(value, name, 32))
    return BlockReference(number=read_quantity(value, name))


def read_flag(value: Any, name: str) -> bool:
    """Return a JSON boolean."""
    if isinstance(value, bool):
        return value
    raise invalid_params(f"{name}: expected true or false, got {_shown(value)}")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
