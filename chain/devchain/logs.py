"""Selecting event logs by place, address and topics (eth_getLogs and filters)."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from chain.devchain.formats import log_json
from chain.devchain.ledger import Block, Log
from chain.devchain.params import read_address, read_bytes
from chain.devchain.rpc_error import invalid_params


@dataclass(frozen=True)
class LogQuery:
    """Addresses (empty: any) and, for each position, the topics that match (empty: any)."""

    addresses: frozenset[bytes]
    topics: tuple[frozenset[bytes], ...]

    def matches(self, log: Log) -> bool:
        """Tell whether `log` is one that was asked for."""
        if self.addresses and log.address not in self.addresses:
            return False
        if len(log.topics) < len(self.topics):
            return False
        return all(
            not wanted or topic in wanted
            for wanted, topic in zip(self.topics, log.topics, strict=False)
        )


def read_log_query(criteria: Any) -> LogQuery:
    """Return the address and topics of a filter object. Raises RpcError when they are wrong."""
    if not isinstance(criteria, dict):
        raise invalid_params("filter: expected an object")
    addresses = _alternatives(criteria.get("address"))
    topics = criteria.get("topics") or []
    if not isinstance(topics, list) or len(topics) > 4:
        raise invalid_params("topics: expected a list of at most 4")
    return LogQuery(
        addresses=frozenset(read_address(address, "address") for address in addresses),
        topics=tuple(
            # null among the alternatives of a position means that anything matches there
            frozenset()
            if None in _alternatives(topic)
            else frozenset(read_bytes(choice, "topics", 32) for choice in _alternatives(topic))
            for topic in topics
        ),
    )


def select_logs(blocks: Iterable[Block], query: LogQuery) -> Iterator[dict[str, Any]]:
    """Yield the JSON of each matching log in `blocks`, in the order they were mined."""
    for block in blocks:
        for item in block.transactions:
            for log in item.logs:
                if query.matches(log):
                    yield log_json(log, item, block)


def _alternatives(value: Any) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]
