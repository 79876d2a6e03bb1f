"""What a participant carries through rounds that used its update and rounds that did not.

One participant on a chain of this process; the lead is played by hand.
"""

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chain.deploy import deploy_token
from devnet.accounts import dev_account
from devnet.ipfs.daemon import DevIpfsDaemon
from devnet.tester import connect_tester
from ethereum.transactions import Sender
from ethereum.wallet import Wallet
from node.participant import Participant, Prepared, TrainedUpdate
from protocol.average import move_model
from protocol.commitment import PREFIX_BYTES, compute_update_digest
from protocol.spec import Spec
from protocol.types import BasisPoints, RoundId, TokenUnits, parse_digest
from protocol.verdict import FULL_SCORE, Verdict
from runtime.events import CarriedLost, Event
from storage.ipfs import ContentStore
from storage.layers import LayerFolder, Subject, build_manifest, initial_subject, pin
from tests.chain.stage import ESCROW, PURSE, advance_to, undone, with_terms
from tests.node.conftest import GRID, small_spec
from training.update import Carried, encode_update

EXAMPLES = 8


class Killed(BaseException):
    """The process ends here."""


class Drifting:
    """Moves the model by numbers drawn from the round; keeps what was carried into each round."""

    def __init__(self) -> None:
        self.carried: dict[int, Carried | None] = {}
        self.left: dict[int, Carried] = {}

    def train(
        self,
        spec: Spec,
        model: LayerFolder,
        round_id: RoundId,
        update: LayerFolder,
        carried: Carried | None,
    ) -> TrainedUpdate:
        random, before = np.random.default_rng(round_id), model.read(spec)
        after = [layer * 2.0**-24 + random.normal(0, 2.0**-8, layer.shape) for layer in before]
        made = encode_update(before, after, carried, spec.encoding.grid_in(round_id))
        update.write(spec, made.steps)
        self.carried[round_id], self.left[round_id] = carried, made.carried
        return TrainedUpdate(EXAMPLES, 1.0, made.carried)


class Place:
    """A federation with one participant; `events` are what it reports."""

    def __init__(self, folder: Path, daemon: DevIpfsDaemon) -> None:
        self.folder, self.store, self.spec = folder, ContentStore(daemon.url), small_spec()
        self.events: list[Event] = []
        self.w3 = connect_tester()
        wallets = [Wallet.from_key(bytes(dev_account(number).key)) for number in range(7)]
        token = deploy_token(Sender(self.w3, wallets[0]), TokenUnits(10 * PURSE))
        for wallet in wallets[1:4]:
            token.transfer(wallet.address, PURSE)
        self.model = [np.zeros(layer.shape, np.int32) for layer in self.spec.layers]
        self.store.put_block(self.spec.to_bytes())
        root, manifest = self._pin(initial_subject(self.w3.eth.chain_id))
        self.stage = with_terms(
            token,
            wallets,
            spec_digest=self.spec.digest(),
            initial_model_root=root,
            initial_model_manifest=manifest,
            zero_root=self.spec.zero_root,
            leaf_count=self.spec.leaf_count,
            tree_depth=self.spec.tree_depth,
            grid_bits=GRID,
            rounds=9,
        )
        self.stage.sponsor.fund(ESCROW)
        self.stage.lead.bond()
        self.client = self.stage.participants[0]
        self.client.join()
        self.trainer = Drifting()
        self.participant = self.restarted()

    def restarted(self) -> Participant:
        """Return the participant with nothing but what is on disk and on chain."""
        return Participant(
            self.client, self.store, self.trainer, self.folder / "ann", self.events.append
        )

    def open(self) -> RoundId:
        opened = self.stage.lead.open_round()
        self.stage.outsider.fix_seed(opened.round_id)
        return opened.round_id

    def finish(self, round_id: RoundId, prepared: Prepared, *, accept: bool) -> None:
        """Propose and finalize a round whose one update is accepted, or rejected by check 12."""
        root, manifest = parse_digest(prepared.root), parse_digest(prepared.manifest)
        revealed = compute_update_digest(root, manifest, prepared.examples)[:PREFIX_BYTES]
        outcome: tuple[Any, ...] = (0, BasisPoints(0), 12)
        model = self.client.current_model()
        proposal = model.root, model.manifest
        if accept:
            outcome = (EXAMPLES, FULL_SCORE, 0)
            place = self.folder / "ann" / self.client.address / f"round-{round_id:04d}"
            steps = LayerFolder(place / "update", "update").read(self.spec)
            pairs = zip(self.model, steps, strict=True)
            self.model = [move_model(old, [each], [EXAMPLES], GRID) for old, each in pairs]
            address = self.client.address
            proposal = self._pin(Subject(self.w3.eth.chain_id, address, round_id, "model"))
        verdicts = [Verdict(self.participant.address, revealed, *outcome)]
        self.stage.lead.propose(round_id, *proposal, verdicts)
        advance_to(self.w3, self.client.get_round(round_id).challenge_deadline)
        self.stage.outsider.finalize(round_id, verdicts)

    def play(self, *, accept: bool) -> RoundId:
        round_id = self.open()
        prepared = self.participant.commit(round_id)
        assert prepared is not None
        self.participant.reveal(round_id)
        self.finish(round_id, prepared, accept=accept)
        return round_id

    def _pin(self, subject: Subject) -> tuple[Any, Any]:
        folder = LayerFolder(self.folder / f"model-{subject.round_id}", "model")
        folder.write(self.spec, self.model)
        root = folder.root(self.spec)
        return root, pin(self.store, folder, build_manifest(folder, self.spec, subject, root))


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    daemon = DevIpfsDaemon(tmp_path / "ipfs")
    daemon.start()
    try:
        yield Place(tmp_path, daemon)
    finally:
        daemon.stop()


def same(found: Carried | None, expected: Carried | None) -> bool:
    if found is None or expected is None:
        return found is expected
    return all(bool((a == b).all()) for a, b in zip(found, expected, strict=True))


def test_a_round_that_did_not_use_the_update_gives_back_what_was_carried(place: Place) -> None:
    trainer, files = place.trainer, place.participant.carried
    place.play(accept=True)
    place.play(accept=False)
    place.participant = place.restarted()
    place.play(accept=True)
    # Committed and not revealed: the round is abandoned.
    round_id = place.open()
    place.participant.commit(round_id)
    advance_to(place.w3, place.client.get_round(round_id).reveal_deadline)
    place.stage.outsider.abandon(round_id)
    place.play(accept=True)
    starts = {number: trainer.carried[number] for number in range(1, 6)}
    assert starts[1] is None
    assert same(starts[2], trainer.left[1])
    assert same(starts[3], trainer.left[1])
    assert same(starts[4], trainer.left[3])
    assert same(starts[5], trainer.left[3])
    assert len(list(files.folder.iterdir())) == 2
    assert not any(isinstance(event, CarriedLost) for event in place.events)
    # A lost file costs accuracy, and one line.
    for file in files.folder.iterdir():
        file.unlink()
    place.play(accept=True)
    (lost,) = [event for event in place.events if isinstance(event, CarriedLost)]
    assert (lost.round, lost.of_round) == (6, 5)
    assert trainer.carried[6] is None


def test_killed_at_any_write_and_resumed_the_root_is_the_same(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.play(accept=True)
    round_id = place.open()
    replace: Callable[..., None] = os.replace

    def commit(deadly: int) -> tuple[int, Prepared | None]:
        """Commit, killed when a file is about to get its name for the `deadly`-th time."""
        written = 0

        def count(*arguments: Any) -> None:
            nonlocal written
            # Not what the daemon writes, in threads of this process.
            if threading.current_thread() is threading.main_thread():
                written += 1
                if written == deadly:
                    raise Killed
            replace(*arguments)

        monkeypatch.setattr("storage.files.os.replace", count)
        try:
            return written, place.restarted().commit(round_id)
        except Killed:
            return written, None
        finally:
            monkeypatch.setattr("storage.files.os.replace", replace)

    folder = place.folder / "ann" / place.client.address / f"round-{round_id:04d}"
    roots, deadly = set(), 0
    while True:
        deadly += 1
        with undone(place.w3):
            _, prepared = commit(deadly)
            was_killed = prepared is None
            if was_killed:
                prepared = place.restarted().commit(round_id)
            assert prepared is not None
            roots.add(prepared.root)
            assert place.restarted().commit(round_id) == prepared
        (folder / "prepared.json").unlink()
        if not was_killed:
            break
    assert deadly > 5  # three layers, what is carried, prepared.json
    assert len(roots) == 1
    assert not any(isinstance(event, CarriedLost) for event in place.events)
