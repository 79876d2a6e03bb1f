"""A role's lines to the world: an HTTP proxy before the chain, one before IPFS, each breakable.

Every role has its own pair, so that one host can be cut off while the others go on.
"""

import http.client
import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, Self
from urllib.parse import urlsplit

from eth_account.typed_transactions.typed_transaction import TypedTransaction
from eth_utils.crypto import keccak
from hexbytes import HexBytes

from contracts.compiler import load_artifact
from protocol.errors import Unavailable
from tests.storage.lying_proxy import LyingProxy

_TAGS: Final = ("latest", "pending", "safe", "finalized")
_UPSTREAM_S: Final = 20.0
_ANSWERS: Final = {
    "http 500": (500, b"internal error"),
    "http 429": (429, b"slow down"),
    "garbage": (200, b"<html>maintenance</html>"),
    "error": (
        200,
        b'{"jsonrpc": "2.0", "id": ID, "error": {"code": -32603, "message": "internal error"}}',
    ),
}
LAST: Final[list[Any]] = []  # in place of a result: without its last entry
_OMITTED: Final[dict[str, tuple[str, Any]]] = {
    "omits logs": ("eth_getLogs", []),
    "omits the last log": ("eth_getLogs", LAST),
    "omits receipts": ("eth_getTransactionReceipt", None),
    "omits transactions": ("eth_getTransactionByHash", None),
    "omits blocks": ("eth_getBlockByNumber", None),
    "omits values": ("eth_call", "0x"),
}
DRIP_S: Final = 0.05


class Line:
    """Whether a line works, and what is wrong with it; `mended` is set while it does."""

    def __init__(self) -> None:
        self.fault = ""
        self.mended = threading.Event()
        self.mended.set()

    def bend(self, fault: str) -> None:
        self.fault = fault
        self.mended.clear()

    def mend(self) -> None:
        self.fault = ""
        self.mended.set()


# What to do with a request: go on, or drop it because who sent it is gone or must not know.
Reached = Callable[[str, int | None], bool]


class RpcLine(Line):
    """The line to an Ethereum node. `reached` hears of every transaction before and after it."""

    def __init__(self, upstream_url: str, host: str, reached: Reached) -> None:
        super().__init__()
        self.reached = reached
        self.commitments: dict[int, set[bytes]] = {}
        self.sent: list[bytes] = []  # calls of the contract, mined or not
        self._upstream = urlsplit(upstream_url).netloc
        self._height: int | None = None
        self._server = _RpcServer(self, host)
        self.url = f"http://{host}:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self.mend()
        self._server.shutdown()
        self._server.server_close()

    def bend(self, fault: str) -> None:
        self._height = self._stale_height() if fault == "stale" else None
        super().bend(fault)

    def answer(self, body: bytes) -> tuple[int, bytes] | None:
        """Return status and body of the answer; None when the connection is to break."""
        request = json.loads(body)
        call = _sent_call(request)
        if call is not None:
            name, round_id, data = call
            if not self.reached(f"before {name}", round_id):
                return None
            self.sent.append(data)
            if name in ("commit", "commitMasked") and round_id is not None:
                self.commitments.setdefault(round_id, set()).add(data[36:68])
        fault = self.fault
        if fault == "timeout":
            self.mended.wait()
        if fault in ("cut", "timeout"):
            return None
        if fault in _ANSWERS:
            status, answer = _ANSWERS[fault]
            return status, answer.replace(b"ID", json.dumps(request.get("id")).encode())
        status, answer = self._forward(request)
        if call is not None and not self.reached(f"after {call[0]}", call[1]):
            return None
        return status, answer

    def _forward(self, request: dict[str, Any]) -> tuple[int, bytes]:
        height = self._height
        if self.fault == "stale" and height is not None:
            if request.get("method") == "eth_blockNumber":
                known = {"jsonrpc": "2.0", "id": request.get("id"), "result": hex(height)}
                return 200, json.dumps(known).encode()
            request = _as_of(request, height)
        connection = http.client.HTTPConnection(self._upstream, timeout=_UPSTREAM_S)
        try:
            body = json.dumps(request).encode()
            connection.request("POST", "/", body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            status, answer = response.status, response.read()
        finally:
            connection.close()
        if self.fault == "stale" and height is not None:
            answer = _without_later(answer, height)
        return status, _without(answer, self.fault, request)

    def pause(self) -> bool:
        """Wait a moment; tell whether the line still drips."""
        return not self.mended.wait(DRIP_S)

    def _stale_height(self) -> int:
        """Three blocks back; the federation was deployed long before."""
        request = {"jsonrpc": "2.0", "id": 1, "method": "eth_blockNumber", "params": []}
        try:
            _, answer = self._forward(request)
        except OSError:
            return 0
        return max(int(json.loads(answer)["result"], 16) - 3, 0)


def _as_of(request: dict[str, Any], height: int) -> dict[str, Any]:
    """Return the request as a node that is behind would understand it."""
    params = list(request.get("params") or [])
    match request.get("method"):
        case "eth_getLogs":
            query = dict(params[0])
            for key in ("fromBlock", "toBlock"):
                if key in query and query[key] not in _TAGS:
                    query[key] = hex(min(int(str(query[key]), 0), height + (key == "fromBlock")))
                else:
                    query[key] = hex(height)
            params[0] = query
        case "eth_sendRawTransaction":
            pass
        case _:
            params = [hex(height) if each in _TAGS else each for each in params]
    return {**request, "params": params}


def _without_later(answer: bytes, height: int) -> bytes:
    """Hide transactions and blocks that a node that is behind does not know."""
    told = json.loads(answer)
    result = told.get("result")
    if isinstance(result, dict) and int(result.get("blockNumber") or "0x0", 16) > height:
        told["result"] = None
    return json.dumps(told).encode()


def _without(answer: bytes, fault: str, request: dict[str, Any]) -> bytes:
    """Leave out what a node that lies by omission leaves out."""
    method, left = _OMITTED.get(fault, ("", None))
    if request.get("method") != method:
        return answer
    told = json.loads(answer)
    told["result"] = told["result"][:-1] if left is LAST and told.get("result") else left
    return json.dumps(told).encode()


class _RpcServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, line: RpcLine, host: str) -> None:
        super().__init__((host, 0), _RpcHandler)
        self.line = line

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: breaking connections is what this is for."""


class _RpcHandler(BaseHTTPRequestHandler):
    server: "_RpcServer"
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        try:
            answered = self.server.line.answer(body)
        except (OSError, http.client.HTTPException):
            answered = None
        if answered is None:
            self.close_connection = True
            return
        status, answer = answered
        head = f"HTTP/1.1 {status} told\r\nContent-Type: application/json\r\n"
        head += f"Content-Length: {len(answer)}\r\n\r\n"
        fault = self.server.line.fault
        self._write(head.encode(), drips=fault == "drips headers")
        self._write(answer, drips=fault == "drips")

    def _write(self, data: bytes, *, drips: bool) -> None:
        """Write some bytes: one at a time while the line drips, then what is left."""
        written = 0
        while drips and written < len(data) and self.server.line.pause():
            self.wfile.write(data[written : written + 1])
            self.wfile.flush()
            written += 1
        self.wfile.write(data[written:])
        self.wfile.flush()

    def log_message(self, format: str, *args: Any) -> None:
        pass


# Whatever a daemon is asked for, not only blocks.
_DRIPS: Final = {"drips": "drip", "drips headers": "drip_headers"}


class IpfsLine(LyingProxy):
    """The line to an IPFS daemon; a fault or a lie holds for whatever is asked."""

    def __init__(self, upstream_url: str, host: str) -> None:
        super().__init__(upstream_url, host)
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]
        self.line = Line()

    def lie_about(self, path: str) -> str:
        command = urlsplit(path).path.removeprefix("/api/v0/")
        fault = _DRIPS.get(self.line.fault)
        return fault or (self.line.fault if command in ("cat", "block/get") else "")

    def forward(
        self, path: str, body: bytes, content_type: str
    ) -> tuple[int, dict[str, str], bytes]:
        if self.line.fault == "cut":
            raise Unavailable("cut")
        return super().forward(path, body, content_type)

    def pause(self) -> bool:
        return super().pause() and not self.line.mended.is_set()


def _functions() -> dict[bytes, tuple[str, bool]]:
    """Return by selector a function's name, and whether its first argument is a round."""
    functions = {}
    for entry in load_artifact("Federation")["abi"]:
        if entry["type"] == "function":
            first = [field["name"] for field in entry["inputs"]][:1]
            functions[keccak(text=_signature(entry))[:4]] = entry["name"], first == ["round"]
    return functions


def _signature(entry: dict[str, Any]) -> str:
    return f"{entry['name']}({','.join(_type(field) for field in entry['inputs'])})"


def _type(field: dict[str, Any]) -> str:
    if not field["type"].startswith("tuple"):
        return str(field["type"])
    inner = ",".join(_type(component) for component in field["components"])
    return f"({inner}){field['type'].removeprefix('tuple')}"


_FUNCTIONS: Final = _functions()


def _sent_call(request: dict[str, Any]) -> tuple[str, int | None, bytes] | None:
    """Return function, round and data of a transaction that is being sent."""
    if request.get("method") != "eth_sendRawTransaction":
        return None
    raw = HexBytes(request["params"][0])
    data = bytes(HexBytes(TypedTransaction.from_bytes(raw).as_dict()["data"]))
    if data[:4] not in _FUNCTIONS:
        return None
    name, takes_round = _FUNCTIONS[data[:4]]
    round_id = int.from_bytes(data[4:36]) if takes_round else None
    return name, round_id, data
