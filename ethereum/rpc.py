"""The connection to an Ethereum node, and the one place where its failures get their names.

- The node cannot be reached, is too slow, or answers HTTP 5xx: Unavailable.
- It limits the rate of requests, in HTTP or in JSON-RPC: the request waits and is sent again, up to
  a limit in time; then RateLimited, which is Unavailable too.
- It refuses the address or key (other HTTP 4xx), or serves another chain: Misconfigured.
- A contract reverts: contracts.reverts.Reverted, with the contract's own error decoded.

Every answer has a limit in bytes and in seconds. What a node does not know at "pending" it is asked
at "latest".

    w3 = connect("http://127.0.0.1:8545", chain_id=31337)
    with plain_errors():
        w3.eth.get_balance(address)
"""

import json
import random
import re
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from typing import Any, Final, cast
from urllib.parse import urlsplit

import numpy as np
import requests
import urllib3
from web3 import Web3
from web3.exceptions import (
    BadFunctionCallOutput,
    BlockNotFound,
    ContractLogicError,
    Web3Exception,
    Web3RPCError,
)
from web3.middleware import AttributeDictMiddleware, ExtraDataToPOAMiddleware
from web3.providers.base import JSONBaseProvider
from web3.types import RPCEndpoint, RPCResponse

from contracts.reverts import decode_revert, find_revert_data
from ethereum.on_time import TimedAdapter, deadline
from protocol.errors import Misconfigured, Unavailable

DEFAULT_TIMEOUT_S = 15.0
DEFAULT_PATIENCE_S = 60.0
MAX_ANSWER_BYTES: Final = 32 << 20

_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_LIMIT_EXCEEDED = -32005  # EIP-1474's code for a request that asks for too much
_TOTAL_TIMEOUTS: Final = 4  # an answer may be silent for one timeout, and take four in all
_PIECE_BYTES: Final = 1 << 16
_MAX_DEPTH: Final = 100  # web3 lifts Python's own limit so far that parsing could end the process
_FIRST_PAUSE_S: Final = 0.25
_LONGEST_PAUSE_S: Final = 8.0
_ASK_PENDING_AGAIN_S: Final = 600.0

_RATE_WORDS: Final = re.compile(
    r"\brate\b|too many requests|throttl|quota|throughput|capacity|request limit"
    r"|limit of requests|requests? (count|per)|per[- ]second",
    re.IGNORECASE,
)
_NO_SUCH_BLOCK: Final = re.compile(
    r"pending|block ?tag|(unknown|unsupported|invalid) block|(block|header) not found|named block",
    re.IGNORECASE,
)


class TimedOut(Unavailable):
    """The node did not answer in time: a smaller question may succeed."""

    service = "chain"


class RateLimited(Unavailable):
    """The node limits the rate of requests; `wait_s` is how long it asks to wait, if it says so."""

    service = "chain"

    def __init__(self, text: str, wait_s: float | None = None) -> None:
        super().__init__(text)
        self.wait_s = wait_s


def connect(
    rpc_url: str,
    *,
    chain_id: int | None = None,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    patience_s: float = DEFAULT_PATIENCE_S,
) -> Web3:
    """Return a connection to the node at `rpc_url` (http or https), after asking it for its chain.

    It may be shared between threads. `timeout_s` bounds each silence of the node, four times as
    much an answer; `patience_s` how long a request goes on while the node limits their rate.
    Misconfigured when the URL is none or the node serves another chain than `chain_id`; Unavailable
    when it is down.
    """
    parts = urlsplit(rpc_url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise Misconfigured(
            f"the RPC address {rpc_url!r} was expected to be like http://127.0.0.1:8545",
            service="chain",
        )
    provider = RpcProvider(rpc_url, timeout_s, patience_s)
    # Neither ENS names nor web3's own gas and fee guesses: addresses are digits, ethereum.transactions
    # sets gas and fees. Clique, BSC, Polygon and QBFT chains sign in a block's extraData, which
    # web3 refuses beyond 32 bytes under that name.
    w3 = Web3(
        provider,
        middleware=[(AttributeDictMiddleware, "attrdict"), (ExtraDataToPOAMiddleware, "poa")],
    )
    w3.ens = None
    with plain_errors():
        served = w3.eth.chain_id
    if chain_id is not None and served != chain_id:
        raise Misconfigured(
            f"the Ethereum RPC at {provider.place} serves chain {served},"
            f" chain {chain_id} was expected",
            service="chain",
        )
    return w3


class RpcProvider(JSONBaseProvider):
    """JSON-RPC over HTTP with one session a thread; `place` is the URL without its secrets."""

    def __init__(
        self, rpc_url: str, timeout_s: float, patience_s: float = DEFAULT_PATIENCE_S
    ) -> None:
        super().__init__()
        # A contract must not be able to send this machine to an URL of its choice (EIP-3668).
        self.global_ccip_read_enabled = False
        self.place = _place(rpc_url)
        self._url = rpc_url
        self._timeout_s = timeout_s
        self._patience_s = patience_s
        self._no_pending_until = 0.0
        self._local = threading.local()

    def __str__(self) -> str:
        return f"RPC connection {self.place}"

    def make_request(self, method: RPCEndpoint, params: Any) -> RPCResponse:
        """Return the node's answer; Unavailable or Misconfigured when there is none."""
        if "pending" not in params:
            return self._ask(method, params)
        if time.monotonic() >= self._no_pending_until:
            answer = self._ask(method, params)
            if not _lacks_pending(method, answer):
                return answer
            self._no_pending_until = time.monotonic() + _ASK_PENDING_AGAIN_S
        return self._ask(method, ["latest" if each == "pending" else each for each in params])

    def _ask(self, method: RPCEndpoint, params: Any) -> RPCResponse:
        """Return the node's answer to one request, sent again while the rate is limited."""
        give_up = time.monotonic() + self._patience_s
        pause = _FIRST_PAUSE_S
        while True:
            try:
                return self._ask_once(method, params)
            except RateLimited as error:
                # By chance, lest several roles that were refused together come back together.
                wait = error.wait_s or pause * random.uniform(0.5, 1)
                if time.monotonic() + wait > give_up:
                    raise
            time.sleep(wait)
            pause = min(2 * pause, _LONGEST_PAUSE_S)

    def _ask_once(self, method: RPCEndpoint, params: Any) -> RPCResponse:
        response, body = self._post(self.encode_rpc_request(method, params))
        status = response.status_code
        if status == 429:
            raise self._rate_limited("HTTP 429", response)
        if status in (408, 504):
            raise TimedOut(f"the Ethereum RPC at {self.place} answers HTTP {status}: try again")
        if status >= 500:
            raise Unavailable(
                f"the Ethereum RPC at {self.place} answers HTTP {status}: try again later",
                service="chain",
            )
        if body is None or status == 413:
            size = f"HTTP {status}: too large" if body is not None else "the answer is too large"
            error = {"code": _LIMIT_EXCEEDED, "message": size}
            return cast(RPCResponse, {"jsonrpc": "2.0", "id": None, "error": error})
        answer = _read_answer(body)  # some nodes send an error object with HTTP 400
        if answer is not None:
            if _is_rate_limit(answer):
                raise self._rate_limited(_message(answer), response)
            return answer
        if status >= 400:
            raise Misconfigured(
                f"the Ethereum RPC at {self.place} answers HTTP {status}:"
                " check its address and key",
                service="chain",
            )
        raise Unavailable(
            f"the Ethereum RPC at {self.place} does not answer in JSON-RPC", service="chain"
        )

    def _rate_limited(self, told: str, response: requests.Response) -> RateLimited:
        wait = _retry_after(response)
        asked = "" if wait is None else f", asking to wait for {wait:.0f} s"
        return RateLimited(
            f"the Ethereum RPC at {self.place} limits the rate of requests ({told}{asked}):"
            " try again later",
            wait,
        )

    def _post(self, body: bytes) -> tuple[requests.Response, bytes | None]:
        """Return the node's response with its body, which is None when it is too large."""
        try:
            with deadline(_TOTAL_TIMEOUTS * self._timeout_s), self._try_post(body) as response:
                return response, _read_body(response)
        except requests.RequestException as error:
            if _is_timeout(error):
                raise TimedOut(
                    f"the Ethereum RPC at {self.place} did not answer within {self._timeout_s:g} s"
                ) from error
            raise Unavailable(
                f"the Ethereum RPC at {self.place} cannot be reached ({_cause(error)}):"
                " check that it runs there",
                service="chain",
            ) from error

    def _try_post(self, body: bytes) -> requests.Response:
        def post() -> requests.Response:
            return self._session().post(
                self._url,
                data=body,
                headers={"Content-Type": "application/json"},
                timeout=self._timeout_s,
                stream=True,
            )

        try:
            return post()
        except requests.Timeout:
            raise
        except requests.ConnectionError:
            # A node may close an idle connection just as it is used again. Asking twice does no
            # harm: a transaction sent twice is the same transaction.
            return post()

    def _session(self) -> requests.Session:
        session: requests.Session | None = getattr(self._local, "session", None)
        if session is None:
            session = requests.Session()
            for scheme in ("http://", "https://"):
                session.mount(scheme, TimedAdapter())
            session.trust_env = urlsplit(self._url).hostname not in _LOOPBACK  # no proxy to itself
            self._local.session = session
        return session


@contextmanager
def plain_errors() -> Iterator[None]:
    """Turn what web3 raises inside into this project's errors.

    Reverted for a revert, Misconfigured when a contract's answer does not fit its interface, and
    Unavailable for everything else that a node may refuse.
    """
    try:
        yield
    except BadFunctionCallOutput as error:
        raise Misconfigured(
            "the contract's answer does not fit its interface:"
            " it is not there, not there at that block, or another contract",
            service="chain",
        ) from error
    except BlockNotFound as error:
        raise Unavailable(
            f"the Ethereum RPC does not have that block: {error.message}", service="chain"
        ) from error
    except ContractLogicError as error:
        raise decode_revert(find_revert_data(error) or b"") from error
    except Web3RPCError as error:
        data = find_revert_data(error)
        if data is not None:
            raise decode_revert(data) from error
        raise Unavailable(
            f"the Ethereum RPC refuses: {error_message(error)}", service="chain"
        ) from error
    except Web3Exception as error:
        raise Unavailable(
            f"the Ethereum RPC answers out of form: {error}", service="chain"
        ) from error


def error_message(error: Web3RPCError) -> str:
    """Return the message of the node's error object, in one line."""
    told = (error.rpc_response or {}).get("error")
    message = told.get("message") if isinstance(told, dict) else None
    return " ".join(str(message or error.message).split())


def _place(rpc_url: str) -> str:
    """Return the URL without user, path and query, where providers put their keys."""
    parts = urlsplit(rpc_url)
    host = f"[{parts.hostname}]" if parts.hostname and ":" in parts.hostname else parts.hostname
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{host}{port}"


def _read_body(response: requests.Response) -> bytes | None:
    """Return the whole body, None when it is larger than `MAX_ANSWER_BYTES`."""
    body = bytearray()
    for piece in response.iter_content(_PIECE_BYTES):
        body += piece
        if len(body) > MAX_ANSWER_BYTES:
            return None
    return bytes(body)


def _read_answer(body: bytes) -> RPCResponse | None:
    """Return the JSON-RPC answer in the body, or None when there is none."""
    if _depth(body) > _MAX_DEPTH:
        return None
    try:
        answer = json.loads(body)
    except ValueError:
        return None
    if not isinstance(answer, dict) or not ("result" in answer or "error" in answer):
        return None
    # One request an answer: its id tells nothing, and some nodes leave it or the version out.
    checked = {"jsonrpc": "2.0", "id": 0}
    error = answer.get("error")
    if error is None:
        checked["result"] = answer.get("result")
    else:
        checked["error"] = error if isinstance(error, dict) else {"code": 0, "message": str(error)}
    return cast(RPCResponse, checked)


def _depth(body: bytes) -> int:
    """Return how many brackets are open at once, those inside of strings counted as well."""
    found = np.frombuffer(body, np.uint8)
    opened = ((found == ord("[")) | (found == ord("{"))).astype(np.int8)
    closed = ((found == ord("]")) | (found == ord("}"))).astype(np.int8)
    return int(np.cumsum(opened - closed, dtype=np.int32).max(initial=0))


def _message(answer: RPCResponse) -> str:
    error = answer.get("error")
    told = error.get("message") if isinstance(error, dict) else error
    return " ".join(str(told or "").split())[:200]


def _is_rate_limit(answer: RPCResponse) -> bool:
    """Whether the answer is an error that says: too many requests."""
    error = cast(Mapping[str, Any], answer.get("error") or {})
    if "data" in error and str(error["data"]).startswith("0x"):
        return False  # a contract's revert, which may say anything
    if error.get("code") == 429:
        return True
    message = _message(answer)
    return "revert" not in message and _RATE_WORDS.search(message) is not None


def _lacks_pending(method: RPCEndpoint, answer: RPCResponse) -> bool:
    """Whether a request at "pending" failed because the node does not serve it."""
    if "error" not in answer:
        return method == "eth_getBlockByNumber" and answer.get("result") is None
    return _NO_SUCH_BLOCK.search(_message(answer)) is not None


def _retry_after(response: requests.Response) -> float | None:
    """Return the seconds that the response's Retry-After names, None when it has none."""
    told = response.headers.get("Retry-After", "").strip()
    if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", told):
        return float(told)
    try:
        return max(parsedate_to_datetime(told).timestamp() - time.time(), 0.0)
    except (ValueError, OverflowError):
        return None


def _is_timeout(error: requests.RequestException) -> bool:
    # What comes late in a body arrives as a ConnectionError around urllib3's own error.
    inner = error.args[0] if error.args else None
    return isinstance(error, requests.Timeout) or isinstance(
        inner, urllib3.exceptions.ReadTimeoutError
    )


def _cause(error: requests.RequestException) -> str:
    text = str(error)
    known = {
        "refused": "connection refused",
        "Name or service not known": "no such host",
        "Failed to resolve": "no such host",
        "CERTIFICATE": "its certificate is not trusted",
        "reset by peer": "connection reset",
        "RemoteDisconnected": "connection closed",
    }
    return next((words for mark, words in known.items() if mark in text), type(error).__name__)
