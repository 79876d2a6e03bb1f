"""The boundary of JSON-RPC: an answer has the form of its method, or it is none."""

import gzip
import resource
from typing import Any

import pytest
from web3 import Web3

from ethereum.answers import check_result
from ethereum.rpc import MAX_ANSWER_BYTES, connect, plain_errors
from protocol.errors import Unavailable
from tests.ethereum.scripted_node import Reply, Request, result, scripted_node

HASH = "0x" + "11" * 32
ADDRESS = "0x" + "22" * 20
LOG = {
    "address": ADDRESS,
    "topics": [HASH],
    "data": "0x",
    "blockNumber": "0x9",
    "blockHash": HASH,
    "transactionHash": HASH,
    "transactionIndex": "0x0",
    "logIndex": "0x0",
    "removed": False,
}
BLOCK = {"number": "0x9", "hash": HASH, "timestamp": "0x10", "baseFeePerGas": "0x7"}
RECEIPT = {
    "transactionHash": HASH,
    "gasUsed": "0x5208",
    "status": "0x1",
    "logs": [LOG],
    "blockNumber": "0x9",
    "blockHash": HASH,
}
RANGE = [{"fromBlock": "0x0", "toBlock": "0x9", "address": ADDRESS}]

GOOD: dict[str, tuple[list[Any], Any]] = {
    "eth_chainId": ([], "0x1"),
    "eth_blockNumber": ([], "0x9"),
    "eth_gasPrice": ([], "0x3b9aca00"),
    "eth_maxPriorityFeePerGas": ([], "0x0"),
    "eth_feeHistory": (["0x1", "latest", []], {"baseFeePerGas": ["0x7", "0x8"]}),
    "eth_getBalance": ([ADDRESS, "latest"], "0x" + "f" * 64),
    "eth_getTransactionCount": ([ADDRESS, "latest"], "0x1"),
    "eth_estimateGas": ([{}], "0x5208"),
    "eth_getCode": ([ADDRESS, "latest"], "0x"),
    "eth_call": ([{}, "latest"], "0x" + "00" * 64),
    "eth_sendRawTransaction": (["0x"], HASH),
    "eth_getLogs": (RANGE, [LOG]),
    "eth_getBlockByNumber": (["0x9", False], BLOCK),
    "eth_getTransactionByHash": ([HASH], {"hash": HASH}),
    "eth_getTransactionReceipt": ([HASH], RECEIPT),
    "txpool_contentFrom": ([ADDRESS], {"pending": {"0": {"hash": HASH}}, "queued": {}}),
}


@pytest.mark.parametrize(
    "query", [{}, {"fromBlock": 0}, {"fromBlock": "0x0"}, {"fromBlock": "earliest", "toBlock": 9}]
)
def test_logs_may_be_asked_for_without_bounds(query: dict[str, Any]) -> None:
    with served(result([LOG])) as node:
        assert len(connect(node.url).eth.get_logs(query)) == 1  # type: ignore[arg-type]


NULL_IS_NONE = {
    "eth_getBlockByNumber",
    "eth_getTransactionByHash",
    "eth_getTransactionReceipt",
}


@pytest.mark.parametrize("method", GOOD)
def test_a_good_answer_is_taken_and_nothing_else_is(method: str) -> None:
    params, good = GOOD[method]
    assert check_result(method, params, good) == good
    others: list[Any] = [None, True, 7, 1.5, "", "0xzz", "0x" + "1" * 65, [], [[]], {}, {"hash": 1}]
    for bad in others:
        if (bad is None and method in NULL_IS_NONE) or (bad == [] and method == "eth_getLogs"):
            continue
        with pytest.raises(ValueError, match=r"is |expected|bytes|None"):
            check_result(method, params, bad)


@pytest.mark.parametrize(
    ("method", "change"),
    [
        ("eth_getBlockByNumber", {"number": "0x8"}),
        ("eth_getBlockByNumber", {"number": None}),
        ("eth_getBlockByNumber", {"hash": None}),
        ("eth_getBlockByNumber", {"timestamp": None}),
        ("eth_getBlockByNumber", {"timestamp": hex(2**63)}),
        ("eth_getBlockByNumber", {"baseFeePerGas": hex(2**200)}),
        ("eth_getTransactionReceipt", {"blockHash": None}),
        ("eth_getTransactionReceipt", {"status": "0x2"}),
        ("eth_getTransactionReceipt", {"logs": [{**LOG, "topics": [HASH] * 5}]}),
        ("eth_getTransactionReceipt", {"logs": [{**LOG, "blockNumber": None}]}),
    ],
)
def test_one_field_out_of_form_is_enough(method: str, change: dict[str, Any]) -> None:
    params, good = GOOD[method]
    with pytest.raises(ValueError, match=next(iter(change)) + r"|was asked for|half of a block"):
        check_result(method, params, {**good, **change})


@pytest.mark.parametrize("change", [{"blockNumber": "0xa"}, {"address": "0x" + "33" * 20}])
def test_a_log_that_was_not_asked_for(change: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="a log of"):
        check_result("eth_getLogs", RANGE, [{**LOG, **change}])


def test_fields_that_nobody_reads_do_not_matter() -> None:
    extra: dict[str, Any] = {
        "extraData": "0x" + "ab" * 97,
        "difficulty": None,
        "transactions": 7,
        "l1Fee": {},
    }
    assert check_result("eth_getBlockByNumber", ["0x9", False], {**BLOCK, **extra}) == BLOCK


def test_a_pending_block_has_no_hash() -> None:
    pending = {"number": None, "hash": None, "timestamp": "0x10"}
    found = check_result("eth_getBlockByNumber", ["pending", False], pending)
    assert found == {"timestamp": "0x10"}


def served(reply: Reply) -> Any:
    """A node that is in order until it is asked for the block number."""

    def answer(request: Request) -> Reply:
        return result("0x1") if request["method"] == "eth_chainId" else reply

    return scripted_node(answer)


@pytest.mark.parametrize("value", [None, "", 5, [], {}, "0x" + "1" * 70, "\x1b[2J"])
def test_an_answer_out_of_form_is_unavailable_in_one_line(value: object) -> None:
    with served(result(value)) as node:
        w3 = connect(node.url)
        with (
            pytest.raises(Unavailable, match="answers eth_blockNumber out of form: ") as caught,
            plain_errors(),
        ):
            _ = w3.eth.block_number
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_request_is_not_sent_elsewhere(status: int) -> None:
    with served(result("0x9")) as other:
        redirect = Reply(b"", status, {"Location": other.url})
        with served(redirect) as node:
            w3 = connect(node.url)
            with (
                pytest.raises(Unavailable, match=f"elsewhere .HTTP {status}.: name the address"),
                plain_errors(),
            ):
                _ = w3.eth.block_number
        assert other.asked == []


@pytest.mark.parametrize("piece", [b"[],", b"0,", b"{},", b'"",'])
def test_many_small_values_are_not_parsed(piece: bytes) -> None:
    body = b'{"result":[' + piece * 1_000_000 + b'""]}'
    with (
        served(Reply(body)) as node,
        pytest.raises(Unavailable, match="does not answer in JSON-RPC"),
    ):
        connect(node.url).provider.make_request("eth_getLogs", [{}])  # type: ignore[arg-type]


def test_what_is_packed_small_and_unpacks_without_end_is_cut_off() -> None:
    packed = Reply(gzip.compress(bytes(1 << 30)), headers={"Content-Encoding": "gzip"})
    with served(packed) as node:
        w3 = connect(node.url)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with pytest.raises(Unavailable, match="the answer is too large"), plain_errors():
            _ = w3.eth.block_number
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert grown < 4 * MAX_ANSWER_BYTES


def test_a_length_in_an_answer_may_be_any_number() -> None:
    """An ABI's string of 2^255 bytes, of which none arrive."""
    words = [0x20, 2**255, 0]
    data = "0x" + "".join(word.to_bytes(32).hex() for word in words)
    with served(result(data)) as node:
        w3 = connect(node.url)
        abi = [
            {
                "type": "function",
                "name": "symbol",
                "inputs": [],
                "outputs": [{"type": "string", "name": ""}],
                "stateMutability": "view",
            }
        ]
        token = w3.eth.contract(address=Web3.to_checksum_address(ADDRESS), abi=abi)
        with pytest.raises(Unavailable), plain_errors():
            token.functions.symbol().call()
