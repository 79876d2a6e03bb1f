"""A federation in this process: chain, store and every role, to try a trainer of one's own.

    with LocalFederation({"w": zeros((64, 10))}, {"ann": train_ann, "bob": train_bob}) as local:
        for played in local.play(3):
            print(played.paid, played.losses)
        model = local.model()
        assert all(check.passed for check in local.audit())

The chain is eth-tester's, with the real contract; the store is the development daemon, on loopback.
Nothing is kept. It takes the extra `devnet`, and no torch.
"""

import hashlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal, Self

import numpy as np
from numpy.typing import NDArray

from aggregator.aggregator import Action, Aggregator
from auditor.check_result import CheckResult
from auditor.replay import Audit
from chain.deploy import deploy_factory, deploy_token
from chain.federation import Federation
from chain.records import Identity, Money, Rules, Seats, Terms, Windows
from contracts.enums import Privacy, Scoring, Status
from devnet.accounts import dev_account
from devnet.ipfs.daemon import DevIpfsDaemon
from devnet.tester import connect_tester
from ethereum.transactions import Sender
from ethereum.wallet import Wallet
from node.array_trainer import Array, ArrayTrainer, TrainArrays, run_trainer
from node.participant import Participant, Prepared
from node.results import Outcome, round_results
from protocol.differences import choose_grid
from protocol.encoding import decode_values, encode_values
from protocol.errors import Misconfigured
from protocol.spec import Spec
from protocol.types import TOKEN_DECIMALS, Address, RoundId, TokenUnits, UnixTime
from rounds.context import RoundContext
from rounds.rebuild import obtain_model
from sponsor.found import InitialModel, publish
from storage.ipfs import ContentStore
from storage.layers import LayerFolder
from training.update import exact_difference

_LEAST_MASKED: Final = 3
_ACCOUNTS: Final = 8  # of the chain: after the sponsor's and the aggregator's
_PRICE: Final = 10
_LONG_S: Final = 3_600


@dataclass(frozen=True)
class Played:
    """A round that ended: what each participant was paid, in tokens, and why.

    `losses` are those that the functions returned, of who committed.
    """

    round: int
    outcome: Literal["finalized", "abandoned", "expired"]
    paid: dict[str, float]
    reasons: dict[str, str]
    losses: dict[str, float]


class LocalFederation:
    """Participants that train with functions, an aggregator and an auditor, as a context manager.

    `initial` are the model's arrays by name, `trainers` the participants' functions by name. An
    update of `weight_cap` examples or more earns the full price. The grid of the updates is the one
    that suits the first function, which is tried once; or it is `grid_bits`. With `privacy` masked
    only the sum of a round's updates is published: three participants and more.
    """

    def __init__(
        self,
        initial: Mapping[str, NDArray[np.floating[Any]]],
        trainers: Mapping[str, TrainArrays],
        *,
        rounds: int = 10,
        weight_cap: int = 100,
        grid_bits: int | None = None,
        privacy: Literal["clear", "masked"] = "clear",
    ) -> None:
        if not initial:
            raise Misconfigured("a model has one array at least")
        if not 0 < len(trainers) <= _ACCOUNTS:
            raise Misconfigured(f"expected 1 to {_ACCOUNTS} participants, not {len(trainers)}")
        if privacy == "masked" and len(trainers) < _LEAST_MASKED:
            raise Misconfigured(f"masks take {_LEAST_MASKED} participants, not {len(trainers)}")
        start = {name: np.asarray(values) for name, values in sorted(initial.items())}
        self._integers = [encode_values(values) for values in start.values()]
        if grid_bits is None:
            grid_bits = _try_grid(list(start), self._integers, next(iter(trainers.values())))
        self.spec = _spec(start, grid_bits, weight_cap, privacy)
        self._trainers = dict(trainers)
        self._rounds, self._cap = rounds, weight_cap
        self._stack = ExitStack()
        self._losses: dict[str, float] = {}

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            daemon = DevIpfsDaemon(self._folder / "ipfs")
            daemon.start()
            stack.callback(daemon.stop)
            self._store = ContentStore(daemon.url)
            self._w3 = connect_tester()
            self._found()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *failure: object) -> None:
        self._stack.close()

    def play(self, rounds: int = 1) -> Iterator[Played]:
        """Play rounds, and yield each once it ended; fewer when the federation is over."""
        for _ in range(rounds):
            round_id = self._aggregator.next_round()
            if round_id is None:
                return
            while self.federation.status(round_id) is Status.SEED:
                self._w3.provider.make_request("evm_mine", [])  # type: ignore[arg-type]
                self._aggregator.fix_seed(round_id)
            self._losses = {}
            self._aggregator.play(round_id, self._ask)
            yield self._played(round_id)

    def model(self) -> dict[str, Array]:
        """Return the newest finalized model, float32, each array in its shape."""
        now = self.federation.now()
        following = RoundId(now.round_count() + 1)
        place = self._folder / "model"
        context = RoundContext.at(now, self._store, self.spec, place, following)
        layers = obtain_model(context).read(self.spec)
        names = (layer.name for layer in self.spec.layers)
        return {name: decode_values(layer) for name, layer in zip(names, layers, strict=True)}

    def audit(self) -> list[CheckResult]:
        """Rebuild every round from chain and store alone, and return the checks."""
        with tempfile.TemporaryDirectory(dir=self._folder) as folder:
            return list(Audit(self.federation, self._store, Path(folder)).run())

    # --------------------------------------------------------------- the parts

    def _found(self) -> None:
        sponsor = Sender(self._w3, Wallet.from_key(bytes(dev_account(0).key)))
        leading = Wallet.from_key(bytes(dev_account(1).key))
        token = deploy_token(sponsor, _tokens(10**9))
        # 1. What the contract will name.
        folder = LayerFolder(self._folder / "initial", "model")
        folder.write(self.spec, self._integers)
        model = InitialModel(folder, folder.root(self.spec))
        identity = publish(self._store, self.spec, _NOTHING, model, self._w3.eth.chain_id)
        # 2. The contract, its rounds paid for.
        now = UnixTime(self._w3.eth.get_block("latest")["timestamp"])
        terms = _terms(identity, token.address, len(self._trainers), self._rounds, self._cap, now)
        if self.spec.privacy == "masked":
            terms = _masked(terms)
        founded = deploy_factory(sponsor).create(terms, [leading.address])
        founded.fund(TokenUnits(self._rounds * terms.round_cost))
        self.federation = founded
        # 3. Who plays.
        self._participants: dict[str, Participant] = {}
        for place, (name, function) in enumerate(self._trainers.items()):
            wallet = Wallet.from_key(bytes(dev_account(2 + place).key))
            token.transfer(wallet.address, terms.money.participant_stake)
            client = self._client(wallet)
            client.join()
            trainer, state = ArrayTrainer(function), self._folder / "participants" / str(place)
            self._participants[name] = Participant(client, self._store, trainer, state)
        token.transfer(leading.address, terms.money.aggregator_bond)
        self._aggregator = Aggregator(
            self._client(leading), self._store, self._folder / "aggregator"
        )

    def _client(self, wallet: Wallet) -> Federation:
        block = self.federation.deployment_block
        return Federation(self._w3, self.federation.address, wallet, deployment_block=block)

    def _ask(self, action: Action, round_id: RoundId) -> None:
        for name, participant in self._participants.items():
            acted = getattr(participant, action)(round_id)
            if isinstance(acted, Prepared):
                self._losses[name] = acted.loss

    def _played(self, round_id: RoundId) -> Played:
        now = self.federation.now()
        outcome: Any = now.status(round_id).name.lower()
        results = {
            name: list(round_results(now, each.address))[-1]
            for name, each in self._participants.items()
        }
        return Played(
            round=round_id,
            outcome=outcome,
            paid={
                name: each.paid / 10**TOKEN_DECIMALS
                for name, each in results.items()
                if each.outcome is Outcome.PAID
            },
            reasons={name: each.reason for name, each in results.items()},
            losses=dict(self._losses),
        )


_NOTHING: Final = b"[]"  # no held-out set: nothing here evaluates a model


def _try_grid(
    names: Sequence[str], integers: Sequence[NDArray[np.int32]], function: TrainArrays
) -> int:
    """Return the grid that a function's first differences fit."""
    _, after = run_trainer(function, names, integers)
    pairs = zip(integers, after, strict=True)
    return choose_grid([exact_difference(old, new) for old, new in pairs])


def _tokens(amount: int) -> TokenUnits:
    return TokenUnits(amount * 10**TOKEN_DECIMALS)


def _spec(
    initial: Mapping[str, NDArray[np.floating[Any]]],
    grid_bits: int,
    weight_cap: int,
    privacy: Literal["clear", "masked"],
) -> Spec:
    """Return a spec for arrays that are no language model's: it names no base model."""
    none = hashlib.sha256(_NOTHING).hexdigest()
    return Spec.model_validate(
        {
            "base_model": {
                "name": "none",
                "revision": "0",
                "weights_digest": none,
                "tokenizer_digest": none,
                "chat_template_digest": none,
            },
            "quantization": {
                "kind": "none",
                "double_quantization": False,
                "compute_dtype": "float32",
            },
            "adapter": {
                "rank": 1,
                "alpha": 1,
                "dropout": 0.0,
                "targets": list(initial),
                "mode": "fedit",
            },
            "encoding": {"grid_bits": grid_bits, "grid_every": 0},
            "layers": [
                {"name": name, "shape": list(values.shape)} for name, values in initial.items()
            ],
            "training": {
                "learning_rate": 1.0,
                "batch_size": weight_cap,
                "steps": 1,
                "sequence_length": 8,
                "scheduler": "constant",
                "warmup_steps": 0,
                "seed": 0,
            },
            "evaluation_digest": none,
            "screening": {"min_norm": 1, "max_update_norm": 1e6},
            "privacy": privacy,
            "libraries": {},
        }
    )


def _terms(
    identity: Identity, token: Address, seats: int, rounds: int, cap: int, now: UnixTime
) -> Terms:
    return Terms(
        identity,
        Seats(
            max_participants=seats,
            min_participants=1,
            round_target=seats,
            round_seats=seats,
            max_missed=rounds,
            by_invitation=False,
            weight_cap=cap,
            rounds=rounds,
        ),
        Money(
            token=token,
            update_reward=_tokens(_PRICE),
            aggregator_fee=_tokens(1),
            participant_stake=_tokens(50),
            missed_reveal_penalty=_tokens(10),
            aggregator_bond=_tokens(200),
            availability_deposit=_tokens(3),
        ),
        # As long as training may take: nobody waits for the end of a phase in which all have acted.
        Windows(
            commit_seconds=24 * _LONG_S,
            reveal_seconds=_LONG_S,
            propose_seconds=_LONG_S,
            challenge_seconds=1,
            response_seconds=0,
            unbonding_seconds=72 * _LONG_S,
            closes_at=UnixTime(now + 365 * 24 * _LONG_S),
        ),
        Rules(Privacy.CLEAR, Scoring.EQUAL),
    )


def _masked(terms: Terms) -> Terms:
    """Return the terms with the phases that open a sum, which nobody here is late for."""
    windows = replace(
        terms.windows, seal_seconds=_LONG_S, unmask_seconds=_LONG_S, assist_seconds=_LONG_S
    )
    rules = replace(terms.rules, privacy=Privacy.MASKED, min_set=_LEAST_MASKED)
    seats = replace(terms.seats, min_participants=_LEAST_MASKED)
    return replace(terms, seats=seats, windows=windows, rules=rules)
