"""A participant's account of its masks, after its set was refused (docs/protocol.md §13).

Whoever does not account for them is left out of later sets, and so is who differs from somebody
that accounted before and does not open the seed of the stream that the two have in common.
"""

from pathlib import Path
from typing import Final

from chain.history import RoundHistory
from node.masks import Masks, Trust, least_set_of
from node.results import owes_account
from protocol.errors import Rejected, Unavailable
from protocol.streams import StreamAccount
from protocol.types import Address, Digest, RoundId
from rounds.blame import account_of, sketch_whole_stream
from rounds.budget import Budget
from rounds.context import RoundContext
from rounds.rebuild import Fetcher
from storage.files import write_atomically

_LOOK_SECONDS: Final = 10


def must_account(told: RoundHistory, participant: Address) -> bool:
    """Whether a participant is asked to account for its masks of a round."""
    asked = (reveal.participant for reveal in told.unmasked_themselves)
    return told.is_refused and participant in asked


def still_accountable(
    rounds: dict[RoundId, RoundHistory], told: RoundHistory, participant: Address, final: int
) -> bool:
    """Whether a participant may still need its secrets of a round that was over by block `final`.

    In a refused set until it has accounted, and until one more set is over, before which a seed may
    have to be opened.
    """
    if not must_account(told, participant):
        return False
    if owes_account(told, participant):
        return True
    later = (each for round_id, each in rounds.items() if round_id > told.round_id)
    ends = (each.finalized or each.abandoned for each in later if each.masking.members)
    return not any(end is not None and end.block_number <= final for end in ends)


def make_account(context: RoundContext, masks: Masks, trust: Trust) -> tuple[bytes, bool]:
    """Return the account of our masks, as the chain stands: seeds opened where others differ.

    What was opened once stays open, and so many stay closed that as many others hide our update as
    its owner asks for, whoever says what. False with it where an account was not to be had.
    """
    seeds = masks.pair_seeds(context)
    inside = [peer for peer in context.told.masking.members if peer != masks.address]
    path = masks.folder / "account"
    own = _read(path, inside) or _sketch_all(context, {peer: seeds[peer] for peer in inside})
    opened = dict(own.seeds)
    differing, is_whole = _differing(context, own, masks.address)
    most = len(inside) + 1 - least_set_of(context, trust)
    for peer in differing:
        if len(opened) < most:
            opened[peer] = seeds[peer]
    raw = StreamAccount(own.sketches, opened).to_bytes()
    write_atomically(path, raw)
    return raw, is_whole


def _read(path: Path, peers: list[Address]) -> StreamAccount | None:
    try:
        return StreamAccount.parse(path.read_bytes(), peers)
    except (OSError, Rejected):
        return None


def _sketch_all(context: RoundContext, seeds: dict[Address, bytes]) -> StreamAccount:
    seed = context.told.masking.sketch_seed
    assert seed is not None, "a set that was objected to has its sketches drawn"
    return StreamAccount(
        {who: sketch_whole_stream(context, s, seed) for who, s in seeds.items()}, {}
    )


def _differing(
    context: RoundContext, own: StreamAccount, address: Address
) -> tuple[list[Address], bool]:
    """Return the peers whose newest account says something else of the common stream.

    And whether all of them were to be had.
    """
    newest = {event.participant: event for event in context.told.masking.streams}
    # A phase of the next round goes by meanwhile.
    fetcher = Fetcher(Budget.of(context.spec, _LOOK_SECONDS))
    found, is_whole = [], True
    for peer in (each for each in own.sketches if each in newest):
        try:
            theirs = account_of(context, newest[peer], fetcher)
        except Rejected:
            continue
        except Unavailable:
            is_whole = False
            continue
        if theirs.sketches[address] != own.sketches[peer]:
            found.append(peer)
    return found, is_whole


def is_posted(told: RoundHistory, address: Address, digest: Digest) -> bool:
    """Whether the newest account that a participant has posted is this one."""
    newest = {event.participant: event.streams for event in told.masking.streams}
    return newest.get(address) == digest
