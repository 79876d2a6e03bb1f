"""The methods about gas prices."""

from typing import Any

from chain.devchain.ledger import Block
from chain.devchain.node import Node
from chain.devchain.params import read_block, read_quantity
from chain.devchain.rpc_error import invalid_params
from chain.devchain.table import rpc

SUGGESTED_TIP_WEI = 10**9
MAX_HISTORY_BLOCKS = 1024


@rpc("eth_gasPrice")
def gas_price(node: Node) -> str:
    """Return the next base fee and the suggested tip together."""
    return hex(node.next_header().base_fee_per_gas + SUGGESTED_TIP_WEI)


@rpc("eth_maxPriorityFeePerGas")
def max_priority_fee(node: Node) -> str:
    """Return the suggested tip: 1 gwei. Nobody competes here, any tip will do."""
    return hex(SUGGESTED_TIP_WEI)


@rpc("eth_blobBaseFee")
def blob_base_fee(node: Node) -> str:
    """Return the least blob fee: there are no blobs here."""
    return "0x1"


@rpc("eth_feeHistory")
def fee_history(node: Node, count: Any, newest: Any, percentiles: Any = None) -> dict[str, Any]:
    """Return base fees, fullness and, for each percentile asked, tips of the last blocks."""
    last = node.find_block(read_block(newest)).number
    size = min(read_quantity(count, "block count"), MAX_HISTORY_BLOCKS, last + 1)
    wanted = _read_percentiles(percentiles)
    blocks = node.ledger.blocks[last + 1 - size : last + 1]
    following = node.ledger.blocks[last + 1 : last + 2]
    next_header = following[0].header if following else node.next_header()
    base_fees = [block.header.base_fee_per_gas for block in blocks]
    history: dict[str, Any] = {
        "oldestBlock": hex(last + 1 - size),
        "baseFeePerGas": [hex(fee) for fee in [*base_fees, next_header.base_fee_per_gas]],
        "gasUsedRatio": [block.header.gas_used / block.header.gas_limit for block in blocks],
        "baseFeePerBlobGas": ["0x1"] * (size + 1),
        "blobGasUsedRatio": [0.0] * size,
    }
    if wanted:
        history["reward"] = [[hex(tip) for tip in _tips(block, wanted)] for block in blocks]
    return history


def _read_percentiles(values: Any) -> list[float]:
    wanted = values or []
    if not isinstance(wanted, list) or len(wanted) > 100:
        raise invalid_params("reward percentiles: expected a list of at most 100")
    for value in wanted:
        if not isinstance(value, (int, float)) or not 0 <= value <= 100:
            raise invalid_params("reward percentiles: expected numbers from 0 to 100")
    if wanted != sorted(wanted):
        raise invalid_params("reward percentiles: expected rising numbers")
    return wanted


def _tips(block: Block, percentiles: list[float]) -> list[int]:
    """Return the tip paid at each percentile of the block's gas; 0 for an empty block."""
    base_fee = block.header.base_fee_per_gas
    paid = sorted((item.gas_price - base_fee, item.gas_used) for item in block.transactions)
    tips = []
    for percentile in percentiles:
        threshold = block.header.gas_used * percentile / 100
        chosen = seen = 0
        for tip, gas_used in paid:
            chosen = tip
            seen += gas_used
            if seen >= threshold:
                break
        tips.append(chosen)
    return tips
