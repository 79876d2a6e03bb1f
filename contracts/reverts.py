"""Why a contract refused: its error by name, its values by type, and a line that names both.

Covers every error that a committed artifact declares, those of the federation, its factory and its
libraries and OpenZeppelin's ERC-20, and `Error(string)` and `Panic`.

    try:
        federation.commit(round_id, commitment)
    except Reverted as error:
        error.name        # "WrongStatus"
        error.arguments   # {"round": 3, "required": Status.COMMIT, "actual": Status.REVEAL}
        str(error)        # "round 3 is in Reveal, this call needs Commit"
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from typing import Any

from eth_abi.abi import decode
from eth_abi.exceptions import DecodingError
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak
from web3.exceptions import ContractLogicError, Web3RPCError

from contracts.compiler import artifact_names, load_artifact
from contracts.enums import AggregatorState, Privacy, RequestState, Status, SubmissionState
from contracts.names import snake_case
from contracts.revert_texts import PANICS, describe
from protocol.errors import CommonweightError

UNKNOWN = "Unknown"
"""The `name` of a revert without data or with an error of another contract."""

_ENUMS: dict[str, type[IntEnum]] = {
    "enum IFederation.Status": Status,
    "enum IFederation.SubmissionState": SubmissionState,
    "enum IFederation.AggregatorState": AggregatorState,
    "enum IFederation.Privacy": Privacy,
    "enum IFederation.RequestState": RequestState,
}


class Reverted(CommonweightError):
    """A contract refused; nothing changed. See the module for `name` and `arguments`."""

    def __init__(self, name: str, arguments: Mapping[str, Any], text: str) -> None:
        super().__init__(text)
        self.name = name
        self.arguments = dict(arguments)


@dataclass(frozen=True)
class _ErrorType:
    name: str
    fields: tuple[str, ...]
    types: tuple[str, ...]
    readers: tuple[Callable[[Any], Any], ...]


def decode_revert(data: bytes) -> Reverted:
    """Return the error that a contract's revert data encodes; `Unknown` for any other."""
    if not data:
        return Reverted(UNKNOWN, {}, "the contract reverted without saying why")
    shown = {"data": "0x" + data.hex()}
    kind = _error_types().get(data[:4])
    if kind is None:
        return Reverted(
            UNKNOWN, shown, f"the contract reverted with the unknown error {shown['data']}"
        )
    try:
        values = decode(kind.types, data[4:])
        read = [reader(value) for reader, value in zip(kind.readers, values, strict=True)]
    except (DecodingError, ValueError, UnicodeDecodeError):
        # The data is the contract's word, and it may be anybody's contract.
        return Reverted(UNKNOWN, shown, f"the contract reverted with a malformed {kind.name}")
    arguments: dict[str, Any] = dict(zip(kind.fields, read, strict=True))
    if kind.name == "Panic":
        arguments["reason"] = PANICS.get(arguments["code"], "for an unknown reason")
    return Reverted(kind.name, arguments, describe(kind.name, arguments))


def find_revert_data(error: ContractLogicError | Web3RPCError) -> bytes | None:
    """Return the revert data in what web3 raised, or None."""
    # Nodes put it in different places: as the error's data, in a field of it, or after a word.
    found: object
    if isinstance(error, ContractLogicError):
        found = error.data
    else:
        reported = (error.rpc_response or {}).get("error")
        found = reported.get("data") if isinstance(reported, dict) else None
    if isinstance(found, dict):
        found = found.get("data", found.get("result"))
    if not isinstance(found, str):
        return None
    digits = found.removeprefix("Reverted ").removeprefix("0x")
    try:
        return bytes.fromhex(digits) if found != digits else None  # hex without a prefix is text
    except ValueError:
        return None


@cache
def known_errors(artifact: str) -> frozenset[str]:
    """Return the names of the errors that a contract's own ABI declares."""
    return frozenset(entry["name"] for entry in _error_entries(artifact))


def _error_entries(artifact: str) -> list[dict[str, Any]]:
    return [entry for entry in load_artifact(artifact)["abi"] if entry["type"] == "error"]


@cache
def _error_types() -> dict[bytes, _ErrorType]:
    # Their selectors follow from names and types, so the ABI is all that is needed.
    entries = [
        *(entry for name in artifact_names() for entry in _error_entries(name)),
        {"name": "Error", "inputs": [{"name": "message", "type": "string"}]},
        {"name": "Panic", "inputs": [{"name": "code", "type": "uint256"}]},
    ]
    known = {}
    for entry in entries:
        inputs = entry["inputs"]
        types = tuple(field["type"] for field in inputs)
        # What a value becomes beyond its ABI type: an enum, an address with capitals, a word.
        readers: list[Callable[[Any], Any]] = []
        for field in inputs:
            if field.get("internalType") in _ENUMS:
                readers.append(_ENUMS[field["internalType"]])
            elif field["type"] == "address":
                readers.append(to_checksum_address)
            elif field["name"] == "term":  # a bytes32 of ASCII, such as "stake"
                readers.append(lambda value: value.rstrip(b"\0").decode("ascii"))
            else:
                readers.append(lambda value: value)
        selector = keccak(text=f"{entry['name']}({','.join(types)})")[:4]
        known[selector] = _ErrorType(
            name=entry["name"],
            fields=tuple(snake_case(field["name"]) for field in inputs),
            types=types,
            readers=tuple(readers),
        )
    return known
