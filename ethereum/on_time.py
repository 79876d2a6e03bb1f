"""HTTP answers that end with the clock, in the headers as in the body.

A timeout of `requests` bounds the wait for each packet, so an answer that drips lasts for ever.

    session.mount("http://", TimedAdapter())
    with deadline(60.0):
        session.post(url, timeout=15.0)     # requests.Timeout after 60 s, whatever arrives
"""

import http.client
import io
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, cast

from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection

_THREAD: Final = threading.local()


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Bound all that this thread receives through a `TimedAdapter` until the context ends."""
    _THREAD.ends_at = time.monotonic() + seconds
    try:
        yield
    finally:
        del _THREAD.ends_at


class _TimedReader(io.RawIOBase):
    """Reads from a socket, waiting each time no longer than its timeout and the deadline allow."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket) -> None:
        self._raw = raw  # its close() is what lets the socket go
        self._sock = sock
        self._silence_s = sock.gettimeout()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int | None:  # type: ignore[override]
        ends_at: float | None = getattr(_THREAD, "ends_at", None)
        if ends_at is not None:
            left = ends_at - time.monotonic()
            if left <= 0:
                raise TimeoutError("the whole answer took too long")
            self._sock.settimeout(left if self._silence_s is None else min(left, self._silence_s))
        return cast("int | None", self._raw.readinto(buffer))

    def close(self) -> None:
        self._raw.close()
        super().close()


class _TimedResponse(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp = io.BufferedReader(_TimedReader(self.fp.detach(), sock))


class _TimedHttp(HTTPConnection):
    response_class = _TimedResponse


class _TimedHttps(HTTPSConnection):
    response_class = _TimedResponse


class _HttpPool(HTTPConnectionPool):
    ConnectionCls = _TimedHttp


class _HttpsPool(HTTPSConnectionPool):
    ConnectionCls = _TimedHttps


_POOLS: Final = {"http": _HttpPool, "https": _HttpsPool}


class TimedAdapter(HTTPAdapter):
    """An adapter of `requests`, through proxies too, whose answers obey `deadline`."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Make the pools of direct connections."""
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        """Return the pools of connections through a proxy."""
        manager = super().proxy_manager_for(*args, **kwargs)
        manager.pool_classes_by_scheme = _POOLS
        return manager
