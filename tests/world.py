"""An honest federation in one process: participants, aggregator, dev IPFS daemon, and anvil beside.

Nothing is faked but the training: a participant's differences are numbers drawn from its name and
the round. A test bends one fact and sees what happens.

    with World(folder) as world:
        world.participants["ann"].trainer = Diverged()
        world.play()
"""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from aggregator.aggregator import Action, Aggregator
from auditor.check_result import CheckResult
from auditor.replay import Audit
from chain.deploy import deploy_token
from chain.events import Proposed
from chain.federation import Federation
from chain.history import RoundHistory
from chain.records import Money, Rules, Seats, Terms, Windows
from contracts.enums import Privacy, Scoring, Status
from devnet.accounts import DEV_BALANCE_WEI, dev_account
from devnet.ipfs.daemon import DevIpfsDaemon
from devnet.tester import connect_tester
from ethereum.rpc import connect
from ethereum.transactions import Sender
from ethereum.wallet import Wallet
from node.participant import Participant, TrainedUpdate
from protocol.manifest import Manifest
from protocol.spec import Spec
from protocol.types import Address, Digest, RoundId, TokenUnits, UnixTime
from rounds.score import Evaluate
from runtime.events import Event
from sponsor.found import InitialModel, publish
from storage.ipfs import ContentStore
from storage.layers import LayerFolder
from tests.bulk import approval_of, funding_of, joining, send_all, transfer_of
from tests.ethereum.anvil import shared_anvil
from tests.terms import changed, found_federation
from training.update import Carried

TOKEN = 10**18
GRID = 8
# 8, 8 and 2 leaves, the last one with padding.
SHAPES = {"a.lora_A.weight": (16, 128), "a.lora_B.weight": (128, 16), "b.lora_A.weight": (3, 100)}
NAMES = ("ann", "bob", "cem")
_DEV_PARTICIPANTS = 6  # dev accounts 2 to 7; 0 is the sponsor, 1, 8 and 9 are other roles


def small_spec(**changes: Any) -> Spec:
    """Return a spec with three small layers: 18 leaves, of which the last is padded."""
    digest = hashlib.sha256(b"test").hexdigest()
    fields: dict[str, Any] = {
        "base_model": {
            "name": "test",
            "revision": "1",
            "weights_digest": digest,
            "tokenizer_digest": digest,
            "chat_template_digest": digest,
        },
        "quantization": {
            "kind": "none",
            "double_quantization": False,
            "compute_dtype": "float32",
        },
        "adapter": {
            "kind": "lora",
            "rank": 16,
            "alpha": 8,
            "dropout": 0.0,
            "targets": ["a", "b"],
            "mode": "fedit",
        },
        "encoding": {"grid_bits": GRID, "grid_every": 0},
        "layers": [{"name": name, "shape": list(shape)} for name, shape in sorted(SHAPES.items())],
        "training": {
            "learning_rate": 0.1,
            "batch_size": 1,
            "steps": 1,
            "sequence_length": 8,
            "scheduler": "constant",
            "warmup_steps": 0,
            "seed": 0,
        },
        "evaluation_digest": hashlib.sha256(b"held out").hexdigest(),
        "screening": {"min_norm": 10, "max_update_norm": 10.0},
        "libraries": {},
    }
    return Spec.model_validate({**fields, **changes})


class SyntheticTrainer:
    """Moves every value by some steps of the grid, the same for the same name and round."""

    def __init__(self, name: str, examples: int) -> None:
        self.name = name
        self.examples = examples
        self.calls = 0

    def steps(self, shape: tuple[int, ...], round_id: int, layer: int) -> NDArray[np.int8]:
        seed = int.from_bytes(hashlib.sha256(f"{self.name}/{round_id}/{layer}".encode()).digest())
        drawn = np.random.default_rng(seed).normal(0, 12, shape)
        return np.clip(np.rint(drawn), -127, 127).astype(np.int8)

    def train(
        self,
        spec: Spec,
        model: LayerFolder,
        round_id: RoundId,
        update: LayerFolder,
        carried: Carried | None,
    ) -> TrainedUpdate:
        self.calls += 1
        shapes = [layer.shape for layer in spec.layers]
        update.write(spec, [self.steps(shape, round_id, i) for i, shape in enumerate(shapes)])
        return TrainedUpdate(examples=self.examples, loss=1.0)


def as_dict(event: Event, **more: Any) -> dict[str, Any]:
    """Return what a line of an event says, as tests compare it."""
    return {**more, "phase": event.phase, **event.facts()}


class World:
    """One federation; `terms` changes the contract's terms, `spec` what everybody agrees on.

    The model that it begins with is `initial`, or zero.

    It lives on the anvil that all worlds of a process share, with `rpc_url` on a chain of its own
    that has the dev accounts, or with `chain="eth-tester"` on one in this process, without HTTP.
    Aggregator and auditor measure help with `evaluate`.
    """

    def __init__(
        self,
        folder: Path,
        *,
        names: tuple[str, ...] = NAMES,
        spec: Spec | None = None,
        initial: Sequence[NDArray[np.int32]] | None = None,
        ipfs_url: Callable[[str], str] = lambda url: url,
        rpc_url: str | None = None,
        chain: Literal["anvil", "eth-tester"] = "anvil",
        evaluate: Evaluate | None = None,
        **terms: Any,
    ) -> None:
        self.folder = folder
        self.names = names
        self.spec = spec or small_spec()
        self._start = initial or [np.zeros(layer.shape, np.int32) for layer in self.spec.layers]
        self._ipfs_url = ipfs_url
        self._changes = terms
        self.evaluate = evaluate
        self.chain = chain
        self.rpc_url = rpc_url or ("" if chain == "eth-tester" else shared_anvil())
        self.daemon = DevIpfsDaemon(folder / "ipfs")
        self.participants: dict[str, Participant] = {}
        self.reports: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        self.daemon.start()
        self.store = ContentStore(self._ipfs_url(self.daemon.url))
        self.w3 = connect(self.rpc_url) if self.rpc_url else connect_tester()
        self.sponsor = Sender(self.w3, Wallet.from_key(bytes(dev_account(0).key)))
        self.wallets = {name: self._wallet(index) for index, name in enumerate(self.names)}
        self.aggregator_wallet = Wallet.from_key(bytes(dev_account(1).key))
        self.standby_wallet = Wallet.from_key(bytes(dev_account(8).key))
        self.auditor = Wallet.from_key(bytes(dev_account(9).key))
        self.address, self.deployment_block = self._deploy()
        self._join()
        self.participants = {name: self.participant(name) for name in self.names}
        self.aggregator = self.restart_aggregator()
        return self

    def stand_by(self) -> Aggregator:
        """Return the standby's aggregator, its bond posted."""
        aggregator = Aggregator(
            self.client(self.standby_wallet), self.store, self.folder / "standby"
        )
        if self.evaluate is not None:
            aggregator.try_evaluator(self.evaluate)
        aggregator.bond()
        return aggregator

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.daemon.stop()

    # ----------------------------------------------------------------- people

    def client(self, wallet: Wallet | None = None) -> Federation:
        """Return the contract as `wallet` uses it."""
        return Federation(self.w3, self.address, wallet, deployment_block=self.deployment_block)

    def participant(self, name: str) -> Participant:
        """Return a participant as after a restart: only what is on disk and on chain is left."""
        examples = 10 * (1 + self.names.index(name))
        return Participant(
            self.client(self.wallets[name]),
            ContentStore(self.daemon.url),
            SyntheticTrainer(name, examples),
            self.folder / name,
        )

    def restart_aggregator(self) -> Aggregator:
        """Return the aggregator as after a restart."""
        self.aggregator = Aggregator(
            self.client(self.aggregator_wallet),
            self.store,
            self.folder / "aggregator",
            lambda event: self.reports.append(as_dict(event)),
        )
        if self.evaluate is not None:
            self.aggregator.try_evaluator(self.evaluate)
        return self.aggregator

    def address_of(self, name: str) -> Address:
        return self.wallets[name].address

    # ------------------------------------------------------------------ rounds

    def open_round(self) -> RoundId:
        """Open a round and fix its seed, unless one is open."""
        round_id = self.aggregator.next_round()
        assert round_id is not None
        self.fix_seed(round_id)
        return round_id

    def fix_seed(self, round_id: RoundId) -> None:
        """Fix the seed of a round that was opened, in a block after that."""
        while self.client().status(round_id) is Status.SEED:
            self.mine()
            self.aggregator.fix_seed(round_id)

    def mine(self) -> None:
        """Mine a block: on a chain that mines on demand, time alone makes none."""
        self.w3.provider.make_request("evm_mine", [])  # type: ignore[arg-type]

    def ask(self, action: Action, round_id: RoundId) -> None:
        """What a driver does: tell every participant to act."""
        if self.spec.privacy == "masked":
            self.finalize_blocks()
        for participant in self.participants.values():
            getattr(participant, action)(round_id)

    def finalize_blocks(self) -> None:
        """Mine until the newest block of now is final: two more, with one slot an epoch."""
        for _ in range(2):
            self.mine()

    def play(self) -> Status:
        """Play one round to its end."""
        round_id = self.open_round()
        return self.aggregator.play(round_id, self.ask)

    def commit_and_reveal(self, round_id: RoundId) -> None:
        self.ask("commit", round_id)
        self.ask("reveal", round_id)

    def settle(self, round_id: RoundId) -> Status:
        """Propose and finalize a round whose participants have acted."""
        return self.aggregator.play(round_id, lambda action, number: None)

    def told(self, round_id: RoundId) -> RoundHistory:
        """What the chain's events tell of a round by now."""
        return self.client().history().round(round_id)

    def proposal(self, round_id: RoundId) -> Proposed:
        """The round's standing proposal."""
        proposed = self.told(round_id).proposed
        assert proposed is not None
        return proposed

    def travel(self, seconds: int) -> None:
        """Move the chain's clock."""
        self.w3.provider.make_request("evm_increaseTime", [seconds])  # type: ignore[arg-type]
        self.w3.provider.make_request("evm_mine", [])  # type: ignore[arg-type]

    def withhold(self, manifest: Digest) -> None:
        """Take an update or model out of IPFS: its blocks and its manifest."""
        listed = Manifest.parse(self.store.get_block(manifest)).layers
        blocks = {digest for entry in listed for digest in entry.digests}
        self.store.remove_blocks({manifest, *blocks})

    def rejections(self) -> dict[str, tuple[int, str]]:
        """Return check number and reason of every rejection reported, by name."""
        names = {wallet.address: name for name, wallet in self.wallets.items()}
        return {
            names[r["participant"]]: (r["check"], r["reason"])
            for r in self.reports
            if r["phase"] == "rejected"
        }

    def audit(self) -> list[CheckResult]:
        """Audit from the chain and IPFS alone."""
        folder = self.folder / f"audit-{len(list(self.folder.glob('audit-*')))}"
        store = ContentStore(self.daemon.url)
        return list(Audit(self.client(), store, folder, evaluate=self.evaluate).run())

    # ------------------------------------------------------------------- setup

    def _deploy(self) -> tuple[Address, int]:
        self.initial = LayerFolder(self.folder / "initial", "model")
        self.initial.write(self.spec, self._start)
        model = InitialModel(self.initial, self.initial.root(self.spec))
        chain_id = self.w3.eth.chain_id
        identity = publish(self.store, self.spec, b"held out", model, chain_id)
        self.token = deploy_token(self.sponsor, TokenUnits(1_000_000 * TOKEN))
        terms = Terms(
            identity,
            Seats(
                max_participants=16,
                min_participants=1,
                round_target=16,
                round_seats=16,
                max_missed=3,
                by_invitation=False,
                weight_cap=25,
                rounds=3,
            ),
            Money(
                token=self.token.address,
                update_reward=TokenUnits(20 * TOKEN + 1),
                aggregator_fee=TokenUnits(5 * TOKEN),
                participant_stake=TokenUnits(50 * TOKEN),
                missed_reveal_penalty=TokenUnits(10 * TOKEN),
                aggregator_bond=TokenUnits(200 * TOKEN),
                availability_deposit=TokenUnits(3 * TOKEN),
            ),
            Windows(
                commit_seconds=600,
                reveal_seconds=600,
                propose_seconds=600,
                challenge_seconds=1,
                response_seconds=0,
                unbonding_seconds=3600,
                closes_at=UnixTime(self.w3.eth.get_block("latest")["timestamp"] + 10**6),
            ),
            Rules(Privacy.CLEAR, Scoring.EQUAL),
        )
        terms = changed(terms, **self._changes)
        listed = [self.aggregator_wallet.address, self.standby_wallet.address]
        federation = found_federation(self.sponsor, terms, listed)
        self._stake = terms.money.participant_stake
        self._send_tokens(federation.address, TokenUnits(terms.seats.rounds * terms.round_cost))
        return federation.address, federation.deployment_block

    def _wallet(self, index: int) -> Wallet:
        """Return a participant's wallet: a dev account, or a new one where they do not suffice."""
        if index < _DEV_PARTICIPANTS:
            return Wallet.from_key(bytes(dev_account(2 + index).key))
        wallet = Wallet.from_key(hashlib.sha256(f"participant {index}".encode()).digest())
        balance = [wallet.address, hex(DEV_BALANCE_WEI)]
        self.w3.provider.make_request("anvil_setBalance", balance)  # type: ignore[arg-type]
        return wallet

    def _send_tokens(self, federation: Address, escrow: TokenUnits) -> None:
        """Fill the escrow and everybody's wallet."""
        roles = self.aggregator_wallet, self.standby_wallet, self.auditor
        transfers = [
            transfer_of(wallet.address, TokenUnits(1_000 * TOKEN))
            for wallet in (*self.wallets.values(), *roles)
        ]
        sponsor, token = self.sponsor.wallet, self.token.address
        send_all(
            self.w3,
            [
                (sponsor, token, approval_of(federation, escrow)),
                (sponsor, federation, funding_of(escrow)),
                *((sponsor, token, transfer) for transfer in transfers),
            ],
        )

    def _join(self) -> None:
        """Seat every participant."""
        approval = approval_of(self.address, self._stake)
        pairs = [
            ((wallet, self.token.address, approval), (wallet, self.address, joining()))
            for wallet in self.wallets.values()
        ]
        send_all(self.w3, [call for pair in pairs for call in pair])
