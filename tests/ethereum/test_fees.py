"""The most that is paid for gas, where nobody has set it."""

from collections.abc import Callable
from typing import Any

import pytest

from ethereum import fees as module
from ethereum.fees import FeeLimit, going_fees
from ethereum.rpc import connect
from protocol.errors import Unavailable
from tests.ethereum.scripted_node import Reply, Request, refusal, result, scripted_node

GWEI = 10**9


def node(base_fees: list[int] | None, latest: int) -> Callable[[Request], Reply]:
    """A node with a history of base fees, or none, and a latest block."""
    block = {"number": "0x1", "hash": "0x" + "11" * 32, "timestamp": "0x1"}
    answers: dict[str, Any] = {
        "eth_chainId": result("0x1"),
        "eth_getBlockByNumber": result({**block, "baseFeePerGas": hex(latest)}),
        "eth_maxPriorityFeePerGas": result(hex(GWEI)),
        "eth_feeHistory": refusal(-32601, "the method does not exist")
        if base_fees is None
        else result(
            {
                "oldestBlock": "0x0",
                "baseFeePerGas": list(map(hex, base_fees)),
                "gasUsedRatio": [0] * len(base_fees),
                "baseFeePerBlobGas": ["0x1"] * len(base_fees),
                "blobGasUsedRatio": [0] * len(base_fees),
            }
        ),
    }
    return lambda request: answers[request["method"]]


@pytest.mark.parametrize(
    ("base_fees", "latest", "limit"),
    [
        ([20 * GWEI] * 9, 20 * GWEI, 200 * GWEI),
        # Neither one block nor a few move a median.
        ([20 * GWEI] * 5 + [998 * GWEI] * 4, 998 * GWEI, 200 * GWEI),
        ([7] * 9, 7, 10 * GWEI),
        ([7] * 1_025, 7, 10 * GWEI),  # so many short numbers are an answer all the same
        ([900 * GWEI] * 9, 900 * GWEI, 1_000 * GWEI),
        ([], 3 * GWEI, 30 * GWEI),
        (None, 3 * GWEI, 30 * GWEI),
    ],
)
def test_the_limit_follows_what_gas_usually_costs(
    base_fees: list[int] | None, latest: int, limit: int
) -> None:
    with scripted_node(node(base_fees, latest)) as served:
        found = FeeLimit(connect(served.url), None)
        assert found.value == limit
        assert "times the median base fee" in found.reason


def test_a_price_beyond_it_is_not_believed() -> None:
    with scripted_node(node([20 * GWEI] * 9, 998 * GWEI)) as served:
        w3 = connect(served.url)
        with pytest.raises(Unavailable, match=r"gas costs 999,000,000,000 .* limit is 200,000,000"):
            going_fees(w3, 998 * GWEI, FeeLimit(w3, None).value)


def test_what_is_set_is_the_limit_and_the_node_is_not_asked() -> None:
    with scripted_node(node(None, 3 * GWEI)) as served:
        w3 = connect(served.url)
        assert FeeLimit(w3, 5).value == 5
        assert served.methods() == ["eth_chainId"]


def test_it_is_read_again_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    with scripted_node(node([20 * GWEI] * 9, 20 * GWEI)) as served:
        limit = FeeLimit(connect(served.url), None)
        for _ in range(3):
            assert limit.value == 200 * GWEI
        assert served.methods().count("eth_feeHistory") == 1
        monkeypatch.setattr(module, "_FRESH_SECONDS", 0.0)
        assert limit.value == 200 * GWEI
        assert served.methods().count("eth_feeHistory") == 2
