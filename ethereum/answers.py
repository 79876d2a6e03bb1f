"""The form of a node's answers: checked once, before anything else reads them.

    check_result("eth_blockNumber", ["latest"], "0x1f")       # "0x1f"
    check_result("eth_blockNumber", ["latest"], None)         # raises ValueError

Of a block, a receipt, a log or a transaction only the fields in use are kept, so that nothing
depends on the others: chains add fields of their own, and some fill known ones in their own way.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

Check = Callable[[Any], Any]
"""Returns a value in its expected form; raises ValueError with what was expected otherwise."""

MOST_UNIT_PRICE: Final = 2**96
"""Wei per unit of gas: a price above is no price, and would not fit the arithmetic of fees."""
_YEAR_10000: Final = 253_402_300_800  # beyond it no date can be shown
_NO_BLOCK: Final = 2**64  # later than any
_SHOWN: Final = 40


def check_result(method: str, params: list[Any], result: Any) -> Any:
    """Return the result of `method` with the fields in use; ValueError says what is out of form.

    The results of methods that are not listed here are returned as they are.
    """
    check = _RESULTS.get(method)
    if check is None:
        return result
    checked = check(result)
    if method == "eth_getBlockByNumber" and checked is not None:
        _check_block(params, checked)
    if method == "eth_getLogs":
        _check_logs(params, checked)
    # Without both it is the receipt of a waiting transaction.
    is_receipt = method == "eth_getTransactionReceipt" and checked is not None
    if is_receipt and ("blockNumber" in checked) != ("blockHash" in checked):
        raise ValueError("a receipt with half of a block")
    return checked


def _check_block(params: list[Any], block: Mapping[str, Any]) -> None:
    """Raise ValueError unless a block that is not pending has a hash and the number asked for."""
    asked = params[0]
    if asked == "pending":
        return
    for name in ("number", "hash"):
        if name not in block:
            raise ValueError(f"{name}: None in a block that is mined")
    if asked.startswith("0x") and block["number"] != asked:
        raise ValueError(f"block {block['number']}, {asked} was asked for")


def _check_logs(params: list[Any], logs: list[Any]) -> None:
    """Raise ValueError for a log of another contract or block than was asked for."""
    query = params[0]
    first, last = _block_number(query, "fromBlock", 0), _block_number(query, "toBlock", _NO_BLOCK)
    named = query.get("address", [])
    addresses = {each.lower() for each in ([named] if isinstance(named, str) else named)}
    for log in logs:
        if not first <= int(log["blockNumber"], 16) <= last:
            raise ValueError(f"a log of block {int(log['blockNumber'], 16)}, not {first} to {last}")
        if addresses and log["address"].lower() not in addresses:
            raise ValueError(f"a log of {log['address']}, which was not asked for")


def _block_number(query: Mapping[str, Any], name: str, otherwise: int) -> int:
    """Return a bound of a query for logs, `otherwise` where it names no number."""
    value = query.get(name, "latest")
    return int(value, 16) if value.startswith("0x") else otherwise


def _quantity(most: int) -> Check:
    def check(value: Any) -> str:
        if not isinstance(value, str) or re.fullmatch(r"0x[0-9a-fA-F]{1,64}", value) is None:
            raise ValueError(f"{_shown(value)} is not a quantity")
        number = int(value, 16)
        if number > most:
            raise ValueError(f"{_shown(value)} is more than {most:#x}")
        return hex(number)

    return check


def _data(size: int | None = None) -> Check:
    def check(value: Any) -> str:
        pattern = r"0x([0-9a-fA-F]{2})*"
        if not isinstance(value, str) or re.fullmatch(pattern, value) is None:
            raise ValueError(f"{_shown(value)} is not hex data")
        if size is not None and len(value) != 2 + 2 * size:
            raise ValueError(f"{_shown(value)} does not have {size} bytes")
        return value

    return check


def _optional(check: Check) -> Check:
    return lambda value: None if value is None else check(value)


def _listed(check: Check, most: int | None = None) -> Check:
    def check_all(values: Any) -> list[Any]:
        if not isinstance(values, list) or (most is not None and len(values) > most):
            raise ValueError(f"{_shown(values)} is not a list of the expected length")
        return [check(value) for value in values]

    return check_all


def _object(required: Mapping[str, Check], optional: Mapping[str, Check]) -> Check:
    """Keep the named fields; an optional one that is null counts as left out."""

    def check(value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise ValueError(f"{_shown(value)} is not an object")
        kept = {}
        for fields, is_required in ((required, True), (optional, False)):
            for name, check_field in fields.items():
                if is_required or value.get(name) is not None:
                    try:
                        kept[name] = check_field(value.get(name))
                    except ValueError as error:
                        raise ValueError(f"{name}: {error}") from None
        return kept

    return check


def _by_nonce(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{_shown(value)} is not an object")
    return {nonce: _WAITING(waiting) for nonce, waiting in value.items()}


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{_shown(value)} is neither true nor false")
    return value


def _shown(value: Any) -> str:
    text = ascii(value)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"


_NUMBER: Final = _quantity(2**64 - 1)
_PRICE: Final = _quantity(MOST_UNIT_PRICE)
_WEI: Final = _quantity(2**256 - 1)
_HASH: Final = _data(32)
_ADDRESS: Final = _data(20)

_LOG: Final = _object(
    {
        "address": _ADDRESS,
        "topics": _listed(_HASH, most=4),
        "data": _data(),
        "blockNumber": _NUMBER,
        "blockHash": _HASH,
        "transactionHash": _HASH,
        "transactionIndex": _NUMBER,
        "logIndex": _NUMBER,
    },
    {"removed": _flag},
)

_WAITING: Final = _object(
    {"hash": _HASH},
    {"maxFeePerGas": _PRICE, "maxPriorityFeePerGas": _PRICE, "gasPrice": _PRICE},
)

_RESULTS: Final[Mapping[str, Check]] = {
    "eth_chainId": _NUMBER,
    "eth_blockNumber": _NUMBER,
    "eth_gasPrice": _PRICE,
    "eth_maxPriorityFeePerGas": _PRICE,
    "eth_feeHistory": _object({"baseFeePerGas": _listed(_PRICE, most=1_025)}, {}),
    "eth_getBalance": _WEI,
    "eth_getTransactionCount": _NUMBER,
    "eth_estimateGas": _NUMBER,
    "eth_getCode": _data(),
    "eth_call": _data(),
    "eth_sendRawTransaction": _HASH,
    "eth_getLogs": _listed(_LOG),
    # Of a pending block hash and number are null; it is asked for its time only.
    "eth_getBlockByNumber": _optional(
        _object(
            {"timestamp": _quantity(_YEAR_10000)},
            {
                "number": _NUMBER,
                "hash": _HASH,
                "mixHash": _HASH,
                "difficulty": _WEI,
                "baseFeePerGas": _PRICE,
                "gasUsed": _NUMBER,
                "gasLimit": _NUMBER,
            },
        )
    ),
    "eth_getTransactionBySenderAndNonce": _optional(_WAITING),
    "txpool_contentFrom": _object({"pending": _by_nonce, "queued": _by_nonce}, {}),
    "eth_getTransactionByHash": _optional(
        _object(
            {"hash": _HASH},
            {
                "blockNumber": _NUMBER,
                "from": _ADDRESS,
                "to": _ADDRESS,
                "value": _WEI,
                "nonce": _NUMBER,
                "type": _NUMBER,
                "gas": _NUMBER,
                "maxPriorityFeePerGas": _PRICE,
            },
        )
    ),
    "eth_getTransactionReceipt": _optional(
        _object(
            {
                "transactionHash": _HASH,
                "gasUsed": _NUMBER,
                "status": _quantity(1),
                "logs": _listed(_LOG),
            },
            {
                "blockNumber": _NUMBER,
                "blockHash": _HASH,
                "contractAddress": _ADDRESS,
                "effectiveGasPrice": _PRICE,
            },
        )
    ),
}
