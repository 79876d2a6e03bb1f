"""The connection to an Ethereum node, and the one place that classifies its failures.

- The node cannot be reached, is too slow, or answers HTTP 5xx: Unavailable.
- It limits the rate of requests, in HTTP or in JSON-RPC: the request waits and is sent again, up to
  a time limit; then RateLimited, which is Unavailable too.
- It refuses the address or key (other HTTP 4xx), or serves another chain: Misconfigured.
- A contract reverts: contracts.reverts.Reverted, with the contract's own error decoded.
- It answers with anything but what the method returns (ethereum/answers.py), or sends the request
  elsewhere: Unavailable.

Every answer is limited in bytes, in values and in seconds. A node that does not serve "pending" is
asked at "latest".

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
from contextlib import contextmanager, suppress
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
from web3.middleware import AttributeDictMiddleware
from web3.providers.base import JSONBaseProvider
from web3.types import RPCEndpoint, RPCResponse

from contracts.reverts import decode_revert, find_revert_data
from ethereum.answers import check_result
from ethereum.on_time import TimedAdapter, deadline
from protocol.errors import Misconfigured, Unavailable

DEFAULT_TIMEOUT_S = 15.0
DEFAULT_PATIENCE_S = 60.0
MAX_ANSWER_BYTES: Final = 32 << 20

_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_LIMIT_EXCEEDED = -32005  # EIP-1474's code for a request that asks for too much
_TOTAL_TIMEOUTS: Final = 4  # an answer may be silent for one timeout, and take four in all
_PIECE_BYTES: Final = 1 << 16
_MAX_DEPTH: Final = 100
# Logs and receipts have 60 bytes a value, blocks more. Less is not for us, and takes many times its
# size in memory once parsed; but for the fees of 1,024 blocks, four short numbers a block.
_FEWEST_BYTES_PER_VALUE: Final = 16
_SPARE_VALUES: Final = 10_000
_MOST_WORDS: Final = 300  # of a node's error, in characters
_FIRST_PAUSE_S: Final = 0.25
_LONGEST_PAUSE_S: Final = 8.0
_ASK_PENDING_AGAIN_S: Final = 20.0  # a node that lost its head for a moment has it again soon

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
    """The node limits the rate of requests; `wait_s` is the wait that it asks for, if any."""

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

    It may be shared between threads. `timeout_s` bounds each silence of the node, and four times as
    much a whole answer; `patience_s` bounds a request while the node limits their rate. Raises
    Misconfigured for an invalid URL or when the node serves another chain than `chain_id`, and
    Unavailable when it is down.
    """
    if not public_url(rpc_url):
        # Not repeated: it may hold a key all the same.
        raise Misconfigured(
            "the RPC address was expected to be like http://127.0.0.1:8545", service="chain"
        )
    provider = RpcProvider(rpc_url, timeout_s, patience_s)
    # Neither ENS names nor web3's own guesses of gas and fees: addresses are digits, and
    # ethereum/transactions.py sets gas and fees.
    w3 = Web3(provider, middleware=[(AttributeDictMiddleware, "attrdict")])
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


def public_url(rpc_url: str) -> str:
    """Return scheme, host and port of an http or https URL, "" when it is none.

    User, path and query are left out: that is where providers put their keys.
    """
    try:
        parts = urlsplit(rpc_url)
        host, port = parts.hostname, parts.port
    except ValueError:  # brackets or a port that are none
        return ""
    if parts.scheme not in ("http", "https") or not host:
        return ""
    place = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{place}" + (f":{port}" if port else "")


class _Connection(threading.local):
    """A session for each thread: requests does not promise that one may be shared."""

    def __init__(self, url: str) -> None:
        self.session = requests.Session()
        for scheme in ("http://", "https://"):
            self.session.mount(scheme, TimedAdapter())
        self.session.trust_env = urlsplit(url).hostname not in _LOOPBACK  # no proxy to itself
        self._url = url
        self._alike: requests.PreparedRequest | None = None
        self._settings: Any = {}

    def post(self, body: bytes, timeout_s: float) -> requests.Response:
        """Return the node's response, its body not read yet; redirects are not followed."""
        # All requests are alike but for the body: working out URL, headers, login and proxies anew
        # would take a third of a request's processor time.
        if self._alike is None:
            headers = {"Content-Type": "application/json"}
            first = requests.Request("POST", self._url, headers)
            self._alike = self.session.prepare_request(first)
            self._settings = self.session.merge_environment_settings(
                self._url, {}, True, None, None
            )
        request = self._alike.copy()
        request.prepare_body(body, None)
        if self.session.cookies:  # a load balancer may lead us to the same node by them
            request.prepare_cookies(self.session.cookies)
        return self.session.send(
            request, timeout=timeout_s, allow_redirects=False, **self._settings
        )


class RpcProvider(JSONBaseProvider):
    """JSON-RPC over HTTP with one session per thread; `place` is the URL without its secrets."""

    def __init__(
        self, rpc_url: str, timeout_s: float, patience_s: float = DEFAULT_PATIENCE_S
    ) -> None:
        super().__init__()
        # A contract must not be able to send this machine to a URL of its choice (EIP-3668).
        self.global_ccip_read_enabled = False
        # Errors are logged and shown.
        self.place = public_url(rpc_url)
        self._timeout_s = timeout_s
        self._patience_s = patience_s
        self._no_pending_until = 0.0
        self._connection = _Connection(rpc_url)

    def __str__(self) -> str:
        return f"RPC connection {self.place}"

    def make_request(self, method: RPCEndpoint, params: Any) -> RPCResponse:
        """Return the node's answer; raises Unavailable or Misconfigured when there is none."""
        if "pending" not in params:
            return self._ask(method, params)
        if time.monotonic() >= self._no_pending_until:
            answer = self._ask(method, params)
            # A node without "pending" says so in words of its own, or knows no such block.
            if "error" in answer:
                is_served = _NO_SUCH_BLOCK.search(_message(answer)) is None
            else:
                is_served = method != "eth_getBlockByNumber" or answer.get("result") is not None
            if is_served:
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
                # At random, lest several roles that were refused together return together.
                wait = error.wait_s or pause * random.uniform(0.5, 1)
                if time.monotonic() + wait > give_up:
                    raise
            time.sleep(wait)
            pause = min(2 * pause, _LONGEST_PAUSE_S)

    def _ask_once(self, method: RPCEndpoint, params: Any) -> RPCResponse:
        response, body = self._post(self.encode_rpc_request(method, params))
        status = response.status_code
        # Never followed: it may lead to an address that only this machine reaches.
        if 300 <= status < 400:
            raise Unavailable(
                f"the Ethereum RPC at {self.place} sends requests elsewhere (HTTP {status}):"
                " name the address that it leads to",
                service="chain",
            )
        if status == 429:
            raise self._rate_limited("HTTP 429", response)
        if status in (408, 504):
            raise TimedOut(f"the Ethereum RPC at {self.place} answers HTTP {status}: try again")
        if status >= 500:
            raise Unavailable(
                f"the Ethereum RPC at {self.place} answers HTTP {status}: try again later",
                service="chain",
            )
        # As an answer, not as an exception: whoever asked for too much may ask for less.
        if body is None or status == 413:
            size = f"HTTP {status}: too large" if body is not None else "the answer is too large"
            error = {"code": _LIMIT_EXCEEDED, "message": size}
            return cast(RPCResponse, {"jsonrpc": "2.0", "id": None, "error": error})
        answer = _read_answer(body)  # some nodes send an error object with HTTP 400
        if answer is not None:
            if _is_rate_limit(answer):
                raise self._rate_limited(_message(answer), response)
            return self._checked(answer, method, params)
        if status >= 400:
            raise Misconfigured(
                f"the Ethereum RPC at {self.place} answers HTTP {status}:"
                " check its address and key",
                service="chain",
            )
        raise Unavailable(
            f"the Ethereum RPC at {self.place} does not answer in JSON-RPC", service="chain"
        )

    def _checked(self, answer: RPCResponse, method: RPCEndpoint, params: Any) -> RPCResponse:
        if "result" in answer:
            try:
                answer["result"] = check_result(method, params, answer["result"])
            except ValueError as error:
                raise Unavailable(
                    f"the Ethereum RPC at {self.place} answers {method} out of form: {error}",
                    service="chain",
                ) from error
        return answer

    def _rate_limited(self, reported: str, response: requests.Response) -> RateLimited:
        # Retry-After names seconds or a date (RFC 9110 §10.2.3).
        header, wait = response.headers.get("Retry-After", "").strip(), None
        if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", header):
            wait = float(header)
        else:
            with suppress(ValueError, OverflowError):
                wait = max(parsedate_to_datetime(header).timestamp() - time.time(), 0.0)
        asked = "" if wait is None else f", asking to wait for {wait:.0f} s"
        return RateLimited(
            f"the Ethereum RPC at {self.place} limits the rate of requests ({reported}{asked}):"
            " try again later",
            wait,
        )

    def _post(self, body: bytes) -> tuple[requests.Response, bytes | None]:
        """Return the node's response with its body, which is None when it is too large."""
        try:
            with deadline(_TOTAL_TIMEOUTS * self._timeout_s):
                # 1. Send the request. A node may close an idle connection just as it is used again;
                #    to ask twice does no harm: a transaction sent twice is the same transaction.
                try:
                    response = self._connection.post(body, self._timeout_s)
                except requests.Timeout:
                    raise
                except requests.ConnectionError:
                    response = self._connection.post(body, self._timeout_s)
                # 2. Read the answer, up to the limit.
                with response:
                    answer = bytearray()
                    for piece in response.iter_content(_PIECE_BYTES):
                        answer += piece
                        if len(answer) > MAX_ANSWER_BYTES:
                            return response, None
                    return response, bytes(answer)
        except requests.RequestException as error:
            # What comes late in a body arrives as a ConnectionError around urllib3's own error.
            inner = error.args[0] if error.args else None
            is_late = isinstance(inner, urllib3.exceptions.ReadTimeoutError)
            if is_late or isinstance(error, requests.Timeout):
                raise TimedOut(
                    f"the Ethereum RPC at {self.place} did not answer within {self._timeout_s:g} s"
                ) from error
            raise Unavailable(
                f"the Ethereum RPC at {self.place} cannot be reached ({_cause(error)}):"
                " check that it runs there",
                service="chain",
            ) from error


@contextmanager
def plain_errors() -> Iterator[None]:
    """Turn what web3 raises in the block into this project's errors.

    That is Reverted for a revert, and Unavailable for everything else that a node may refuse or
    answer.
    """
    try:
        yield
    except BadFunctionCallOutput as error:
        # A federation's code was compared before it is asked anything, so this is the node's.
        raise Unavailable(
            "the contract's answer does not fit its interface: it is another contract, or the node"
            " does not have it at that block",
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
    # In an ABI, a length may be any number, and a string any bytes.
    except (Web3Exception, OverflowError, UnicodeDecodeError) as error:
        raise Unavailable(
            f"the Ethereum RPC answers out of form: {error}", service="chain"
        ) from error


def error_message(error: Web3RPCError) -> str:
    """Return the message of the node's error object, on one line."""
    reported = (error.rpc_response or {}).get("error")
    message = reported.get("message") if isinstance(reported, dict) else None
    return _one_line(message or error.message)


def _read_answer(body: bytes) -> RPCResponse | None:
    """Return the JSON-RPC answer in the body, or None when there is none."""
    # 1. Bound the depth, counting brackets inside of strings as well. web3 lifts Python's own limit
    #    so far that parsing a deep answer could end the process. Bound the number of values too.
    found = np.frombuffer(body, np.uint8)
    opened = ((found == ord("[")) | (found == ord("{"))).astype(np.int8)
    closed = ((found == ord("]")) | (found == ord("}"))).astype(np.int8)
    if np.cumsum(opened - closed, dtype=np.int32).max(initial=0) > _MAX_DEPTH:
        return None
    values = int(opened.sum(dtype=np.int64)) + body.count(b",")
    if values > _SPARE_VALUES + len(body) // _FEWEST_BYTES_PER_VALUE:
        return None
    # 2. Parse it.
    try:
        answer = json.loads(body)
    except ValueError:
        return None
    if not isinstance(answer, dict) or not ("result" in answer or "error" in answer):
        return None
    # 3. Keep what counts. One request per answer: the id tells nothing, and some nodes leave it or
    #    the version out.
    checked = {"jsonrpc": "2.0", "id": 0}
    error = answer.get("error")
    if error is None:
        checked["result"] = answer.get("result")
    else:
        checked["error"] = error if isinstance(error, dict) else {"code": 0, "message": str(error)}
    return cast(RPCResponse, checked)


def _message(answer: RPCResponse) -> str:
    error = answer.get("error")
    reported = error.get("message") if isinstance(error, dict) else error
    return _one_line(reported or "")


def _one_line(reported: object) -> str:
    return " ".join(str(reported)[:_MOST_WORDS].split())


def _is_rate_limit(answer: RPCResponse) -> bool:
    """Whether the answer is an error that means: too many requests."""
    error = cast(Mapping[str, Any], answer.get("error") or {})
    if "data" in error and str(error["data"]).startswith("0x"):
        return False  # a contract's revert, which may say anything
    if error.get("code") == 429:
        return True
    message = _message(answer)
    return "revert" not in message and _RATE_WORDS.search(message) is not None


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
