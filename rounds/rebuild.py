"""Gets the model that a round starts from, also when its manifest is of no use (§5).

    model = obtain_model(context)

A manifest is a hint where the bytes are; the root on the chain is the identity. So whoever cannot
fetch a model makes it from the model before and the updates that its round accepted, and that model
likewise, back to the initial one if need be. An aggregator that proposes the right root with a
manifest of garbage, or takes its blocks away, thus stops nobody.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Final

from protocol.checks import Check
from protocol.errors import Rejected, Unavailable
from protocol.reveal import Reveal
from rounds.average import average_layers
from rounds.budget import UNLIMITED, Budget
from rounds.context import RoundContext
from rounds.masked_sum import sum_updates
from storage.layers import LayerFolder, fetch_model, fetch_update
from storage.sources import reading_from


class Fetcher:
    """Fetches the updates and models of rounds; a role that fetches ahead has one of its own."""

    def __init__(self, budget: Budget = UNLIMITED) -> None:
        self.budget = budget

    def fetch_update(self, context: RoundContext, reveal: Reveal) -> LayerFolder:
        """Return a revealed update's files; raises like `storage.layers.fetch_update`.

        They are what its manifest lists. Whether they have the root that was revealed is check 6.
        """
        folder = context.update_folder(reveal.participant)
        store = reading_from(context.store, reveal.participant)
        deadline = self.budget.update_deadline()
        fetch_update(store, context.update(reveal), folder, deadline)
        return folder

    def fetch_model(self, context: RoundContext) -> LayerFolder:
        """Return the model before a round; raises like `storage.layers.fetch_model`."""
        folder = context.model_folder(context.model)
        deadline = self.budget.model_deadline()
        return fetch_model(context.store, context.model_before(), folder, deadline)


FETCHER: Final = Fetcher()


def obtain_model(context: RoundContext, fetcher: Fetcher = FETCHER) -> LayerFolder:
    """Return the files of the model that a round starts from: fetched, or else rebuilt.

    Raises Unavailable when an update that it takes is unavailable, Rejected when the accepted
    updates give another model than the one that was finalized, and as `Fetcher.fetch_model` when
    even the initial model is not to be had.
    """
    # 1. Back to the newest model that there is. A loop, not a recursion: there may be many rounds.
    path = [context]
    while True:
        try:
            model = _fetch_or_keep(path[-1], fetcher)
            break
        except (Unavailable, Rejected):
            made_in = path[-1].last_change()
            if made_in is None:
                raise
            path.append(made_in)
    # 2. Forward again, each model from the one before.
    for made_in, after in pairwise(reversed(path)):
        model = rebuild(made_in, model, after.model_folder(after.model), fetcher)
        found = model.root(context.spec)
        if found != after.model.root:
            raise Rejected(
                Check.ROOT,
                f"the updates accepted in round {made_in.round_id} give the model {found.hex()},"
                f" not {after.model.root.hex()}",
            )
    return model


def rebuild(
    context: RoundContext, before: LayerFolder, target: LayerFolder, fetcher: Fetcher = FETCHER
) -> LayerFolder:
    """Write the model after a round to `target`, made of `before` and the accepted updates.

    They are those of the standing proposal. Raises Unavailable when one of them is unavailable.
    """
    averaged = context.averaged
    folders = fetch_accepted(context, fetcher)
    missing = [each for each in folders if isinstance(each, Unavailable)]
    if missing:
        raise Unavailable(
            f"the model after round {context.round_id} is unavailable, and so are"
            f" {len(missing)} of the {len(folders)} updates to rebuild it from: {missing[0]}"
        )
    updates = [each for each in folders if isinstance(each, LayerFolder)]
    reveals, weights = [reveal for reveal, _ in averaged], [weight for _, weight in averaged]
    summed = as_summed(context, reveals, updates, weights)
    average_layers(context.spec, before, *summed, target, context.round_id)
    return target


def obtain_sum(context: RoundContext, fetcher: Fetcher = FETCHER) -> LayerFolder:
    """Return the files of the sum of a round's sealed set, fetching its masked updates.

    Raises Unavailable while an update of the set, or a secret that the sum needs, is unavailable.
    """
    reveals = context.told.summed
    folders = fetch_accepted(context, fetcher, reveals)
    for found in folders:
        if isinstance(found, Unavailable):
            raise found
    there = [each for each in folders if isinstance(each, LayerFolder)]
    return sum_updates(context, reveals, there)


def as_summed(
    context: RoundContext,
    reveals: Sequence[Reveal],
    folders: Sequence[LayerFolder],
    weights: Sequence[int],
) -> tuple[Sequence[LayerFolder], Sequence[int]]:
    """Return what the average takes: the updates themselves or, of masked ones, their sum.

    Raises Unavailable while a secret that the sum needs is unknown.
    """
    if context.spec.privacy == "clear":
        return folders, weights
    return [sum_updates(context, reveals, folders)], [sum(weights)]


def fetch_accepted(
    context: RoundContext, fetcher: Fetcher = FETCHER, reveals: Sequence[Reveal] | None = None
) -> Sequence[LayerFolder | Unavailable]:
    """Return the files of each update in a round's average, or why they are unavailable.

    In the order of the verdicts, or of the `reveals` given; the files have the roots that were
    revealed.
    """

    def fetch(reveal: Reveal) -> LayerFolder | Unavailable:
        # Kept files first: an author may have taken its update away after the round.
        folder = context.update_folder(reveal.participant)
        if folder.holds(context.spec, reveal.root):
            return folder
        try:
            folder = fetcher.fetch_update(context, reveal)
        except (Unavailable, Rejected) as error:
            return Unavailable(f"the update of {reveal.participant}: {error}")
        if not folder.holds(context.spec, reveal.root):
            return Unavailable(f"the update of {reveal.participant} has another root than revealed")
        return folder

    # All at once: those that cannot be had cost the time of one.
    if reveals is None:
        reveals = [reveal for reveal, _ in context.averaged]
    with ThreadPoolExecutor(max(len(reveals), 1)) as pool:
        return list(pool.map(fetch, reveals))


def _fetch_or_keep(context: RoundContext, fetcher: Fetcher) -> LayerFolder:
    """Return the model before a round: kept from before, or else fetched."""
    # Kept files first: a manifest of other bytes would overwrite what was rebuilt.
    folder = context.model_folder(context.model)
    if folder.holds(context.spec, context.model.root):
        return folder
    return fetcher.fetch_model(context)
