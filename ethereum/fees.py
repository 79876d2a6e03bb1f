"""What a transaction offers for its gas (EIP-1559), whichever fee methods the node serves.

The tip is what the node suggests (eth_maxPriorityFeePerGas), or else its gas price less the base
fee, or else nothing. The most in all is twice the base fee and the tip, within the wallet's limit:
six full blocks in a row cannot outrun it.
"""

from dataclasses import dataclass
from typing import Final

from web3 import Web3
from web3.exceptions import Web3RPCError
from web3.types import RPCEndpoint

from ethereum.rpc import plain_errors
from protocol.errors import Misconfigured, Unavailable

# Pools ask for 10% more to replace a transaction, some for 25% or 100%: each step goes on from what
# the one before offered.
STEPS: Final = ((9, 8), (5, 4), (3, 2), (2, 1))
_CAP_STEP: Final = (7, 8)


@dataclass(frozen=True)
class Fees:
    """What a transaction offers, in wei a unit of gas: the tip, and the most in all."""

    tip: int
    most: int


@dataclass(frozen=True)
class Head:
    """The latest block: its number, and its base fee in wei a unit of gas."""

    number: int
    base_fee: int


def read_head(w3: Web3) -> Head:
    """Return the latest block. Misconfigured on a chain without EIP-1559."""
    with plain_errors():
        block = w3.eth.get_block("latest")
    base = block.get("baseFeePerGas")
    if base is None:
        raise Misconfigured("the chain has no base fee: one with EIP-1559 was expected")
    return Head(int(block["number"]), int(base))


def going_fees(w3: Web3, base_fee: int, limit: int) -> Fees:
    """Return what to offer now. Unavailable when the base fee and the tip exceed `limit`."""
    tip = _suggested_tip(w3, base_fee)
    if base_fee + tip > limit:
        raise Unavailable(
            f"gas costs {base_fee + tip:,} wei a unit now, the limit is {limit:,}:"
            " wait or raise it",
            service="chain",
        )
    return Fees(tip, min(2 * base_fee + tip, limit))


def raise_fees(
    before: Fees, at_least: Fees, limit: int, step: int = 0, *, tip_alone: bool = False
) -> Fees | None:
    """Return higher fees than `before`, by step `step` of STEPS and from `at_least` upwards.

    None when `limit` leaves no room. With `tip_alone` the tip still rises at the limit, which
    replaces nothing but gets a transaction into a full pool.
    """
    factor = STEPS[min(step, len(STEPS) - 1)]
    most = min(max(_times(before.most, factor) + 1, at_least.most), limit)
    tip = min(max(_times(before.tip, factor) + 1, at_least.tip), most)
    if most > before.most or (tip_alone and most == before.most and tip > before.tip):
        return Fees(tip, most)
    return None


def lower_fees(before: Fees, base_fee: int) -> Fees | None:
    """Return an eighth less than `before`, for a node that caps fees.

    None when it is no more than the base fee and the tip already.
    """
    needed = base_fee + before.tip
    if before.most <= needed:
        return None
    return Fees(before.tip, max(needed, _times(before.most, _CAP_STEP)))


def _suggested_tip(w3: Web3, base_fee: int) -> int:
    # Not w3.eth.max_priority_fee: it prints a warning and goes on to another optional method.
    with plain_errors():
        try:
            method = RPCEndpoint("eth_maxPriorityFeePerGas")
            return int(str(w3.manager.request_blocking(method, [])), 16)
        except (Web3RPCError, ValueError):
            pass
        try:
            return max(0, int(w3.eth.gas_price) - base_fee)
        except Web3RPCError:
            return 0


def _times(fee: int, factor: tuple[int, int]) -> int:
    return fee * factor[0] // factor[1]
