"""Filters that a client installs and polls: eth_newFilter and its companions."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from chain.devchain.formats import hex_bytes
from chain.devchain.ledger import Block
from chain.devchain.logs import read_log_query, select_logs
from chain.devchain.params import read_quantity
from chain.devchain.rpc_error import refused

MAX_FILTERS = 1_000  # the oldest goes when another is installed


@dataclass
class Filter:
    """What to report of new blocks; `next_block` is the first that was not reported yet."""

    report: Callable[[Sequence[Block]], list[Any]]
    next_block: int
    criteria: dict[str, Any] | None = None  # of a log filter


class FilterTable:
    """The installed filters of a chain. They do not outlive the process."""

    def __init__(self) -> None:
        self._filters: dict[int, Filter] = {}
        self._count = 0

    def install(self, new: Filter) -> str:
        """Return the id of a newly installed filter."""
        self._count += 1
        self._filters[self._count] = new
        if len(self._filters) > MAX_FILTERS:
            del self._filters[min(self._filters)]
        return hex(self._count)

    def find(self, filter_id: Any) -> Filter:
        """Return an installed filter. Raises RpcError when there is none."""
        found = self._filters.get(read_quantity(filter_id, "filter"))
        if found is None:
            raise refused("filter not found")
        return found

    def rewind(self, number: int) -> None:
        """Note that the blocks after `number` were dropped, so that their successors are told."""
        for one in self._filters.values():
            one.next_block = min(one.next_block, number + 1)

    def remove(self, filter_id: Any) -> bool:
        """Remove a filter; return whether there was one."""
        return self._filters.pop(read_quantity(filter_id, "filter"), None) is not None


def log_filter(criteria: Any, first: int, last: int | None) -> Filter:
    """Return a filter for logs from block `first` to `last` (None: no end) and later than now."""
    query = read_log_query(criteria)

    def report(blocks: Sequence[Block]) -> list[Any]:
        chosen = [one for one in blocks if one.number >= first]
        if last is not None:
            chosen = [one for one in chosen if one.number <= last]
        return list(select_logs(chosen, query))

    return Filter(report, next_block=0, criteria=criteria)


def block_filter() -> Filter:
    """Return a filter for the hashes of new blocks."""
    return Filter(lambda blocks: [hex_bytes(block.hash) for block in blocks], next_block=0)


def transaction_filter() -> Filter:
    """Return a filter for the hashes of new transactions; here they are mined as they come."""
    return Filter(
        lambda blocks: [hex_bytes(item.hash) for block in blocks for item in block.transactions],
        next_block=0,
    )
