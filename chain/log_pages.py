"""A contract's logs from a node that returns only so many at once.

Nodes limit the blocks or the results of a request, each in its own words; the limit is found by
trial and remembered per connection.
"""

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from weakref import WeakKeyDictionary

from eth_utils.address import to_checksum_address
from web3 import Web3
from web3.exceptions import Web3RPCError
from web3.types import FilterParams, LogReceipt

from ethereum.rpc import RateLimited, TimedOut, error_message, plain_errors
from protocol.errors import Unavailable
from protocol.types import Address

Topics = list[str | list[str]]
"""A filter by topics, in order; a list of topics allows each of them."""

PAGE_BLOCKS: Final = 2_000
_PAUSES_S: Final = (0.25, 0.5, 1.0, 2.0)
_FIRST_PATIENCE: Final = 16  # pages before a limit is tested again
_LAST_PATIENCE: Final = 256

# Nodes have no common error code for a page that is too large. These are the words of geth, erigon,
# nethermind, besu, reth and hosted nodes.
_TOO_MUCH: Final = re.compile(
    r"range|max(imum)?\b|limit|too (many|large|big|wide|long)|size|more than|exceed"
    r"|time ?out|timed out|deadline",
    re.IGNORECASE,
)
# The same words also occur in errors that no smaller page avoids: the node is behind, or still
# building its index. These are raised, and the same page is asked for again.
_NOT_THERE: Final = re.compile(
    r"beyond|head block|future|not found|unknown block|not available|log index|invalid block range",
    re.IGNORECASE,
)
# A range of blocks ("0x1, 0x2" or "1 to 2") or a number of blocks ("10,000", "10k") in an error.
# HTTP status codes are numbers too.
_PAIR: Final = re.compile(r"\b(0x[0-9a-f]+|\d+)\W{1,3}(?:to\W)?(0x[0-9a-f]+|\d+)\b", re.IGNORECASE)
_COUNT: Final = re.compile(r"(?<!HTTP )(?<![\w.])(\d[\d,_]*)(k?)(?![\w])", re.IGNORECASE)


@dataclass
class _Pages:
    """The number of blocks whose logs one node returns at once, found by trial.

    `size` is asked for next, `worked` was answered last, and `refused` is the smallest size that
    was too large, if any.
    """

    # Growth stops below `refused`. That limit is dropped after `patience` pages, since a limit on
    # results allows more blocks where there are fewer logs. If it turns out to hold, the next trial
    # comes later, or a node with a fixed limit would refuse every few pages.

    size: int = PAGE_BLOCKS
    worked: int = 0
    refused: int | None = None
    since: int = 0
    patience: int = _FIRST_PATIENCE
    is_trial: bool = False

    def shrink(self, asked: int, named: int | None) -> None:
        """Note that `asked` blocks were too many, and how many the node says it allows."""
        if self.is_trial:
            self.patience = min(2 * self.patience, _LAST_PATIENCE)
        if self.worked >= asked:
            self.worked = 0  # these blocks have more logs than those before
        self.since, self.is_trial = 0, False
        self.size = named or self.worked or asked // 2
        self.refused = self.size + 1 if named else asked

    def grow(self, asked: int) -> None:
        """Note that `asked` blocks were not too many."""
        if asked < self.size:
            return  # the rest of a range, which says nothing about the limit
        if self.is_trial and asked > self.worked:
            self.patience, self.is_trial = _FIRST_PATIENCE, False
        self.worked = asked
        self.since += 1
        if self.refused is not None and self.since >= self.patience:
            self.since, self.refused, self.is_trial = 0, None, True
        if self.refused is None:
            self.size = min(2 * self.size, PAGE_BLOCKS)
        else:
            self.size = max((self.size + self.refused) // 2, self.size)


# By connection: another node has other limits. Weak, so that a closed connection is forgotten.
_PAGES: "WeakKeyDictionary[Web3, _Pages]" = WeakKeyDictionary()


def read_logs(
    w3: Web3,
    address: Address,
    from_block: int = 0,
    to_block: int | None = None,
    page: int = PAGE_BLOCKS,
    *,
    topics: Topics | None = None,
) -> list[LogReceipt]:
    """Return a contract's logs from `from_block` to `to_block`, inclusive.

    Up to the latest block when `to_block` is None. Asks for at most `page` blocks at a time. A page
    that is too large for the node, or too slow, is made smaller and grows again later; the limit is
    remembered per connection. Raises Unavailable when the node fails several times in a row on one
    page.
    """
    if to_block is None:
        with plain_errors():
            to_block = int(w3.eth.block_number)
    pages = _PAGES.setdefault(w3, _Pages())
    found: list[LogReceipt] = []
    first = from_block
    while first <= to_block:
        last = min(first + min(page, pages.size), to_block + 1) - 1
        logs = _get_logs(w3, pages, address, first, last, topics)
        if logs is not None:
            pages.grow(last - first + 1)
            found += logs
            first = last + 1
    return found


def _get_logs(
    w3: Web3,
    pages: _Pages,
    address: Address,
    first: int,
    last: int,
    topics: Topics | None,
) -> Sequence[LogReceipt] | None:
    """Return the logs of a range, or None when it is too large and `pages` has shrunk.

    After any other failure the same range is tried again.
    """
    query: FilterParams = {
        "address": to_checksum_address(address),
        "fromBlock": first,
        "toBlock": last,
    }
    if topics is not None:
        query["topics"] = topics
    asked = last - first + 1
    for pause in (*_PAUSES_S, None):
        try:
            with plain_errors():
                try:
                    return w3.eth.get_logs(query)
                except Web3RPCError as error:
                    text = error_message(error)
                    if asked == 1 or _NOT_THERE.search(text) or not _TOO_MUCH.search(text):
                        raise
                    pages.shrink(asked, _allowed(text, first, asked))
                    return None
        except RateLimited:
            raise  # the connection has waited as long as the node asked for
        except TimedOut:
            if asked == 1:
                raise
            pages.shrink(asked, None)
            return None
        except Unavailable:
            if pause is None:
                raise
        time.sleep(pause)
    raise AssertionError("the last try returns or raises")


def _allowed(text: str, first: int, asked: int) -> int | None:
    """Return how many blocks the node's error says it would answer; None unless below `asked`.

    Many nodes name a range from `first` on that is small enough, or the size of one.
    """
    for start, end in _PAIR.findall(text):
        size = int(end, 0) - int(start, 0) + 1
        if int(start, 0) == first and 0 < size < asked:
            return size
    named = [
        int(re.sub("[,_]", "", digits)) * (1000 if thousand else 1)
        for digits, thousand in _COUNT.findall(text)
    ]
    # The largest: it may be a number of results, but then a page of that many blocks shrinks again.
    return max((size for size in named if 0 < size < asked), default=None)
