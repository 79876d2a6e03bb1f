"""Starting a federation: from a configuration to a contract with an escrow and a first model.

    build_spec        what everybody must agree on, with the base model's digests
    deploy            the spec and the initial model pinned, the contract deployed and funded
    add_participant   a wallet, its settings, its stake

Each step looks before it acts, so that a launch that was interrupted can be run again.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from chain.deploy import deploy_federation, deploy_token
from chain.federation import Federation
from chain.location import FederationLocation
from chain.records import Terms
from chain.token import Erc20
from ethereum.transactions import Sender
from protocol.canonical import sha256
from protocol.encoding import encode_values
from protocol.errors import Misconfigured
from protocol.spec import Layer, Spec, Training
from protocol.types import TOKEN_DECIMALS, Address, Digest, TokenUnits, UnixTime
from sponsor.config import Config, token_units
from storage.ipfs import ContentStore
from storage.layers import NO_FEDERATION, LayerFolder, build_manifest, initial_subject, pin

RECORDED_LIBRARIES: Final = ("torch", "transformers", "peft", "bitsandbytes", "numpy", "flwr")


@dataclass(frozen=True)
class InitialModel:
    """The adapter before any training, as layer files in a folder, and its tree root."""

    folder: LayerFolder
    root: Digest


def build_spec(config: Config, seed: int, cache: Path, folder: Path) -> tuple[Spec, InitialModel]:
    """Return the spec of a configuration and its initial model, written to `folder`.

    Reads the base model's files to hash them, but loads no weights into memory.
    """
    from training.export import describe_layers, initial_adapter
    from training.model import check_model
    from training.sources import describe_source, resolve_source

    source = resolve_source(config.model.source, cache)
    template = config.model.template
    check_model(source.folder, template, config.training.sequence_length)
    layers = describe_layers(source.folder, config.lora)
    spec = Spec(
        base_model=describe_source(source, needs_chat=template == "chat"),
        quantization=config.quantization,
        lora=config.lora,
        encoding=config.encoding,
        layers=tuple(Layer(name=name, shape=shape) for name, shape in layers),
        training=Training(**config.training.model_dump(), seed=seed),
        evaluation_digest=sha256(_held_out(config)).hex(),
        sampling_fraction=config.federation.sampling_basis_points,
        screening=config.screening,
        libraries=_libraries(),
        template=template,
    )
    arrays = initial_adapter(source.folder, config.lora, seed)
    model = LayerFolder(folder)
    bits = config.encoding.fraction_bits
    model.write(spec, [encode_values(arrays[layer.name], bits) for layer in spec.layers])
    return spec, InitialModel(model, model.root(spec))


def deploy(
    config: Config,
    spec: Spec,
    model: InitialModel,
    sponsor: Sender,
    aggregators: Sequence[Address],
    store: ContentStore,
    rpc_url: str,
    token: Address | None = None,
) -> FederationLocation:
    """Pin what participants need, deploy token and contract, fund every round; return its place.

    Without `token` a development token is deployed, with enough of it for 16 stakes or bonds.
    """
    location = deploy_unfunded(config, spec, model, sponsor, aggregators, store, rpc_url, token)
    fund_rounds(sponsor, location)
    return location


def deploy_unfunded(
    config: Config,
    spec: Spec,
    model: InitialModel,
    sponsor: Sender,
    aggregators: Sequence[Address],
    store: ContentStore,
    rpc_url: str,
    token: Address | None = None,
) -> FederationLocation:
    """Do all of `deploy` but the funding. Misconfigured when the sponsor cannot pay for it."""
    chain_id = sponsor.w3.eth.chain_id
    store.put_block(spec.to_bytes())
    store.put_block(_held_out(config))
    subject = initial_subject(chain_id)
    manifest = pin(store, model.folder, build_manifest(model.folder, spec, subject, model.root))
    terms = build_terms(config, spec, model.root, manifest, NO_FEDERATION)
    rounds_cost = TokenUnits(config.federation.rounds * terms.round_cost)
    if token is None:
        stakes = 16 * max(terms.participant_stake, terms.aggregator_bond)
        token = deploy_token(sponsor, TokenUnits(rounds_cost + stakes)).address
    else:
        _check_token(sponsor, token, rounds_cost)
    federation = deploy_federation(
        sponsor, build_terms(config, spec, model.root, manifest, token), aggregators
    )
    return FederationLocation(
        chain_id=chain_id,
        address=federation.address,
        deployment_block=federation.deployment_block,
        rpc_url=rpc_url,
        ipfs_url=store.api_url,
    )


def _held_out(config: Config) -> bytes:
    if config.data.held_out is None:
        raise Misconfigured("the held-out set was not prepared: it is a share of data.source")
    return config.data.held_out.read_bytes()


def fund_rounds(sponsor: Sender, location: FederationLocation) -> TokenUnits:
    """Fill the escrow up to what all rounds to come cost; return what was added."""
    federation = Federation(
        sponsor.w3, location.address, sponsor, deployment_block=location.deployment_block
    )
    terms = federation.terms()
    needed = (terms.rounds - federation.round_count()) * terms.round_cost
    missing = TokenUnits(max(needed - federation.escrow(), 0))
    if missing:
        federation.fund(missing)
    return missing


def _check_token(sponsor: Sender, address: Address, needed: TokenUnits) -> None:
    token = Erc20(sponsor.w3, address)
    if (decimals := token.decimals()) != TOKEN_DECIMALS:
        raise Misconfigured(f"token {address} has {decimals} decimals, {TOKEN_DECIMALS} expected")
    held = token.balance_of(sponsor.address)
    if held < needed:
        raise Misconfigured(
            f"{sponsor.address} holds {held:,} units of token {address}: the rounds cost {needed:,}"
        )


def build_terms(
    config: Config, spec: Spec, root: Digest, manifest: Digest, token: Address
) -> Terms:
    """Return the contract's terms of a configuration; amounts in token units."""
    section = config.federation
    return Terms(
        token=token,
        spec_digest=spec.digest(),
        initial_model_root=root,
        initial_model_manifest=manifest,
        leaf_count=spec.leaf_count,
        tree_depth=spec.tree_depth,
        leaf_values=spec.encoding.leaf_values,
        max_participants=section.max_participants,
        weight_cap=section.weight_cap,
        rounds=section.rounds,
        sampling_fraction=section.sampling_basis_points,
        round_reward=token_units(section.round_reward),
        aggregator_fee=token_units(section.aggregator_fee),
        participant_stake=token_units(section.participant_stake),
        missed_reveal_penalty=token_units(section.missed_reveal_penalty),
        aggregator_bond=token_units(section.aggregator_bond),
        availability_deposit=token_units(section.availability_deposit),
        commit_seconds=section.commit_seconds,
        reveal_seconds=section.reveal_seconds,
        propose_seconds=section.propose_seconds,
        challenge_seconds=section.challenge_seconds,
        response_seconds=section.response_seconds,
        unbonding_seconds=section.unbonding_seconds,
        closes_at=UnixTime(int(time.time()) + section.open_days * 86_400),
    )


def _libraries() -> dict[str, str]:
    found = {}
    for name in RECORDED_LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
