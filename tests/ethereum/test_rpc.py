"""The connection: each failure of a node has one name, and no secret of the URL is repeated."""

import base64
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal

import pytest
from eth_abi.abi import encode
from web3 import Web3

from chain.federation import Federation
from contracts.reverts import Reverted
from ethereum.rpc import RateLimited, RpcProvider, TimedOut, connect, plain_errors, public_url
from ethereum.wallet import Wallet
from protocol.errors import Misconfigured, Unavailable
from protocol.types import Address
from tests.ethereum.scripted_node import Reply, Request, refusal, result, scripted_node


@contextmanager
def node_that_says(status: int, body: object, delay_s: float = 0.0) -> Iterator[str]:
    """Yield the URL of a node that has one answer to everything."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            time.sleep(delay_s)
            with suppress(BrokenPipeError):  # the client may have given up
                self.send_response(status)
                self.send_header("Content-Length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v3/SECRET?key=SECRET"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


def test_chain_id(rpc_url: str) -> None:
    assert connect(rpc_url).eth.chain_id == 31337
    assert connect(rpc_url, chain_id=31337).eth.block_number >= 0
    with pytest.raises(
        Misconfigured, match=f"at {rpc_url} serves chain 31337, chain 1 was expected"
    ):
        connect(rpc_url, chain_id=1)


@pytest.mark.parametrize("url", ["", "localhost:8545", "ws://127.0.0.1:1", "http://", "/tmp/geth"])
def test_not_an_address(url: str) -> None:
    with pytest.raises(Misconfigured, match=r"was expected to be like http://127\.0\.0\.1:8545"):
        connect(url)


@pytest.mark.parametrize(
    ("url", "public"),
    [
        ("http://127.0.0.1:8545", "http://127.0.0.1:8545"),
        ("https://user:SECRET@node.example/v3/SECRET?key=SECRET", "https://node.example"),
        ("http://[::1]:8545/SECRET", "http://[::1]:8545"),
        ("wss://node.example/SECRET", ""),
        ("http://[SECRET", ""),
        ("http://node.example:SECRET/", ""),
    ],
)
def test_what_is_shown_of_an_url_has_no_secret(url: str, public: str) -> None:
    assert public_url(url) == public
    if not public:
        with pytest.raises(Misconfigured) as caught:
            connect(url)
        assert "SECRET" not in str(caught.value)


def test_node_that_is_down() -> None:
    port = free_port()
    place = rf"http://127\.0\.0\.1:{port}"
    with pytest.raises(
        Unavailable, match=rf"{place} cannot be reached \(connection refused\): check that it runs"
    ):
        connect(f"http://user:SECRET@127.0.0.1:{port}/SECRET")


def test_host_that_does_not_exist() -> None:
    with pytest.raises(Unavailable, match="cannot be reached"):
        connect("http://node.invalid:8545", timeout_s=5)


@pytest.mark.parametrize(
    ("status", "body", "kind", "text"),
    [
        (500, {"result": "0x1"}, Unavailable, "answers HTTP 500: try again later"),
        (503, b"<html>", Unavailable, "answers HTTP 503: try again later"),
        (504, b"<html>", TimedOut, "answers HTTP 504: try again"),
        (401, b"", Misconfigured, "answers HTTP 401: check its address and key"),
        (404, b"no such page", Misconfigured, "answers HTTP 404: check its address and key"),
        (413, b"", Unavailable, "refuses: HTTP 413: too large"),
        (400, {"error": {"code": 1, "message": "bad"}, "id": 0}, Unavailable, "refuses: bad"),
        (200, {"error": "just text", "id": 0}, Unavailable, "refuses: just text"),
        (200, b"<html>", Unavailable, "does not answer in JSON-RPC"),
        (200, [1, 2], Unavailable, "does not answer in JSON-RPC"),
        (200, {"id": 0}, Unavailable, "does not answer in JSON-RPC"),
        (200, b'{"result":' + b"[" * 200_000, Unavailable, "does not answer in JSON-RPC"),
    ],
)
def test_answers(status: int, body: object, kind: type[Exception], text: str) -> None:
    with node_that_says(status, body) as url, pytest.raises(kind, match=text) as caught:
        connect(url)
    assert "SECRET" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_slow_node() -> None:
    with node_that_says(200, {"result": "0x1"}, delay_s=0.4) as url:
        with pytest.raises(TimedOut, match=r"did not answer within 0\.1 s"):
            connect(url, timeout_s=0.1)
        w3 = connect(url, timeout_s=5)
        assert w3.eth.chain_id == 1


def test_a_federation_on_a_node_that_goes_away(w3: Web3) -> None:
    with node_that_says(200, {"jsonrpc": "2.0", "id": 0, "result": "0x1"}) as url:
        away = connect(url)
    with pytest.raises(Unavailable, match="cannot be reached"):
        Federation(away, Wallet.create().address)


def test_revert_data_wherever_a_node_puts_it() -> None:
    data = "0x01020304"
    for error in (
        {"code": 3, "message": "execution reverted", "data": data},
        {"code": -32000, "message": "execution reverted", "data": data},
        {"code": -32015, "message": "VM execution error.", "data": f"Reverted {data}"},
        {"code": -32603, "message": "reverted", "data": {"data": data, "message": "x"}},
    ):
        with node_that_says(200, {"jsonrpc": "2.0", "id": 0, "error": error}) as url:
            w3 = Web3(RpcProvider(url, 5.0), middleware=[])
            with pytest.raises(Reverted) as caught, plain_errors():
                w3.eth.call({"to": Web3.to_checksum_address("0x" + "11" * 20)})
        assert caught.value.arguments == {"data": data}


def test_contract_cannot_send_us_elsewhere() -> None:
    """EIP-3668: a revert that names an URL is a revert like any other, and the URL is not asked."""
    with listening() as (url, asked):
        values = encode(
            ["address", "string[]", "bytes", "bytes4", "bytes"],
            ["0x" + "11" * 20, [url + "/{sender}/{data}"], b"", b"1234", b""],
        )
        error = {"code": 3, "message": "reverted", "data": "0x556f1830" + values.hex()}
        with node_that_says(200, {"jsonrpc": "2.0", "id": 0, "error": error}) as node:
            w3 = Web3(RpcProvider(node, 5.0), middleware=[])
            with pytest.raises(Reverted, match="unknown error 0x556f1830"), plain_errors():
                w3.eth.call({"to": Web3.to_checksum_address("0x" + "11" * 20)})
        assert asked == []


@contextmanager
def listening() -> Iterator[tuple[str, list[str]]]:
    """Yield the URL of a server and the list of what it is asked by GET."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_names_are_not_resolved(w3: Web3) -> None:
    with pytest.raises(Misconfigured, match="is not an address"):
        Federation(w3, Address("federation.eth"))


def test_session_is_kept_by_thread(rpc_url: str) -> None:
    provider = RpcProvider(rpc_url, 5.0)
    sessions = []
    for _ in range(2):
        worker = threading.Thread(target=lambda: sessions.append(provider._connection.session))
        worker.start()
        worker.join()
    assert sessions[0] is not sessions[1]
    assert provider._connection.session is provider._connection.session


def test_a_login_in_the_address_and_cookies_go_along() -> None:
    def answer(request: Request) -> Reply:
        return Reply({"result": "0x7"}, headers={"Set-Cookie": f"node={len(node.asked)}"})

    with scripted_node(answer) as node:
        w3 = connect(node.url.replace("//", "//ann:secret@"))
        for _ in range(2):
            assert w3.eth.chain_id == 7
    login = "Basic " + base64.b64encode(b"ann:secret").decode()
    assert [each.get("Authorization") for each in node.headers] == [login] * 3
    assert [each.get("Cookie") for each in node.headers] == [None, "node=1", "node=2"]
    assert len({each["Content-Length"] for each in node.headers}) == 1


# ------------------------------------------------------------------------------ limited rates

TOO_FAST = (
    Reply(b"", 429),
    Reply({"error": {"code": -32005, "message": "project ID request rate exceeded"}}, 429),
    refusal(-32005, "rate limit exceeded"),
    refusal(429, "Your app has exceeded its compute units per second capacity."),
    refusal(-32007, "50/second request limit reached"),
    refusal(-32029, "Too Many Requests"),
)


@pytest.mark.parametrize("refused", TOO_FAST, ids=lambda reply: str(reply.body))
def test_a_limited_rate_is_waited_for(refused: Reply) -> None:
    left = [refused, refused]
    with scripted_node(lambda request: left.pop() if left else result("0x7")) as node:
        w3 = connect(node.url)
        assert len(node.asked) == 3
        assert w3.eth.chain_id == 7


def test_retry_after_is_kept() -> None:
    times: list[float] = []

    def answer(request: Request) -> Reply:
        times.append(time.monotonic())
        return Reply(b"", 429, {"Retry-After": "1"}) if len(times) == 1 else result("0x7")

    with scripted_node(answer) as node:
        connect(node.url)
    assert times[1] - times[0] >= 1


@pytest.mark.parametrize("refused", TOO_FAST, ids=lambda reply: str(reply.body))
def test_patience_ends(refused: Reply, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ethereum.rpc._FIRST_PAUSE_S", 0.01)
    with scripted_node(lambda request: refused) as node:
        with pytest.raises(RateLimited, match=r"limits the rate of requests .*try again later"):
            connect(node.url, patience_s=2.0)
        assert len(node.asked) > 1


@pytest.mark.parametrize("wait", ["3600", "Wed, 21 Oct 2133 07:28:00 GMT"])
def test_a_wait_beyond_all_patience_is_not_begun(wait: str) -> None:
    refused = Reply(b"", 429, {"Retry-After": wait})
    with scripted_node(lambda request: refused) as node:
        with pytest.raises(RateLimited, match=r"HTTP 429, asking to wait for \d{4,} s"):
            connect(node.url)
        assert len(node.asked) == 1


def test_a_contract_may_speak_of_rates() -> None:
    reply = refusal(3, "execution reverted: rate limit", data="0x01020304")
    with scripted_node(lambda request: reply) as node:
        w3 = Web3(RpcProvider(node.url, 5.0), middleware=[])
        with pytest.raises(Reverted), plain_errors():
            w3.eth.call({"to": Web3.to_checksum_address("0x" + "11" * 20)})
        assert len(node.asked) == 1


# -------------------------------------------------------------------- answers without an end


@pytest.mark.parametrize("dripping", ["all", "body"])
def test_an_answer_that_drips_ends(dripping: Literal["all", "body"]) -> None:
    # A byte at a time it takes 20 s, never silent for long, and would then be right.
    reply = Reply(b" " * 200 + b'{"result": "0x7"}', drips=dripping)
    with (
        scripted_node(lambda request: reply) as node,
        pytest.raises(TimedOut, match="did not answer within"),
    ):
        connect(node.url, timeout_s=0.3)


def test_an_answer_that_is_too_large_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ethereum.rpc.MAX_ANSWER_BYTES", 1_000)
    with scripted_node(lambda request: Reply(b" " * 980 + b'{"result": "0x7"}')) as node:
        assert connect(node.url).eth.chain_id == 7
    reply = Reply(b" " * 1_000 + b'{"result": "0x7"}')
    with (
        scripted_node(lambda request: reply) as node,
        pytest.raises(Unavailable, match="refuses: the answer is too large"),
    ):
        connect(node.url)


# ----------------------------------------------------------------- other chains, other nodes

BLOCK = {
    "number": "0x9",
    "hash": "0x" + "11" * 32,
    "timestamp": "0x10",
    "extraData": "0x" + "ab" * 97,
}


def test_blocks_of_signed_chains() -> None:
    """Clique, BSC, Polygon and QBFT chains put more than 32 bytes into extraData."""
    answers = {"eth_chainId": result("0x1"), "eth_getBlockByNumber": result(BLOCK)}
    with scripted_node(lambda request: answers[request["method"]]) as node:
        assert connect(node.url).eth.get_block(9)["timestamp"] == 16


@pytest.mark.parametrize(
    "refused",
    [
        refusal(-32000, "pending block is not available"),
        refusal(-32602, "invalid block tag"),
        refusal(-39001, "Unknown block"),
        result(None),
    ],
    ids=lambda reply: str(reply.body),
)
def test_without_a_pending_block_the_latest_is_asked_for(refused: Reply) -> None:
    def answer(request: Request) -> Reply:
        if request["method"] == "eth_chainId":
            return result("0x1")
        return refused if "pending" in request["params"] else result(BLOCK)

    with scripted_node(answer) as node:
        w3 = connect(node.url)
        for _ in range(3):
            assert w3.eth.get_block("pending")["number"] == 9
        assert len(node.asked) == 1 + 1 + 3  # it is remembered


def test_a_pending_call_that_reverts_is_not_asked_again() -> None:
    def answer(request: Request) -> Reply:
        if request["method"] == "eth_chainId":
            return result("0x1")
        return refusal(3, "execution reverted", data="0x01020304")

    with scripted_node(answer) as node:
        w3 = connect(node.url)
        with pytest.raises(Reverted), plain_errors():
            w3.eth.call({"to": Web3.to_checksum_address("0x" + "11" * 20)}, "pending")
        assert node.methods() == ["eth_chainId", "eth_call"]
