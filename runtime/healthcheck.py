"""Check whether a service answers: the containers' health checks.

    python -m runtime.healthcheck chain   http://127.0.0.1:8545
    python -m runtime.healthcheck ipfs    http://127.0.0.1:5001
    python -m runtime.healthcheck metrics http://127.0.0.1:9464
    python -m runtime.healthcheck explorer http://127.0.0.1:8080

Exit code 0 when it does, 1 when it does not. It runs every few seconds, so it imports only the
standard library.
"""

import sys
import urllib.request
from collections.abc import Callable, Sequence
from http.client import HTTPException
from typing import Final

_TIMEOUT_S: Final = 4.0  # below the 5 s after which the compose files give a check up
_CHAIN_ID: Final = b'{"jsonrpc":"2.0","id":1,"method":"eth_chainId","params":[]}'


def is_chain(url: str) -> bool:
    """Whether an Ethereum node answers at `url`."""
    return b'"result"' in (_ask(url, _CHAIN_ID) or b"")


def is_ipfs(url: str) -> bool:
    """Whether an IPFS daemon's RPC answers at `url`."""
    return b'"Version"' in (_ask(f"{url}/api/v0/version", b"") or b"")


def has_metrics(url: str) -> bool:
    """Whether a role serves its metrics at `url`."""
    return _ask(f"{url}/metrics", None) is not None


def is_explorer(url: str) -> bool:
    """Whether the explorer serves its pages at `url`."""
    return b'"ok"' in (_ask(f"{url}/health", None) or b"")


_CHECKS: Final[dict[str, Callable[[str], bool]]] = {
    "chain": is_chain,
    "ipfs": is_ipfs,
    "metrics": has_metrics,
    "explorer": is_explorer,
}


def _ask(url: str, body: bytes | None) -> bytes | None:
    """Return the answer to a POST of `body`, or to a GET without one; None when there is none."""
    headers = {} if body is None else {"Content-Type": "application/json"}
    try:
        # No proxy: the service is on this machine or in this network.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(urllib.request.Request(url, body, headers), timeout=_TIMEOUT_S) as answer:
            # The beginning is enough to recognise an answer, however long it is.
            return bytes(answer.read(4096))
    except (OSError, HTTPException, ValueError):
        return None


def main(arguments: Sequence[str]) -> int:
    """Return the exit code of a health check; 2 for arguments that it does not know."""
    if len(arguments) != 2 or arguments[0] not in _CHECKS:
        print(f"usage: python -m runtime.healthcheck {'|'.join(_CHECKS)} URL", file=sys.stderr)
        return 2
    kind, url = arguments
    if _CHECKS[kind](url.rstrip("/")):
        return 0
    print(f"{kind}: no answer at {url}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
