"""Whether a contract is a federation of this version, byte for byte, before anything is sent to it.

A federation is a minimal proxy (ERC-1167) with its terms behind its code. A look-alike with the
same interface could keep stakes and bonds, so what counts is code: the proxy's, that of the
implementation it calls, and that of each library which is linked into this. And since a proxy of
the right implementation could carry terms that nobody has checked, the event of a factory whose
code is this version's must say that it founded the federation.
"""

from dataclasses import dataclass
from typing import Any, Final
from weakref import WeakKeyDictionary

from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak
from web3 import Web3

from contracts.compiler import Artifact, link, load_artifact
from ethereum.rpc import plain_errors
from protocol.errors import Misconfigured, Unavailable
from protocol.types import Address, UnixTime

IMPLEMENTATION: Final = "Federation"
FACTORY: Final = "Factory"

# https://eips.ethereum.org/EIPS/eip-1167: the 20 bytes between the two are the implementation.
_PROXY_HEAD: Final = bytes.fromhex("363d3d373d3d3d363d73")
_PROXY_TAIL: Final = bytes.fromhex("5af43d82803e903d91602b57fd5bf3")
_PROXY_BYTES: Final = len(_PROXY_HEAD) + 20 + len(_PROXY_TAIL)
# A library's code begins with its own address, so that it can tell a call from a delegated one.
_LIBRARY_HEAD: Final = bytes([0x73]) + bytes(20) + bytes([0x30])
_CREATED: Final = keccak(text="FederationCreated(address,address,bytes32)")

# Code never changes (EIP-6780), so what was compared once on a connection is not read again.
_COMPARED: "WeakKeyDictionary[Web3, set[tuple[str, Address]]]" = WeakKeyDictionary()


@dataclass(frozen=True)
class Founding:
    """Where a federation was founded: the block, and the factory that checked its terms."""

    block: int
    factory: Address


def check_federation(w3: Web3, address: Address) -> None:
    """Raise Misconfigured unless the code at `address` and all that it runs is this version's."""
    compare_code(w3, find_implementation(w3, address), IMPLEMENTATION, f"the contract at {address}")


def find_implementation(w3: Web3, address: Address) -> Address:
    """Return what the proxy at `address` calls; Misconfigured when it is no such proxy."""
    code = _contract_at(w3, address)
    if not code.startswith(_PROXY_HEAD) or code[30:_PROXY_BYTES] != _PROXY_TAIL:
        raise Misconfigured(f"the contract at {address} is not a federation of this version")
    return Address(to_checksum_address(code[len(_PROXY_HEAD) : len(_PROXY_HEAD) + 20]))


def check_factory(w3: Web3, address: Address) -> Address:
    """Return the implementation of a factory; Misconfigured unless both are this version's."""
    code = _contract_at(w3, address)
    compare_code(w3, address, FACTORY, f"the factory at {address}")
    implementation = _immutable(load_artifact(FACTORY), code)
    compare_code(w3, implementation, IMPLEMENTATION, f"the factory at {address}")
    return implementation


def find_founding(w3: Web3, address: Address, created_at: UnixTime, hint: int = 0) -> Founding:
    """Return where a federation was founded, by the event of a factory of this version.

    `created_at` is what the federation itself says; `hint` is the block, if it is known. Raises
    Misconfigured when no factory of this version has founded it.
    """
    with plain_errors():
        head = int(w3.eth.block_number)
        hint = min(hint, head)
        first = hint if _time(w3, hint) == created_at else _first_at(w3, created_at)
        last = first
        # Blocks may share a second, and the hint may be any of them.
        while first > 0 and _time(w3, first - 1) == created_at:
            first -= 1
        while last < head and _time(w3, last + 1) == created_at:
            last += 1
        logs = w3.eth.get_logs(
            {
                "fromBlock": first,
                "toBlock": last,
                "topics": ["0x" + _CREATED.hex(), "0x" + bytes(12).hex() + address[2:].lower()],
            }
        )
    implementation = find_implementation(w3, address)
    for log in logs:
        factory = Address(to_checksum_address(log["address"]))
        try:
            if check_factory(w3, factory) == implementation:
                return Founding(int(log["blockNumber"]), factory)
        except Misconfigured:
            continue  # anybody's contract can emit the same event
    raise Misconfigured(
        f"no factory of this version says that it founded {address}: nobody has checked its terms,"
        f" or the RPC does not have the logs of block {first}"
    )


def compare_code(w3: Web3, address: Address, name: str, what: str) -> None:
    """Raise Misconfigured, about `what`, unless `address` has the code of artifact `name`.

    Each library that is linked into the code is compared as well.
    """
    compared = _COMPARED.setdefault(w3, set())
    if (name, address) in compared:
        return
    artifact, code = load_artifact(name), bytearray(_code_at(w3, address))
    # What the chain's code is linked to, right or wrong: it is compared in its turn.
    linked = {}
    for library, places in artifact["deployedLinkReferences"].items():
        found = bytes(code[places[0]["start"] :][:20]).ljust(20, b"\0")
        linked[library] = Address(to_checksum_address(found))
    hexadecimal = link(artifact["deployedBytecode"], artifact["deployedLinkReferences"], linked)
    expected = bytearray.fromhex(hexadecimal.removeprefix("0x"))
    if expected.startswith(_LIBRARY_HEAD):
        expected[1:21] = bytes.fromhex(address[2:])
    # Filled in at deployment: zero in the artifact, so zero here before comparing.
    for reference in artifact["immutableReferences"]:
        start, length = reference["start"], reference["length"]
        code[start : start + length] = bytes(length)
    if code != expected:
        kind = "factory" if name == FACTORY else "federation"
        part = "" if name in (IMPLEMENTATION, FACTORY) else f": its {name} at {address} differs"
        raise Misconfigured(f"{what} is not a {kind} of this version{part}")
    for library, place in linked.items():
        compare_code(w3, place, library, what)
    compared.add((name, address))


def _immutable(artifact: Artifact, code: bytes) -> Address:
    """Return the address that is the only immutable value in a contract's code."""
    start = artifact["immutableReferences"][0]["start"]
    # The code was compared, perhaps earlier: this answer may be cut short.
    if len(code) < start + 32:
        raise Unavailable(
            "the Ethereum RPC gives only a part of a contract's code", service="chain"
        )
    return Address(to_checksum_address(code[start + 12 : start + 32]))


def _first_at(w3: Web3, time: UnixTime) -> int:
    """Return the first block at `time` or later."""
    # By headers, which every node keeps, and not by the code of old states, which most do not.
    first, last = 0, int(w3.eth.block_number)
    while first < last:
        middle = (first + last) // 2
        if _time(w3, middle) >= time:
            last = middle
        else:
            first = middle + 1
    return first


def _time(w3: Web3, block: int) -> int:
    return int(w3.eth.get_block(block)["timestamp"])


def _contract_at(w3: Web3, address: Address) -> bytes:
    code = _code_at(w3, address)
    if not code:
        raise Misconfigured(
            f"there is no contract at {address}: check the address and which chain the RPC serves"
        )
    return code


def _code_at(w3: Web3, address: Address) -> bytes:
    with plain_errors():
        code: Any = w3.eth.get_code(to_checksum_address(address))
    return bytes(code)
