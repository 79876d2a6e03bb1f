"""Who announced where their blocks can be read, in the order in which they are asked.

    for each in read_announcements(federation.now()):
        each.who, each.role, each.places

Only those are read who have something to lose, or whose work it is: aggregators that are bonded or
have proposed, the sponsor, seats, and who committed to the newest round and left. Aggregators come
first and authors last, so that no single seat sees who fetches what (docs/threat-model.md).
"""

from dataclasses import dataclass
from typing import Final, Literal

from chain.federation import Federation
from contracts.enums import AggregatorState
from ethereum.rpc import plain_errors
from protocol.types import Address, RoundId, UnixTime
from protocol.whereabouts import Place, parse_whereabouts

REPEAT_BLOCKS: Final = 900_000
"""Announcements are repeated after so many blocks: nodes index about 2,350,000."""

_DAY_S: Final = 86_400

Role = Literal["aggregator", "sponsor", "participant"]


@dataclass(frozen=True)
class Announcement:
    """The last announcement of `who`, made in block `block`; it speaks for nobody else."""

    who: Address
    role: Role
    block: int
    places: tuple[Place, ...]

    @property
    def is_author(self) -> bool:
        """Whether it trains, and serves its own updates rather than what others need."""
        return self.role == "participant"


def read_announcements(federation: Federation) -> list[Announcement]:
    """Return the announcements that are read, each announcer once; those without a place too."""
    history = federation.history()
    # Who committed and left may still reveal, and its update is where it said.
    newest = max(history.rounds, default=RoundId(0))
    seats = [*history.active, *(event.participant for event in history.round(newest).committed)]
    roles: dict[Address, Role] = {}
    led = {each.aggregator for told in history.rounds.values() for each in told.proposals}
    for aggregator in federation.aggregators():
        # A bond is read of the few that announced something, not of the whole list.
        if aggregator not in history.announced:
            continue
        # Bonds are taken back once a federation is over, and then the audits begin.
        is_bonded = federation.aggregator_state(aggregator) is AggregatorState.BONDED
        if is_bonded or aggregator in led:
            roles[aggregator] = "aggregator"
    roles.setdefault(federation.sponsor(), "sponsor")
    for seat in seats:
        roles.setdefault(seat, "participant")
    return [
        Announcement(who, role, made.block_number, parse_whereabouts(made.whereabouts))
        for who, role in roles.items()
        if (made := history.announced.get(who)) is not None
    ]


@dataclass(frozen=True)
class NextAnnouncement:
    """When an account announces anew, by the chain's clock, and what `stands` until then."""

    at: UnixTime
    stands: str


def next_announcement(federation: Federation, text: str) -> NextAnnouncement | None:
    """Return when the wallet's owner announces `text`; None for what stands, and for an empty one.

    At most once a day: a place that changes at every start, as a container's may, would cost gas
    each time. The contract has no such rule. And what stands is repeated before nodes forget it.
    """
    if not text:
        return None
    now = federation.pinned()
    made = now.history().announced.get(federation.sender.address)
    if made is None:
        return NextAnnouncement(UnixTime(0), "")
    if made.whereabouts == text and now.head - made.block_number < REPEAT_BLOCKS:
        return None
    with plain_errors():
        made_at = int(now.w3.eth.get_block(made.block_number)["timestamp"])
    return NextAnnouncement(UnixTime(made_at + _DAY_S), made.whereabouts)


def describe_announcements(announced: list[Announcement]) -> dict[str, dict[str, object]]:
    """Return announcements by account, as JSON values."""
    return {
        each.who: {
            "role": each.role,
            "block": each.block,
            "places": [place.line for place in each.places],
        }
        for each in announced
    }
