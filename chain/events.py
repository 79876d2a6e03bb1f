"""What the federation has told: every event as a frozen record, in the order of the chain.

    for event in read_events(w3, address, from_block=deployed):
        match event:
            case Revealed(): print(event.round, event.participant, event.root.hex())

Each carries where it stands: block number and hash, transaction hash, log index. `event.key` names
it for good: after a reorganisation the same log has another block hash. As JSON, bytes are hex.
"""

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Annotated, Any

from eth_abi.abi import decode
from eth_abi.exceptions import DecodingError
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak
from pydantic import BaseModel, ConfigDict, Field
from web3 import Web3
from web3.exceptions import BlockNotFound, Web3RPCError
from web3.types import FilterParams, LogReceipt

from chain.compiler import load_artifact
from chain.names import snake_case
from chain.rpc import TimedOut, plain_errors
from protocol.errors import Misconfigured
from protocol.quantities import Address, Digest, RoundId, TokenUnits, UnixTime
from protocol.verdict import Verdict

PAGE_BLOCKS = 2_000
Bytes32 = Annotated[Digest, Field(min_length=32, max_length=32)]


class FederationEvent(BaseModel):
    """One log of a federation."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", ser_json_bytes="hex", val_json_bytes="hex"
    )

    block_number: int
    block_hash: Bytes32
    transaction_hash: Bytes32
    log_index: int

    @property
    def key(self) -> tuple[Digest, int]:
        """Block hash and log index: no other log has both."""
        return self.block_hash, self.log_index


class RoundEvent(FederationEvent):
    """A log about a round."""

    round: RoundId


class Created(FederationEvent):
    """The federation exists."""

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
    """What was never spent was credited to the sponsor."""

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
    """A proposal was shown to be wrong and is void.

    `reward` went from the escrow to the challenger, after the AggregatorSlashed of the same
    transaction brought the whole bond there.
    """

    challenger: Address
    aggregator: Address
    root: Bytes32
    reward: TokenUnits


class AvailabilityChallenged(RoundEvent):
    """Leaf `leaf` under `root` must be posted before `deadline`; the deposit was taken."""

    challenger: Address
    root: Bytes32
    leaf: int
    deadline: UnixTime


class LeafPosted(RoundEvent):
    """A leaf that was demanded is public; the deposit was credited to the responder.

    `values` are its bytes, `proof` its siblings on the way up to `root`: the contract checked them.
    """

    responder: Address
    root: Bytes32
    leaf: int
    values: bytes
    proof: tuple[Bytes32, ...]


class DepositReturned(RoundEvent):
    """A deposit was credited back: nobody posted the leaf, or the proposal no longer stands."""

    challenger: Address
    root: Bytes32
    leaf: int


class AggregatorReplaced(RoundEvent):
    """A standby took over; `round` and `propose_deadline` are 0 when no round was open."""

    previous: Address
    current: Address
    propose_deadline: UnixTime


class Joined(FederationEvent):
    """A participant joined, came back, or filled its stake up by `amount`."""

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


def read_events(
    w3: Web3,
    address: Address,
    from_block: int = 0,
    to_block: int | None = None,
    page: int = PAGE_BLOCKS,
    *,
    round_id: RoundId | None = None,
) -> list[FederationEvent]:
    """Return the federation's events from `from_block` to `to_block`, both included, in order.

    To the latest block when `to_block` is None; only of one round when `round_id` is given. Asks
    for `page` blocks at a time, and for half as many whenever the node refuses or is too slow.
    Unavailable when it refuses a single block, Misconfigured for an event nobody knows.
    """
    if to_block is None:
        with plain_errors():
            to_block = w3.eth.block_number
    found: list[FederationEvent] = []
    first = from_block
    while first <= to_block:
        last = min(first + page - 1, to_block)
        logs = _get_logs(w3, address, first, last, round_id)
        if logs is None:
            page = (last - first + 1) // 2
            continue
        found += events_in(address, logs)
        first = last + 1
    return sorted(found, key=lambda event: (event.block_number, event.log_index))


def events_in(address: Address, logs: Iterable[LogReceipt]) -> tuple[FederationEvent, ...]:
    """Return the events among `logs` that the federation at `address` emitted, in their order."""
    return tuple(
        _decode(log)
        for log in logs
        if str(log["address"]) == address and not log.get("removed", False)
    )


def _get_logs(
    w3: Web3, address: Address, first: int, last: int, round_id: RoundId | None
) -> Sequence[LogReceipt] | None:
    """Return the logs of a range, or None when it should be asked for in smaller parts."""
    query: FilterParams = {
        "address": to_checksum_address(address),
        "fromBlock": first,
        "toBlock": last,
    }
    if round_id is not None:
        query["topics"] = [_round_topics(), "0x" + round_id.to_bytes(32, "big").hex()]
    with plain_errors():
        try:
            return w3.eth.get_logs(query)
        except (Web3RPCError, TimedOut) as error:
            if first == last or isinstance(error, BlockNotFound):
                raise
            return None


@cache
def _declared() -> dict[bytes, tuple[type[FederationEvent], dict[str, Any]]]:
    """Return record and ABI of each event, by the hash of its signature."""
    types = {each.__name__: each for each in EVENT_TYPES}
    entries = [entry for entry in load_artifact("Federation")["abi"] if entry["type"] == "event"]
    return {keccak(text=_signature(entry)): (types[entry["name"]], entry) for entry in entries}


def _signature(entry: dict[str, Any]) -> str:
    return f"{entry['name']}({','.join(_type(field) for field in entry['inputs'])})"


def _type(field: dict[str, Any]) -> str:
    if not field["type"].startswith("tuple"):
        return str(field["type"])
    inner = ",".join(_type(component) for component in field["components"])
    return f"({inner}){field['type'].removeprefix('tuple')}"


@cache
def _round_topics() -> list[str]:
    return [
        "0x" + topic.hex()
        for topic, (kind, _) in _declared().items()
        if issubclass(kind, RoundEvent)
    ]


def _decode(log: LogReceipt) -> FederationEvent:
    topics = [bytes(topic) for topic in log["topics"]]
    if not topics or topics[0] not in _declared():
        raise Misconfigured(
            f"{log['address']} emitted an event that this version does not know"
            f" (block {log['blockNumber']}, log {log['logIndex']})"
        )
    kind, entry = _declared()[topics[0]]
    values = _values(entry, topics[1:], bytes(log["data"]))
    return kind(
        block_number=log["blockNumber"],
        block_hash=Digest(bytes(log["blockHash"])),
        transaction_hash=Digest(bytes(log["transactionHash"])),
        log_index=log["logIndex"],
        **values,
    )


def _values(entry: dict[str, Any], topics: Sequence[bytes], data: bytes) -> dict[str, Any]:
    indexed = [field for field in entry["inputs"] if field["indexed"]]
    plain = [field for field in entry["inputs"] if not field["indexed"]]
    try:
        told = [
            decode([_type(field)], topic)[0] for field, topic in zip(indexed, topics, strict=True)
        ]
        read = decode([_type(field) for field in plain], data)
    except (DecodingError, ValueError) as error:
        raise Misconfigured(f"a log of {entry['name']} does not fit its interface") from error
    pairs = zip([*indexed, *plain], [*told, *read], strict=True)
    return {snake_case(field["name"]): _value(field, value) for field, value in pairs}


def _value(field: dict[str, Any], value: Any) -> Any:
    if field["type"] == "address":
        return to_checksum_address(value)
    if field["type"] == "address[]":
        return tuple(to_checksum_address(each) for each in value)
    if field["type"] == "tuple[]":
        return tuple(
            Verdict(Address(to_checksum_address(participant)), *rest)
            for participant, *rest in value
        )
    return value
