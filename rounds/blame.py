"""Whose update made a sum what honest ones cannot make it (docs/protocol.md §13).

After two thirds of a set have objected, its members account for the streams that they share
(`protocol.streams`). With them everybody can tell whose sketch is not that of the masked values
that it published. Who is named, or has not accounted for its masks, is left out of every later set.
Aggregator and auditor run the same code.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import combinations

from chain.events import StreamsPosted
from protocol.bundle import commit
from protocol.checks import Check
from protocol.encoding import LEAF_VALUES
from protocol.errors import Rejected, Unavailable
from protocol.masking import Mask, pair_masks
from protocol.reveal import Reveal
from protocol.sketches import exceeds_limit, is_own
from protocol.streams import StreamAccount, sketch_stream
from protocol.types import Address, Digest
from protocol.verdict import compute_weight
from rounds.average import Layout
from rounds.bundles import fetch_bundle
from rounds.context import RoundContext
from rounds.rebuild import FETCHER, Fetcher, fetch_accepted
from rounds.sketched import add_sketches, posted_sketches, sketch_folder
from storage.files import read_json, write_json
from storage.layers import LayerFolder
from storage.sources import reading_from

Reasons = dict[Address, tuple[Check, str]]
"""Why somebody is left out: `BLAMED`, or `REACHABLE` where what would tell is not to be had."""

_BLOCK = 1 << 18  # values at once


def left_out(context: RoundContext, fetcher: Fetcher = FETCHER) -> Reasons:
    """Return who of a round's reveals may not be summed because of an earlier round, and why.

    Accounts count up to the block of the round's last reveal: everybody sees the same.
    """
    until = max((event.block_number for event in context.told.revealed), default=0)
    here = {reveal.participant for reveal in context.reveals}
    found: Reasons = {}
    for round_id, told in sorted(context.history.rounds.items()):
        if round_id < context.round_id and told.is_refused and here & set(told.masking.members):
            model = context.history.model_before(round_id, context.terms)
            found |= _known_or_found(replace(context, told=told, model=model), until, fetcher)
    return {who: reason for who, reason in found.items() if who in here}


def _known_or_found(context: RoundContext, until: int, fetcher: Fetcher) -> Reasons:
    """Return what `blame` does, worked out once for the same accounts: it takes a sketch a mask."""
    masking = context.told.masking
    told = [*(e for e in masking.streams if e.block_number <= until), *masking.unmasked.values()]
    inputs = sha256(b"".join(event.transaction_hash for event in told)).hexdigest()
    path = context.workspace / "blame" / f"{context.round_id:04d}-{inputs}.json"
    if path.exists():
        known = read_json(path)
        return {Address(who): (Check(check), why) for who, (check, why) in known.items()}
    found = blame(context, until, fetcher)
    if all(check is Check.BLAMED for check, _ in found.values()):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, found)
    return found


def blame(context: RoundContext, until: int, fetcher: Fetcher = FETCHER) -> Reasons:
    """Return who of a refused set is to blame, or has not told what would show that it is not.

    Of who was silent nothing is said: its sketch was never posted, and it has paid for that.
    """
    return _Case(context, until, fetcher).reasons()


def account_of(context: RoundContext, event: StreamsPosted, fetcher: Fetcher) -> StreamAccount:
    """Return a member's account of its masks; raises Unavailable, or Rejected for no account."""
    author = reading_from(context.store, event.participant)
    raw = author.get_block(event.streams, deadline=fetcher.budget.update_deadline())
    peers = [each for each in context.told.masking.members if each != event.participant]
    return StreamAccount.parse(raw, peers)


def sketch_whole_stream(context: RoundContext, seed: bytes, sketch_seed: Digest) -> tuple[int, ...]:
    """Return the sketch of a stream over all leaves of an update, modulo 2^32."""
    parts = (
        sketch_stream(seed, sketch_seed, leaf, count // LEAF_VALUES)
        for _, _, count, leaf in Layout.of(context.spec).blocks(_BLOCK)
    )
    return tuple(number % 2**32 for number in add_sketches(parts))


@dataclass
class _Case:
    """A refused set, and what is known of it by block `until`."""

    context: RoundContext
    until: int
    fetcher: Fetcher

    def reasons(self) -> Reasons:
        told = self.context.told
        seed = told.masking.sketch_seed
        assert seed is not None, "a set that was objected to has its sketches drawn"
        members = {reveal.participant: reveal for reveal in told.unmasked_themselves}
        posted, found = posted_sketches(self.context, self.fetcher)
        reasons: Reasons = {
            who: (Check(reason), self._words(why))
            for who, (reason, why) in found.items()
            if who in members
        }
        accounts, missing = self._accounts(members)
        reasons |= missing
        for who in self._too_long(posted):
            reasons[who] = Check.BLAMED, self._words("its sketch is longer than an update may be")
        reasons |= self._false_sketches(members, posted, accounts, seed)
        return {**self._differing(members, accounts, seed), **reasons}

    def _words(self, what: str) -> str:
        return f"round {self.context.round_id}: {what}"

    def _accounts(
        self, members: Mapping[Address, Reveal]
    ) -> tuple[dict[Address, StreamAccount], Reasons]:
        """Return each member's account, in the order of their posting, and why others have none."""
        told = {event.participant: event for event in self._posts()}
        accounts: dict[Address, StreamAccount] = {}
        missing: Reasons = {
            who: (Check.BLAMED, self._words("it has not accounted for its masks"))
            for who in members
            if who not in told
        }
        for who, event in told.items():
            try:
                accounts[who] = account_of(self.context, event, self.fetcher)
            except Rejected as error:
                missing[who] = Check.BLAMED, self._words(error.reason)
            except Unavailable as error:
                missing[who] = Check.REACHABLE, self._words(str(error))
        return accounts, missing

    def _posts(self) -> Iterator[StreamsPosted]:
        """Yield the newest account of each member, in the order of the chain."""
        posts = [e for e in self.context.told.masking.streams if e.block_number <= self.until]
        newest = {event.participant: place for place, event in enumerate(posts)}
        yield from (posts[place] for place in sorted(newest.values()))

    def _too_long(self, posted: Mapping[Address, Sequence[int]]) -> Iterator[Address]:
        spec, cap = self.context.spec, self.context.terms.seats.weight_cap
        limit, grid = spec.screening.max_update_norm, spec.encoding.grid_in(self.context.round_id)
        assert limit is not None  # a masked spec has one
        for reveal in self.context.told.summed:
            values = posted.get(reveal.participant)
            weight = compute_weight(reveal.examples, cap)
            if values is not None and exceeds_limit(values, weight, limit, grid):
                yield reveal.participant

    def _false_sketches(
        self,
        members: Mapping[Address, Reveal],
        posted: Mapping[Address, Sequence[int]],
        accounts: Mapping[Address, StreamAccount],
        seed: Digest,
    ) -> Reasons:
        """Return whose sketch is not that of its masked values less its masks."""
        found: Reasons = {}
        judged = [members[who] for who in accounts if who in posted]
        folders = fetch_accepted(self.context, self.fetcher, judged)
        for reveal, folder in zip(judged, folders, strict=True):
            who = reveal.participant
            if not isinstance(folder, LayerFolder):
                found[who] = Check.REACHABLE, self._words(str(folder))
                continue
            of_masked = sketch_folder(self.context, folder, seed)
            masks = [*self._opened_masks(who, seed), *_accounted_masks(who, accounts[who])]
            if not is_own(posted[who], of_masked, masks):
                why = "its sketch is not that of the update that it masked"
                found[who] = Check.BLAMED, self._words(why)
        return found

    def _opened_masks(self, who: Address, seed: Digest) -> Iterator[tuple[Mask, Sequence[int]]]:
        told = self.context.told
        own, *others = told.masking.seeds_of(who)
        masks = [Mask(own, 1), *pair_masks(who, dict(zip(told.outside, others, strict=True)))]
        yield from ((mask, sketch_whole_stream(self.context, mask.seed, seed)) for mask in masks)

    def _differing(
        self,
        members: Mapping[Address, Reveal],
        accounts: Mapping[Address, StreamAccount],
        seed: Digest,
    ) -> Reasons:
        """Return whose number of a common stream is false, or not shown to be true.

        Where nobody opened the seed it is for who posted later: it has seen the other's number.
        """
        found: Reasons = {}
        for first, later in combinations(accounts, 2):
            numbers = accounts[first].sketches[later], accounts[later].sketches[first]
            if numbers[0] == numbers[1]:
                continue
            seeds = accounts[first].seeds.get(later), accounts[later].seeds.get(first)
            try:
                bundle = fetch_bundle(self.context, members[first], self.fetcher)
            except (Rejected, Unavailable) as error:
                found[later] = Check.REACHABLE, self._words(str(error))
                continue
            committed = bundle.commitment_of_pair(later)
            opened = next((each for each in seeds if each and commit(each) == committed), None)
            if opened is None:
                why = f"it differs from {first} about their masks, and does not open their seed"
                found[later] = Check.BLAMED, self._words(why)
                continue
            true = sketch_whole_stream(self.context, opened, seed)
            for who, told in zip((first, later), numbers, strict=True):
                if told != true:
                    why = "what it says of a mask is not what the mask's seed says"
                    found[who] = Check.BLAMED, self._words(why)
        return found


def _accounted_masks(
    who: Address, account: StreamAccount
) -> Iterator[tuple[Mask, tuple[int, ...]]]:
    for peer, numbers in account.sketches.items():
        (mask,) = pair_masks(who, {peer: b""})
        yield mask, numbers
