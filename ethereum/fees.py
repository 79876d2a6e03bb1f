"""The fees that a transaction offers (EIP-1559), whichever fee methods the node serves.

The tip is the node's suggestion (eth_maxPriorityFeePerGas), or else its gas price less the base
fee, or else nothing. The most in all is twice the base fee plus the tip, within the wallet's limit:
six full blocks in a row cannot outrun it.
"""

import math
import time
from contextlib import suppress
from dataclasses import dataclass
from statistics import median
from typing import Final

from web3 import Web3
from web3.exceptions import Web3RPCError
from web3.types import RPCEndpoint

from ethereum.rpc import plain_errors
from protocol.errors import Misconfigured, Unavailable

# Pools ask for 10% more to replace a transaction, some for 25% or 100%: each step continues from
# what the one before offered.
STEPS: Final = ((9, 8), (5, 4), (3, 2), (2, 1))
_CAP_STEP: Final = (7, 8)

_MULTIPLE: Final = 10
_LEAST_LIMIT: Final = 10 * 10**9  # wei; where gas costs next to nothing, ten times that is no limit
_MOST_LIMIT: Final = 1_000 * 10**9
_HISTORY_BLOCKS: Final = 1_024  # as many as every node answers at once
_FRESH_SECONDS: Final = 600.0


@dataclass(frozen=True)
class Fees:
    """What a transaction offers, in wei per unit of gas: the tip, and the most in all."""

    tip: int
    most: int


@dataclass(frozen=True)
class Head:
    """The latest block: its number, and its base fee in wei per unit of gas."""

    number: int
    base_fee: int


class FeeLimit:
    """The most to offer for a unit of gas, in wei: `fixed`, or ten times what gas usually costs.

    That is the median base fee of the last 1,024 blocks, so that a single false answer, or an hour
    in which everybody bids, does not empty the wallet.
    """

    def __init__(self, w3: Web3, fixed: int | None) -> None:
        self._w3 = w3
        self._fixed = fixed
        self._value = 0
        self._read_at = -math.inf
        self.reason = "as set"

    @property
    def value(self) -> int:
        """The limit now; raises Unavailable when the node has never said what gas costs."""
        if self._fixed is not None:
            return self._fixed
        if time.monotonic() - self._read_at >= _FRESH_SECONDS:
            usual = _usual_base_fee(self._w3)
            self._value = min(max(_MULTIPLE * usual, _LEAST_LIMIT), _MOST_LIMIT)
            self._read_at = time.monotonic()
            self.reason = (
                f"{_MULTIPLE} times the median base fee of {usual:,} wei, within"
                f" {_LEAST_LIMIT:,} and {_MOST_LIMIT:,}: set max_fee_gwei for another"
            )
        return self._value


def _usual_base_fee(w3: Web3) -> int:
    """Return the median base fee of recent blocks, or the latest where the node has no history."""
    with plain_errors():
        try:
            method, params = RPCEndpoint("eth_feeHistory"), [hex(_HISTORY_BLOCKS), "latest", []]
            fees = w3.manager.request_blocking(method, params)["baseFeePerGas"]
        except Web3RPCError:
            fees = []
    return int(median(int(fee, 16) for fee in fees)) if fees else read_head(w3).base_fee


def read_head(w3: Web3) -> Head:
    """Return the latest block; Misconfigured on a chain without EIP-1559."""
    with plain_errors():
        block = w3.eth.get_block("latest")
    base = block.get("baseFeePerGas")
    if base is None:
        raise Misconfigured("the chain has no base fee: one with EIP-1559 was expected")
    return Head(int(block["number"]), int(base))


def going_fees(w3: Web3, base_fee: int, limit: int) -> Fees:
    """Return what to offer now; Unavailable when the base fee and the tip exceed `limit`."""
    tip = 0
    with plain_errors():
        try:
            # Not w3.eth.max_priority_fee: it prints a warning and tries another optional method.
            method = RPCEndpoint("eth_maxPriorityFeePerGas")
            tip = int(str(w3.manager.request_blocking(method, [])), 16)
        except (Web3RPCError, ValueError):
            with suppress(Web3RPCError):
                tip = max(0, int(w3.eth.gas_price) - base_fee)
    if base_fee + tip > limit:
        raise Unavailable(
            f"gas costs {base_fee + tip:,} wei per unit now, the limit is {limit:,}:"
            " wait or raise it",
            service="chain",
        )
    return Fees(tip, min(2 * base_fee + tip, limit))


def raise_fees(
    before: Fees, at_least: Fees, limit: int, step: int = 0, *, tip_alone: bool = False
) -> Fees | None:
    """Return higher fees than `before`, by step `step` of STEPS, and no less than `at_least`.

    None when `limit` leaves no room. With `tip_alone` the tip still rises at the limit, which
    replaces nothing but gets a transaction into a full pool.
    """
    # Tip and most together: pools compare both with what they are to replace. Plus one, since the
    # product is rounded down.
    factor = STEPS[min(step, len(STEPS) - 1)]
    most = min(max(_times(before.most, factor) + 1, at_least.most), limit)
    tip = min(max(_times(before.tip, factor) + 1, at_least.tip), most)
    if most > before.most or (tip_alone and most == before.most and tip > before.tip):
        return Fees(tip, most)
    return None


def lower_fees(before: Fees, base_fee: int) -> Fees | None:
    """Return an eighth less than `before`, for a node that caps fees.

    None when `before` is at most the base fee and the tip already.
    """
    needed = base_fee + before.tip
    if before.most <= needed:
        return None
    return Fees(before.tip, max(needed, _times(before.most, _CAP_STEP)))


def _times(fee: int, factor: tuple[int, int]) -> int:
    return fee * factor[0] // factor[1]
