"""A federation's events: one frozen record per log, in chain order.

    for event in read_events(w3, address, from_block=deployed):
        match event:
            case Revealed(): print(event.round, event.participant, event.root.hex())

Each record carries its place: block number and hash, transaction hash, log index. `event.key` is
unique: after a reorganisation the same log has another block hash. In JSON, bytes are hex.
"""

import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Final
from weakref import WeakKeyDictionary

from eth_abi.exceptions import DecodingError
from eth_utils.address import to_checksum_address
from hexbytes import HexBytes
from pydantic import BaseModel, ConfigDict, Field
from web3 import Web3
from web3.contract.base_contract import BaseContractEvent
from web3.exceptions import InvalidEventABI, LogTopicError, MismatchedABI, Web3RPCError
from web3.types import FilterParams, LogReceipt

from contracts.compiler import load_artifact
from contracts.names import snake_case
from ethereum.rpc import RateLimited, TimedOut, error_message, plain_errors
from protocol.errors import Misconfigured, Unavailable
from protocol.types import Address, Digest, RoundId, TokenUnits, UnixTime
from protocol.verdict import Verdict

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

Bytes32 = Annotated[Digest, Field(min_length=32, max_length=32)]


class FederationEvent(BaseModel):
    """One log of a federation."""

    # Extra fields are forbidden: a field that this version does not know would be lost in silence.
    model_config = ConfigDict(
        frozen=True, extra="forbid", ser_json_bytes="hex", val_json_bytes="hex"
    )

    block_number: int
    block_hash: Bytes32
    transaction_hash: Bytes32
    log_index: int

    @property
    def key(self) -> tuple[Digest, int]:
        """Block hash and log index, which together identify a log."""
        return self.block_hash, self.log_index


class RoundEvent(FederationEvent):
    """A log about a round."""

    round: RoundId


class Created(FederationEvent):
    """The federation was deployed."""

    sponsor: Address
    spec_digest: Bytes32
    model_root: Bytes32
    model_manifest: Bytes32
    aggregators: tuple[Address, ...]


class Funded(FederationEvent):
    """`amount` was added to the escrow."""

    funder: Address
    amount: TokenUnits


class Refunded(FederationEvent):
    """The escrow that was never spent was credited to the sponsor."""

    sponsor: Address
    amount: TokenUnits


class Bonded(FederationEvent):
    """An aggregator posted its bond."""

    aggregator: Address
    amount: TokenUnits


class Unbonded(FederationEvent):
    """An aggregator's bond was credited back to it."""

    aggregator: Address
    amount: TokenUnits


class AggregatorSlashed(RoundEvent):
    """An aggregator lost its bond to the escrow."""

    aggregator: Address
    amount: TokenUnits


class ProposalRefuted(RoundEvent):
    """A proposal was proved wrong and is void.

    `reward` went from the escrow to the challenger, after the AggregatorSlashed of the same
    transaction brought the whole bond there.
    """

    challenger: Address
    aggregator: Address
    root: Bytes32
    reward: TokenUnits


class AvailabilityChallenged(RoundEvent):
    """A leaf request: leaf `leaf` under `root` must be posted before `deadline`."""

    challenger: Address
    root: Bytes32
    leaf: int
    deadline: UnixTime


class LeafPosted(RoundEvent):
    """A leaf request was answered; its deposit was credited to the responder.

    `values` are the leaf's bytes, `proof` its siblings up to `root`, checked by the contract.
    """

    # In the event and not only in calldata: an answer sent through a contract could otherwise be
    # read by tracing nodes alone (docs/decisions/0007-availability.md).

    responder: Address
    root: Bytes32
    leaf: int
    values: bytes
    proof: tuple[Bytes32, ...]


class DepositReturned(RoundEvent):
    """A deposit was returned: nobody posted the leaf, or the proposal no longer stands."""

    challenger: Address
    root: Bytes32
    leaf: int


class AggregatorReplaced(RoundEvent):
    """A standby took over; `round` and `propose_deadline` are 0 when no round was open."""

    previous: Address
    current: Address
    propose_deadline: UnixTime


class Joined(FederationEvent):
    """A participant joined, rejoined, or topped up its stake by `amount`."""

    participant: Address
    amount: TokenUnits


class Left(FederationEvent):
    """A participant is leaving; its stake is free at `unlock_at`."""

    participant: Address
    unlock_at: UnixTime


class StakeReleased(FederationEvent):
    """A participant that left had its stake credited."""

    participant: Address
    amount: TokenUnits


class Penalized(RoundEvent):
    """A commitment was never revealed; `amount` of the stake went to the escrow."""

    participant: Address
    amount: TokenUnits


class Withdrawn(FederationEvent):
    """Credit was paid out."""

    account: Address
    amount: TokenUnits


class RoundOpened(RoundEvent):
    """A round began."""

    aggregator: Address
    seed: Bytes32
    commit_deadline: UnixTime
    reveal_deadline: UnixTime
    propose_deadline: UnixTime
    expected: int


class Committed(RoundEvent):
    """A participant committed to an update."""

    participant: Address
    commitment: Bytes32


class Revealed(RoundEvent):
    """A participant revealed the update it had committed to."""

    participant: Address
    root: Bytes32
    manifest: Bytes32
    examples: int
    salt: Bytes32


class Proposed(RoundEvent):
    """The aggregator proposed the round's model, with its decision on every revealed update."""

    aggregator: Address
    root: Bytes32
    manifest: Bytes32
    challenge_deadline: UnixTime
    verdicts: tuple[Verdict, ...]


class Paid(RoundEvent):
    """A participant was credited its share of the round's reward."""

    participant: Address
    amount: TokenUnits


class Finalized(RoundEvent):
    """The round's model is settled; `paid` includes the aggregator's fee."""

    root: Bytes32
    manifest: Bytes32
    aggregator: Address
    fee: TokenUnits
    paid: TokenUnits


class Abandoned(RoundEvent):
    """The round ended without a model."""


EVENT_TYPES: tuple[type[FederationEvent], ...] = (
    Created,
    Funded,
    Refunded,
    Bonded,
    Unbonded,
    AggregatorSlashed,
    ProposalRefuted,
    AvailabilityChallenged,
    LeafPosted,
    DepositReturned,
    AggregatorReplaced,
    Joined,
    Left,
    StakeReleased,
    Penalized,
    Withdrawn,
    RoundOpened,
    Committed,
    Revealed,
    Proposed,
    Paid,
    Finalized,
    Abandoned,
)


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


def read_events(
    w3: Web3,
    address: Address,
    from_block: int = 0,
    to_block: int | None = None,
    page: int = PAGE_BLOCKS,
    *,
    round_id: RoundId | None = None,
) -> list[FederationEvent]:
    """Return the federation's events from `from_block` to `to_block`, inclusive, in chain order.

    Up to the latest block when `to_block` is None; of one round only when `round_id` is given. Asks
    for at most `page` blocks at a time. A page that is too large for the node, or too slow, is
    made smaller and grows again later; the limit is remembered per connection. Raises Unavailable
    when the node fails several times in a row on one page, and Misconfigured for an unknown event.
    """
    if to_block is None:
        with plain_errors():
            to_block = w3.eth.block_number
    pages = _PAGES.setdefault(w3, _Pages())
    found: list[FederationEvent] = []
    first = from_block
    while first <= to_block:
        last = min(first + min(page, pages.size), to_block + 1) - 1
        logs = _get_logs(w3, pages, address, first, last, round_id)
        if logs is not None:
            pages.grow(last - first + 1)
            found += events_in(address, logs)
            first = last + 1
    return sorted(found, key=lambda event: (event.block_number, event.log_index))


def events_in(address: Address, logs: Iterable[LogReceipt]) -> tuple[FederationEvent, ...]:
    """Return the events among `logs` that the federation at `address` emitted, in their order."""
    # A receipt also has the token's logs, and a node may serve logs that a reorganisation removed.
    return tuple(
        _decode(log)
        for log in logs
        if str(log["address"]) == address and not log.get("removed", False)
    )


def _get_logs(
    w3: Web3,
    pages: _Pages,
    address: Address,
    first: int,
    last: int,
    round_id: RoundId | None,
) -> Sequence[LogReceipt] | None:
    """Return the logs of a range, or None when it is too large and `pages` has shrunk.

    After any other failure the same range is tried again.
    """
    query: FilterParams = {
        "address": to_checksum_address(address),
        "fromBlock": first,
        "toBlock": last,
    }
    if round_id is not None:
        # The round is the first indexed field of every round event.
        about_rounds = [
            "0x" + topic.hex()
            for topic, (kind, _) in _declared().items()
            if issubclass(kind, RoundEvent)
        ]
        query["topics"] = [about_rounds, "0x" + round_id.to_bytes(32, "big").hex()]
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


@cache
def _declared() -> dict[bytes, tuple[type[FederationEvent], BaseContractEvent]]:
    """Return each event's record type and decoder, by the hash of its signature."""
    contract = Web3().eth.contract(abi=load_artifact("Federation")["abi"])
    decoders = {kind: contract.events[kind.__name__]() for kind in EVENT_TYPES}
    return {bytes(HexBytes(each.topic)): (kind, each) for kind, each in decoders.items()}


def _decode(log: LogReceipt) -> FederationEvent:
    known = _declared().get(bytes(log["topics"][0])) if log["topics"] else None
    # Not skipped: a history with a gap would be taken for the whole one.
    if known is None:
        raise Misconfigured(
            f"{log['address']} emitted an event that this version does not know"
            f" (block {log['blockNumber']}, log {log['logIndex']})"
        )
    kind, decoder = known
    try:
        values = {
            snake_case(name): value for name, value in decoder.process_log(log)["args"].items()
        }
    except (LogTopicError, MismatchedABI, InvalidEventABI, DecodingError, ValueError) as error:
        raise Misconfigured(f"a log of {kind.__name__} does not fit its interface") from error
    if "verdicts" in values:
        values["verdicts"] = tuple(Verdict(**row) for row in values["verdicts"])
    return kind(
        block_number=log["blockNumber"],
        block_hash=Digest(bytes(log["blockHash"])),
        transaction_hash=Digest(bytes(log["transactionHash"])),
        log_index=log["logIndex"],
        **values,
    )
