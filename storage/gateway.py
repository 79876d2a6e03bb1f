"""Raw blocks from a trustless gateway: GET …/ipfs/CID?format=raw (docs/protocol.md §12).

    gateway = GatewayStore(Gateway("https", "ann.example", 443), DialRules())
    gateway.probe()
    gateway.get_block(digest, size=1_048_576)

A gateway of IPFS answers so, and so does a bucket or any web server with the blocks in files called
by their CIDs: such a server ignores the query.
"""

import http.client
import math
from collections.abc import Iterator
from typing import Final

from protocol.cid import raw_cid
from protocol.errors import Unavailable, WrongBytes
from protocol.types import Digest
from protocol.whereabouts import Gateway
from storage.blocks import MAX_BLOCK_BYTES, SLOWEST_BYTES_PER_S, join_block, longest, time_limit
from storage.dial import DialRules
from storage.http import BadStatus, Request, Server, one_line, shorten

EMPTY_CID: Final = "bafkqaaa"
"""The CID of no bytes, which contains them: every gateway of IPFS has it."""

_PAGE_BYTES: Final = 65_536  # a page in place of nothing is read no further than this

# A bucket that must not be listed answers 403 where there is no such object.
_MISSING: Final = (403, 404, 410)
_HEADERS: Final = {"Accept": "application/vnd.ipld.raw", "Accept-Encoding": "identity"}


class Missing(Unavailable):
    """The gateway answers, and does not have the block."""


class GatewayStore:
    """A gateway that somebody announced; any number of threads may share it.

    `timeout_s` bounds connecting and every silence, as for an IPFS daemon. Every method raises
    Unavailable, with one line that names the gateway.
    """

    def __init__(
        self,
        gateway: Gateway,
        rules: DialRules,
        timeout_s: float = 30.0,
        slowest_bytes_per_s: int = SLOWEST_BYTES_PER_S,
    ) -> None:
        self.gateway = gateway
        self._timeout_s, self._slowest_bytes_per_s = timeout_s, slowest_bytes_per_s
        self._server = Server(gateway.authority, lambda clock: rules.dial(gateway, clock))

    def probe(self, deadline: float = math.inf) -> None:
        """Return when this is a gateway: it answers with nothing, to the CID of nothing."""
        # Whoever only happens to have a web server there answers with a page.
        if any(self._read(EMPTY_CID, 0, _PAGE_BYTES, deadline)):
            raise WrongBytes(f"{self.gateway.line} is no gateway: it has bytes for {EMPTY_CID}")

    def get_block(
        self, digest: Digest, size: int | None = None, deadline: float = math.inf
    ) -> bytes:
        """Return a block (storage/blocks.py); Missing when the gateway does not have it."""
        pieces = self._read(raw_cid(digest), size or MAX_BLOCK_BYTES, longest(size), deadline)
        return join_block(pieces, digest, size, self.gateway.line)

    def _read(self, cid: str, expected: int, most: int, deadline: float) -> Iterator[bytes]:
        limit = time_limit(expected, self._timeout_s, self._slowest_bytes_per_s, deadline)
        request = Request("GET", f"{self.gateway.path}/ipfs/{cid}?format=raw", _HEADERS)
        try:
            yield from self._server.stream(request, limit, most)
        except BadStatus as answer:
            kind = Missing if answer.status in _MISSING else Unavailable
            raise kind(
                f"{self.gateway.line}: {cid}: HTTP {answer.status}", service="storage"
            ) from None
        except (OSError, http.client.HTTPException) as error:
            raise Unavailable(
                f"{self.gateway.line}: {cid}: {shorten(one_line(error))}", service="storage"
            ) from None
