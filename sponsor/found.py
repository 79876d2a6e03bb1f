"""Found a federation: from a configuration to a contract with an escrow and an initial model.

plan              what everybody must agree on, with the base model's digests; tried out on the
                  public rows
deploy_unfunded   pin the spec, the held-out set and the initial model; found the federation
fund_rounds       fill the escrow; run again, it adds only what is missing
deploy            the last two
"""

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from chain.deploy import deploy_token
from chain.factory import Factory
from chain.federation import Federation
from chain.location import FederationLocation
from chain.records import Identity, Money, Rules, Seats, Terms, Windows
from chain.token import Erc20
from contracts.enums import Privacy
from ethereum.rpc import public_url
from ethereum.transactions import Sender
from protocol.canonical import sha256
from protocol.encoding import encode_values
from protocol.errors import Misconfigured
from protocol.spec import Encoding, Layer, Screening, Spec, Training
from protocol.types import TOKEN_DECIMALS, Address, Digest, TokenUnits, UnixTime
from rounds.terms import SCORING_NAMES
from sponsor.checks import check_evaluations, check_masked_size
from sponsor.config import Config, token_units
from sponsor.continued import Predecessor, check_continues
from sponsor.trial import Trial, run_trial
from storage.blocks import Store
from storage.ipfs import ContentStore
from storage.layers import LayerFolder, build_manifest, initial_subject, pin

_SCORING: Final = {name: scoring for scoring, name in SCORING_NAMES.items()}

# How much longer than the trial's a masked update may be: others' rows differ, and what rounding
# took comes on top. The format itself allows three times.
_LONGEST_OF_TRIAL: Final = 2

# Written into the spec for whoever wants to repeat a training; nothing checks them.
RECORDED_LIBRARIES: Final = ("torch", "transformers", "peft", "bitsandbytes", "numpy", "flwr")


@dataclass(frozen=True)
class InitialModel:
    """The adapter before any training, as layer files in a folder, and its tree root."""

    folder: LayerFolder
    root: Digest


@dataclass(frozen=True)
class Plan:
    """A federation before it is founded; `trial` is None when the configuration needs none."""

    config: Config
    spec: Spec
    model: InitialModel
    trial: Trial | None


@dataclass(frozen=True)
class Means:
    """What a federation is founded with; without `token` a development token is deployed."""

    sponsor: Sender
    store: ContentStore
    rpc_url: str
    factory: Factory
    token: Address | None = None


def plan(
    config: Config,
    seed: int,
    cache: Path,
    folder: Path,
    *,
    always_try: bool = False,
    predecessor: Predecessor | None = None,
) -> Plan:
    """Return the plan of a configuration; its initial model is written to `folder`.

    It is `predecessor`'s where there is one, else drawn from the seed.

    Reads the base model's files to hash them. One round is trained on the public rows when the
    configuration leaves the grid or the least norm to it, or with `always_try`. Raises
    Misconfigured when the federation cannot be trained.
    """
    # Here, because torch is an optional extra: an auditor's `federation show` needs this room too.
    from training.export import describe_layers, initial_adapter
    from training.model import check_model, resolve_targets
    from training.sources import describe_source, resolve_source

    # 1. The base model: a template or length that it cannot have is found before it is hashed.
    source = resolve_source(config.model.source, cache)
    template = config.model.template
    check_model(source.folder, template, config.training.sequence_length)
    # 2. The spec. Its layers are sorted by name, so that everybody has them in the same order.
    libraries = {}
    for name in RECORDED_LIBRARIES:
        with suppress(PackageNotFoundError):
            libraries[name] = version(name)
    adapter = resolve_targets(source.folder, config.adapter)
    layers = describe_layers(source.folder, adapter)
    is_masked = config.rules.privacy == "masked"
    spec = Spec(
        base_model=describe_source(source, needs_chat=template == "chat"),
        quantization=config.quantization,
        adapter=adapter,
        encoding=Encoding(
            grid_bits=config.encoding.grid_bits or 0, grid_every=config.encoding.grid_every
        ),
        layers=tuple(Layer(name=name, shape=shape) for name, shape in layers),
        training=Training(**config.training.model_dump(), seed=seed),
        evaluation_digest=sha256(_held_out(config).read_bytes()).hex(),
        screening=Screening(
            min_norm=config.screening.min_norm or 1,
            max_update_norm=config.screening.max_update_norm or (1.0 if is_masked else None),
        ),
        scoring=config.rules.scoring,
        held_out=config.rules.held_out,
        privacy=config.rules.privacy,
        libraries=libraries,
        template=template,
    )
    check_masked_size(spec)
    # 3. The initial model. Drawn from the seed, B is zero, so it changes no answer yet.
    model = LayerFolder(folder, "model")
    if predecessor is None:
        arrays = initial_adapter(source.folder, adapter, seed)
        model.write(spec, [encode_values(arrays[layer.name]) for layer in spec.layers])
    else:
        check_continues(spec, predecessor.spec)
        model.write(spec, predecessor.folder.read(predecessor.spec))
    # 4. What only a round of training can tell, unless the configuration says it.
    trial = None
    screening = config.screening
    settled: list[float | None] = [config.encoding.grid_bits, screening.min_norm]
    settled += [screening.max_update_norm] if is_masked else []
    if always_try or None in settled:
        trial = run_trial(
            spec,
            model,
            _held_out(config),
            config.model.source,
            cache,
            rounds=config.seats.rounds,
            grid_bits=config.encoding.grid_bits,
        )
        check_evaluations(config, trial.evaluation_seconds)
        spec = _settled(config, spec, trial)
    return Plan(config, spec, InitialModel(model, model.root(spec)), trial)


def deploy(plan: Plan, means: Means, aggregators: Sequence[Address]) -> FederationLocation:
    """Pin what participants need, found the federation, fund every round; return its location."""
    location = deploy_unfunded(plan, means, aggregators)
    fund_rounds(means.sponsor, location)
    return location


def deploy_unfunded(plan: Plan, means: Means, aggregators: Sequence[Address]) -> FederationLocation:
    """Do all of `deploy` except the funding.

    Raises Misconfigured when the sponsor cannot pay for the rounds.
    """
    sponsor, store, spec, model = means.sponsor, means.store, plan.spec, plan.model
    # 1. Content first: once the contract is there, anybody may fetch what it names.
    chain_id = sponsor.w3.eth.chain_id
    held_out = _held_out(plan.config).read_bytes()
    identity = publish(store, spec, held_out, model, chain_id)
    # 2. The token.
    cost, token = rounds_cost(plan.config), means.token
    if token is None:
        # Enough for 16 stakes or bonds beside.
        money = plan.config.money
        stakes = 16 * token_units(max(money.participant_stake, money.aggregator_bond))
        token = deploy_token(sponsor, TokenUnits(cost + stakes)).address
    else:
        check_token(Erc20(sponsor.w3, token), sponsor.address, cost)
    # 3. The federation.
    federation = means.factory.create(build_terms(plan, identity, token), aggregators)
    return FederationLocation(
        chain_id=chain_id,
        address=federation.address,
        deployment_block=federation.deployment_block,
        rpc_url=public_url(means.rpc_url),  # the file is for everybody, the sponsor's key is not
        ipfs_url=store.api_url,
    )


def rounds_cost(config: Config) -> TokenUnits:
    """Return what the escrow of all rounds takes: each with all of its seats paid, and the fee."""
    updates = config.seats.round_seats * token_units(config.money.update_reward)
    fee = token_units(config.money.aggregator_fee)
    return TokenUnits(config.seats.rounds * (updates + fee))


def check_token(token: Erc20, sponsor: Address, cost: TokenUnits) -> None:
    """Raise Misconfigured unless the sponsor can pay `cost` in this token of 18 decimals."""
    # Amounts count the token's units, and users see whole tokens.
    if (decimals := token.decimals()) != TOKEN_DECIMALS:
        raise Misconfigured(
            f"token {token.address} has {decimals} decimals, {TOKEN_DECIMALS} expected"
        )
    held = token.balance_of(sponsor)
    if held < cost:
        raise Misconfigured(
            f"{sponsor} holds {held:,} units of token {token.address}: the rounds cost {cost:,}"
        )


def fund_rounds(sponsor: Sender, location: FederationLocation) -> TokenUnits:
    """Fill the escrow up to the cost of all rounds to come; return what was added."""
    # Only what is missing: this is called again after an interruption.
    federation = Federation(
        sponsor.w3, location.address, sponsor, deployment_block=location.deployment_block
    )
    terms = federation.terms()
    needed = (terms.seats.rounds - federation.round_count()) * terms.round_cost
    missing = TokenUnits(max(needed - federation.escrow(), 0))
    if missing:
        federation.fund(missing)
    return missing


def publish(
    store: Store, spec: Spec, held_out: bytes, model: InitialModel, chain_id: int
) -> Identity:
    """Store what a federation begins with; return how its contract names that."""
    store.put_block(spec.to_bytes())
    store.put_block(held_out)
    subject = initial_subject(chain_id)
    manifest = pin(store, model.folder, build_manifest(model.folder, spec, subject, model.root))
    return Identity(
        spec_digest=spec.digest(),
        initial_model_root=model.root,
        initial_model_manifest=manifest,
        zero_root=spec.zero_root,
        leaf_count=spec.leaf_count,
        tree_depth=spec.tree_depth,
        grid_bits=spec.encoding.grid_bits,
        grid_every=spec.encoding.grid_every,
    )


def build_terms(plan: Plan, identity: Identity, token: Address) -> Terms:
    """Return the contract's terms for a plan; amounts in token units."""
    config = plan.config
    seats, money, windows = config.seats, config.money, config.windows
    is_masked = config.rules.privacy == "masked"
    return Terms(
        identity,
        Seats(
            max_participants=seats.max_participants,
            min_participants=seats.min_participants,
            round_target=seats.round_target,
            round_seats=seats.round_seats,
            max_missed=seats.max_missed,
            by_invitation=seats.by_invitation,
            weight_cap=config.weight_cap,
            rounds=seats.rounds,
        ),
        Money(
            token=token,
            update_reward=token_units(money.update_reward),
            aggregator_fee=token_units(money.aggregator_fee),
            participant_stake=token_units(money.participant_stake),
            missed_reveal_penalty=token_units(money.missed_reveal_penalty),
            aggregator_bond=token_units(money.aggregator_bond),
            availability_deposit=token_units(money.availability_deposit),
        ),
        Windows(
            commit_seconds=windows.commit_seconds,
            reveal_seconds=windows.reveal_seconds,
            seal_seconds=windows.seal_seconds if is_masked else 0,
            unmask_seconds=windows.unmask_seconds if is_masked else 0,
            assist_seconds=windows.assist_seconds if is_masked else 0,
            propose_seconds=windows.propose_seconds,
            challenge_seconds=windows.challenge_seconds,
            response_seconds=windows.response_seconds,
            unbonding_seconds=windows.unbonding_seconds,
            closes_at=UnixTime(int(time.time()) + windows.open_days * 86_400),
        ),
        Rules(
            Privacy[config.rules.privacy.upper()],
            _SCORING[config.rules.scoring],
            min_set=config.rules.min_set if is_masked else 0,
        ),
    )


def _settled(config: Config, spec: Spec, trial: Trial) -> Spec:
    """Return the spec with what the trial measured, where the configuration does not say it."""
    encoding = spec.encoding.model_copy(update={"grid_bits": trial.grid_bits})
    least, most = config.screening.min_norm or trial.min_norm, config.screening.max_update_norm
    if spec.privacy == "masked" and most is None:
        # In four digits, so that the spec says what a person can read.
        most = float(f"{_LONGEST_OF_TRIAL * trial.norm:.4g}")
    screening = spec.screening.model_copy(update={"min_norm": least, "max_update_norm": most})
    return spec.model_copy(update={"encoding": encoding, "screening": screening})


def _held_out(config: Config) -> Path:
    if config.data.held_out is None:
        raise Misconfigured("the held-out set was not prepared: it is a share of data.source")
    # Everybody gets its bytes without its name, and reads them as JSON.
    if config.data.held_out.suffix.lower() not in (".jsonl", ".json"):
        raise Misconfigured(f"held-out set {config.data.held_out}: expected a .jsonl file")
    return config.data.held_out
