"""Create a federation and fill its escrow: `commonweight federation create`."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from chain.deploy import deploy_factory
from chain.development import is_development_chain
from chain.factory import Factory, known_factory
from chain.federation import connect_federation
from chain.location import FederationLocation
from chain.token import Erc20
from ethereum.rpc import connect
from ethereum.transactions import Sender
from ethereum.wallet import Wallet
from protocol.errors import Misconfigured
from protocol.spec import Spec
from protocol.types import Address, format_tokens, read_address
from runtime.home import cache_folder
from runtime.settings import write_location
from sponsor import found
from sponsor.checks import check_chain, check_windows
from sponsor.config import Config
from sponsor.continued import read_predecessor
from storage.ipfs import ContentStore

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Order:
    """What a sponsor asks for; addresses as typed.

    `factory` is None for the one that is known on the chain; `deploy_factory` deploys one where
    none is. `dev` allows windows that only suit development, and `understood` a public chain.
    `continued` is the file of a federation with whose newest model this one begins.
    """

    config: Path
    aggregators: Sequence[str]
    token: str | None
    rpc_url: str
    ipfs_url: str
    seed: int
    factory: str | None = None
    deploy_factory: bool = False
    dev: bool = False
    understood: bool = False
    continued: Path | None = None


def create_federation(
    output: Path, order: Order, open_wallet: Callable[[], Wallet], tell: Tell
) -> dict[str, Any]:
    """Create the federation of an order, write its location to `output` and describe it.

    When `output` names it already, only fill up the escrow. `open_wallet` is called once the order
    makes sense, and `tell` with a line for what the sponsor should know. Raises Misconfigured when
    `output` names a federation with another spec, when the model cannot be trained, or when the
    terms or the chain are not fit for it.
    """
    # 1. Everything that can be wrong is looked at before the first transaction, which costs gas.
    config = Config.load(order.config)
    listed = [read_address(each) for each in order.aggregators]
    token = None if order.token is None else read_address(order.token)
    if not order.dev:
        check_windows(config.windows, is_masked=config.rules.privacy == "masked")
    sponsor = Sender(connect(order.rpc_url), open_wallet())
    chain_id = sponsor.w3.eth.chain_id
    for line in check_chain(chain_id, understood=order.understood):
        tell(line)
    if token is None and not is_development_chain(chain_id):
        raise Misconfigured("give --token: a development token is worth nothing to participants")
    store = ContentStore(order.ipfs_url)
    store.id()  # raises Unavailable, with the daemon's address, when it is down
    location = FederationLocation.load(output) if output.exists() else None
    if location is None and token is not None:
        found.check_token(Erc20(sponsor.w3, token), sponsor.address, found.rounds_cost(config))
    # 2. The plan. A federation that was tried out and founded before is not tried out again: its
    # spec has what that found.
    if location is not None:
        config = _as_founded(config, location, store)
    else:
        tell("training one round on the public rows, to see that it lowers the loss")
    with tempfile.TemporaryDirectory(prefix="commonweight-model-") as name:
        folder = Path(name)
        predecessor = None
        if order.continued is not None:
            ended = FederationLocation.load(order.continued)
            predecessor = read_predecessor(ended, folder / "predecessor")
        plan = found.plan(
            config,
            order.seed,
            cache_folder(),
            folder / "initial",
            always_try=location is None,
            predecessor=predecessor,
        )
        # 3. The federation, unless an earlier attempt ended between the contract and its escrow:
        # another one would leave that contract behind.
        if location is None:
            factory = find_factory(sponsor, chain_id, order)
            means = found.Means(sponsor, store, order.rpc_url, factory, token)
            location = found.deploy_unfunded(plan, means, listed)
            # Before the money moves: what is in escrow must be found again.
            write_location(output, location)
    federation = connect_federation(location)
    if federation.terms().identity.spec_digest != plan.spec.digest():
        raise Misconfigured(f"{output} is of a federation with another spec: move it away")
    # 4. The escrow.
    found.fund_rounds(sponsor, location)
    terms = federation.terms()
    return {
        "federation": location.address,
        "factory": federation.founding().factory,
        "chain_id": location.chain_id,
        "token": terms.money.token,
        "escrow": format_tokens(federation.escrow()),
        "rounds": terms.seats.rounds,
        "spec": plan.spec.digest().hex(),
        "trial": None if plan.trial is None else asdict(plan.trial),
        "written": str(output),
    }


def _as_founded(config: Config, location: FederationLocation, store: ContentStore) -> Config:
    """Return a configuration with the grid and least norm of a federation that was founded."""
    digest = connect_federation(location).terms().identity.spec_digest
    spec = Spec.parse(store.get_block(digest))
    grid, least = config.encoding.grid_bits, config.screening.min_norm
    known = {
        "encoding": {"grid_bits": spec.encoding.grid_bits if grid is None else grid},
        "screening": {"min_norm": spec.screening.min_norm if least is None else least},
    }
    changed = {name: getattr(config, name).model_copy(update=v) for name, v in known.items()}
    return config.model_copy(update=changed)


def find_factory(sponsor: Sender, chain_id: int, order: Order) -> Factory:
    """Return the factory to found with; one is deployed on a development chain that has none.

    Raises Misconfigured when none is known on another chain, unless one is to be deployed.
    """
    known = known_factory(chain_id)
    address: Address | None = None
    if order.factory is not None:
        address = read_address(order.factory)
    elif known is not None:
        address = known.address
    if address is not None:
        return Factory(sponsor.w3, address, sponsor)
    if not order.deploy_factory and not is_development_chain(chain_id):
        raise Misconfigured(
            f"no factory is known on chain {chain_id}: give --factory ADDRESS, or --deploy-factory"
            " to deploy one"
        )
    return deploy_factory(sponsor)
