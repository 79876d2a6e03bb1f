"""A federation's events: one frozen record per log, in chain order.

    for event in read_events(w3, address, from_block=deployed):
        match event:
            case Revealed(): print(event.round, event.participant, event.root.hex())

Each record carries its place: block number and hash, transaction hash, log index. `event.key` is
unique: after a reorganisation the same log has another block hash. In JSON, bytes are hex.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Annotated, Any

from eth_abi.abi import decode
from eth_abi.exceptions import DecodingError
from eth_utils.abi import collapse_if_tuple
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak
from pydantic import BaseModel, ConfigDict, Field
from web3 import Web3
from web3.types import LogReceipt

from chain.authentic import IMPLEMENTATION
from chain.log_pages import PAGE_BLOCKS, Topics, read_logs
from contracts.compiler import load_artifact
from contracts.names import snake_case
from protocol.errors import Unavailable
from protocol.types import Address, Digest, RoundId, TokenUnits, UnixTime
from protocol.verdict import Verdict

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


class Funded(FederationEvent):
    """`amount` was added to the escrow."""

    funder: Address
    amount: TokenUnits


class Refunded(FederationEvent):
    """The escrow that was never spent was credited to the sponsor."""

    sponsor: Address
    amount: TokenUnits


class Withdrawn(FederationEvent):
    """The credit of `account` was paid out to `to`."""

    account: Address
    to: Address
    amount: TokenUnits


class Closed(FederationEvent):
    """The sponsor closed the federation: no further round is opened."""

    sponsor: Address


class Announced(FederationEvent):
    """Where `who` can be reached; it speaks for itself only."""

    who: Address
    whereabouts: str


class Joined(FederationEvent):
    """A participant joined, rejoined, or topped up its stake by `amount`."""

    participant: Address
    amount: TokenUnits


class Left(FederationEvent):
    """A participant is leaving; its stake is free at `unlock_at`."""

    participant: Address
    unlock_at: UnixTime


class Evicted(FederationEvent):
    """A participant's seat was freed because it missed rounds; its stake is free at `unlock_at`."""

    participant: Address
    unlock_at: UnixTime


class StakeReleased(FederationEvent):
    """A participant that left had its stake credited."""

    participant: Address
    amount: TokenUnits


class Penalized(RoundEvent):
    """A commitment was never revealed; `amount` of the stake was burned."""

    participant: Address
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
    """An aggregator lost its bond, of which nothing but a challenger's reward is not burned."""

    aggregator: Address
    amount: TokenUnits


class AggregatorReplaced(RoundEvent):
    """A standby took over; `round` and `propose_deadline` are 0 when no round was open."""

    previous: Address
    current: Address
    propose_deadline: UnixTime


class RoundOpened(RoundEvent):
    """A round began; its seed comes from the hash of block `opened_block`."""

    aggregator: Address
    opened_block: int
    active: int


class SeedFixed(RoundEvent):
    """The seats to be asked were drawn, and the deadlines count."""

    seed: Bytes32
    commit_deadline: UnixTime
    reveal_deadline: UnixTime
    propose_deadline: UnixTime


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


class KeyPublished(RoundEvent):
    """The X25519 key to which a commitment to a masked round binds its participant."""

    participant: Address
    public_key: Bytes32


class SecretsBound(RoundEvent):
    """The digest of the commitments in the bundle of a revealed masked update."""

    participant: Address
    secrets: Bytes32


class SetSealed(RoundEvent):
    """The aggregator said which masked updates are summed: those whose verdict has a weight.

    `verdicts` are on all that committed; `revealed` is zero where nothing was revealed. With nobody
    in the set the round ended, and the deadlines are 0.
    """

    aggregator: Address
    unmask_deadline: UnixTime
    assist_deadline: UnixTime
    propose_deadline: UnixTime
    verdicts: tuple[Verdict, ...]


class SketchFixed(RoundEvent):
    """The vectors of a round's sketches were drawn."""

    sketch_seed: Bytes32


class Unmasked(RoundEvent):
    """The secrets of a member of the set are known: `own_seed`, and those with who is outside.

    `seeds` go by ascending address. Another `sender` recovered them from shares, and `sketch`, the
    SHA-256 of the member's sketch, is zero.
    """

    participant: Address
    sender: Address
    own_seed: Bytes32
    seeds: tuple[Bytes32, ...]
    sketch: Bytes32


class Assisted(RoundEvent):
    """A helper's shares of a silent member's secrets, in the order of `Unmasked`."""

    silent: Address
    helper: Address
    shares: tuple[Bytes32, ...]


class Objected(RoundEvent):
    """A member of the set says that the sum does not fit the sketches."""

    participant: Address


class StreamsPosted(RoundEvent):
    """A member of a set that was objected to accounted for its masks.

    `streams` is the SHA-256 of the sketches of the streams that it shares with the others.
    """

    participant: Address
    streams: Bytes32


class Voided(RoundEvent):
    """The round ended: its sum could not be opened, or two thirds of the set objected to it."""


class Proposed(RoundEvent):
    """The aggregator proposed the round's model, with its decision on every revealed update."""

    aggregator: Address
    root: Bytes32
    manifest: Bytes32
    challenge_deadline: UnixTime
    verdicts: tuple[Verdict, ...]


class Paid(RoundEvent):
    """A participant was credited the price of its update."""

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


class ProposalRefuted(RoundEvent):
    """A proposal was proved wrong and is void; the challenger was credited `reward`.

    The AggregatorSlashed of the same transaction, just before, has the whole bond.
    """

    challenger: Address
    aggregator: Address
    root: Bytes32
    reward: TokenUnits


class LeafRequested(RoundEvent):
    """Leaf `leaf` under `root`, of a model or an update, must be posted before `deadline`."""

    challenger: Address
    root: Bytes32
    leaf: int
    is_model: bool
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


EVENT_TYPES: tuple[type[FederationEvent], ...] = (
    Funded,
    Refunded,
    Withdrawn,
    Closed,
    Announced,
    Joined,
    Left,
    Evicted,
    StakeReleased,
    Penalized,
    Bonded,
    Unbonded,
    AggregatorSlashed,
    AggregatorReplaced,
    RoundOpened,
    SeedFixed,
    Committed,
    Revealed,
    KeyPublished,
    SecretsBound,
    SetSealed,
    SketchFixed,
    Unmasked,
    Assisted,
    Objected,
    StreamsPosted,
    Voided,
    Proposed,
    Paid,
    Finalized,
    Abandoned,
    ProposalRefuted,
    LeafRequested,
    LeafPosted,
    DepositReturned,
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
    """Return the federation's events from `from_block` to `to_block`, inclusive, in chain order.

    Up to the latest block when `to_block` is None; of one round only when `round_id` is given. Asks
    for at most `page` blocks at a time. A page that is too large for the node, or too slow, is
    made smaller and grows again later; the limit is remembered per connection. Raises Unavailable
    when the node fails several times in a row on one page, or has an event that there cannot be.
    """
    topics: Topics | None = None
    if round_id is not None:
        topics = [_round_topics(), "0x" + round_id.to_bytes(32, "big").hex()]
    logs = read_logs(w3, address, from_block, to_block, page, topics=topics)
    return sorted(events_in(address, logs), key=lambda event: (event.block_number, event.log_index))


def events_in(address: Address, logs: Iterable[LogReceipt]) -> tuple[FederationEvent, ...]:
    """Return the events among `logs` that the federation at `address` emitted, in their order."""
    # A receipt also has the token's logs, and a node may serve logs that a reorganisation removed.
    return tuple(
        _decode(log)
        for log in logs
        if str(log["address"]) == address and not log.get("removed", False)
    )


def _round_topics() -> list[str]:
    """Return the first topics of all events about rounds, whose first indexed field is a round."""
    return [
        "0x" + topic.hex()
        for topic, each in _declared().items()
        if issubclass(each.kind, RoundEvent)
    ]


@dataclass(frozen=True)
class _Declared:
    """An event as the contract declares it: names and types of its fields, indexed ones apart."""

    kind: type[FederationEvent]
    indexed: tuple[tuple[str, str], ...]
    names: tuple[str, ...]
    types: tuple[str, ...]

    def values_in(self, log: LogReceipt) -> dict[str, Any]:
        """Return the fields of a log by name; DecodingError or ValueError when it has others."""
        topics = log["topics"][1:]
        if len(topics) != len(self.indexed):
            raise ValueError(f"{len(topics)} indexed fields, {len(self.indexed)} were expected")
        values = {
            name: _plain(kind, decode([kind], bytes(topic))[0])
            for (name, kind), topic in zip(self.indexed, topics, strict=True)
        }
        found = decode(self.types, bytes(log["data"]))
        for name, kind, value in zip(self.names, self.types, found, strict=True):
            values[name] = _plain(kind, value)
        return values


@cache
def _declared() -> dict[bytes, _Declared]:
    """Return each event as it is declared, by the hash of its signature."""
    # Not by web3's decoder, which takes ten times as long: a federation may have 200,000 events.
    abi = load_artifact(IMPLEMENTATION)["abi"]
    entries = {entry["name"]: entry for entry in abi if entry["type"] == "event"}
    declared = {}
    for kind in EVENT_TYPES:
        inputs = entries[kind.__name__]["inputs"]
        types = [collapse_if_tuple(each) for each in inputs]
        fields = [
            (snake_case(e["name"]), t, e["indexed"]) for e, t in zip(inputs, types, strict=True)
        ]
        rest = [(name, of) for name, of, is_indexed in fields if not is_indexed]
        declared[keccak(text=f"{kind.__name__}({','.join(types)})")] = _Declared(
            kind,
            tuple((name, of) for name, of, is_indexed in fields if is_indexed),
            tuple(name for name, _ in rest),
            tuple(of for _, of in rest),
        )
    return declared


def _plain(kind: str, value: Any) -> Any:
    """Return a decoded value as the events have it: addresses with EIP-55 capitals."""
    return _checksum(value) if kind == "address" else value


@lru_cache(maxsize=4096)  # the same members again and again
def _checksum(address: str) -> Address:
    return Address(to_checksum_address(address))


def _decode(log: LogReceipt) -> FederationEvent:
    known = _declared().get(bytes(log["topics"][0])) if log["topics"] else None
    # Not skipped: a history with a gap would be taken for the whole one. And the node's fault, not
    # the contract's, whose code has been compared: the next answer may be right.
    if known is None:
        raise Unavailable(
            f"the node has an event of {log['address']} that this version does not know"
            f" (block {log['blockNumber']}, log {log['logIndex']})",
            service="chain",
        )
    kind = known.kind
    try:
        values = _read_announcement(log) if kind is Announced else known.values_in(log)
        if "verdicts" in values:
            values["verdicts"] = tuple(
                Verdict(_checksum(who), *rest) for who, *rest in values["verdicts"]
            )
        return kind(
            block_number=log["blockNumber"],
            block_hash=Digest(bytes(log["blockHash"])),
            transaction_hash=Digest(bytes(log["transactionHash"])),
            log_index=log["logIndex"],
            **values,
        )
    except (DecodingError, ValueError, LookupError, OverflowError) as error:
        raise Unavailable(
            f"the node's log of {kind.__name__} does not fit its interface"
            f" (block {log['blockNumber']}, log {log['logIndex']})",
            service="chain",
        ) from error


def _read_announcement(log: LogReceipt) -> dict[str, Any]:
    """Return the values of an Announced, with U+FFFD for bytes that are not UTF-8."""
    # Anybody may announce any bytes, and one announcement must not make the history unreadable:
    # web3 refuses a string that is not UTF-8. Strings and bytes are encoded alike.
    (text,) = decode(["bytes"], bytes(log["data"]))
    who = to_checksum_address(bytes(log["topics"][1])[12:])
    return {"who": who, "whereabouts": text.decode("utf-8", "replace")}
