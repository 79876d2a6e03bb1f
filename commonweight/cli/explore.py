"""`commonweight explore`: a web page over a federation's chain, store and audit."""

from collections.abc import Mapping
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from threading import Lock

import click

from chain.factory import FactoryLocation, known_factory
from chain.federation import connect_federation
from chain.location import FederationLocation
from chain.records import Model
from commonweight.cli.options import (
    DEFAULT_IPFS,
    DEFAULT_RPC,
    federation_option,
    plain_failures,
)
from commonweight.demo import results
from commonweight.located import locate
from commonweight.model.adapters import Place, fetch_adapter
from commonweight.model.export import export
from devnet.factory import devnet_factory
from ethereum.rpc import connect, plain_errors
from explorer.audits import Audits
from explorer.federations import Federations
from explorer.following import LocalNotes
from explorer.server import Explorer, Export, listen, run
from protocol.cid import raw_cid
from protocol.errors import CommonweightError, Misconfigured, WrongBytes
from protocol.types import Address, read_address
from runtime.events import Evaluated
from runtime.home import audit_cache_folder, cache_folder, federation_file
from runtime.progress import read_progress
from storage.blocks import Store
from storage.dial import DialRules
from storage.ipfs import ContentStore
from storage.sources import Sources


@click.command()
@federation_option
@click.option("--factory", help="List this factory's federations. Default: the federation's own.")
@click.option("--rpc", "rpc_url", show_default=DEFAULT_RPC, help="Ethereum JSON-RPC endpoint.")
@click.option(
    "--ipfs",
    "ipfs_url",
    show_default=DEFAULT_IPFS,
    help='IPFS RPC endpoint; "none" to read announced gateways alone.',
)
@click.option("--source", help="Where this machine finds the base model. Default: the run's.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8080,
    show_default=True,
    help="0: a free one, which is printed.",
)
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Address to listen at: anybody who reaches it can look.",
)
@click.option("--no-audit", is_flag=True, help="Recompute nothing in the background.")
@click.option(
    "--allow-private", is_flag=True, help="Read what is announced in local networks, by http too."
)
@plain_failures
def explore(
    federation: Path | None,
    factory: str | None,
    rpc_url: str | None,
    ipfs_url: str | None,
    source: str | None,
    port: int,
    host: str,
    no_audit: bool,
    allow_private: bool,
) -> None:
    """Show federations as web pages on this machine: rounds, pay, audit and models.

    It only reads. Rounds are recomputed in the background, and every page says which figures this
    machine came to itself. Each page has a twin in JSON, at its address with .json behind it.

    \b
    Example: commonweight explore --port 8080
    """
    home, location = _home(federation, factory)
    rpc_url = rpc_url or (location.rpc_url if location else DEFAULT_RPC)
    ipfs_url = ipfs_url or (location.ipfs_url if location else DEFAULT_IPFS)
    first = None
    if location is not None:
        first = connect_federation(location.model_copy(update={"rpc_url": rpc_url}))
    w3 = connect(rpc_url) if first is None else first.w3
    with plain_errors():
        chain_id = int(w3.eth.chain_id)
    known = known_factory(chain_id)
    address = read_address(factory) if factory else None
    if address is None:
        address = first.founding().factory if first is not None else devnet_factory(rpc_url)
    listed = known if address is None else FactoryLocation(address, 0)
    if listed is None:
        raise Misconfigured(
            f"no federation, and no factory is known on chain {chain_id}: give --federation FILE or"
            " --factory ADDRESS"
        )
    # Before anything is read: a port that is taken is said at once.
    sock = listen(host, port)

    def open_store() -> Store:
        own = None if ipfs_url == "none" else ContentStore(ipfs_url)
        return Sources(own, DialRules(allow_private=allow_private))

    audits = Audits(audit_cache_folder(), enabled=not no_audit)
    federations = Federations(
        w3, open_store, audits, factory=listed, events_folder=cache_folder() / "explorer"
    )
    federations.listed()  # raises for an address where no factory is
    audits.start()
    if first is not None:
        audits.want(federations.follow(first, notes=_notes(home)))
    exporting = _exporter(open_store(), Place(home, ipfs_url, source))
    pages = Explorer(
        federations,
        audits,
        home=None if first is None else first.address,
        export=exporting,
        name=host,
    )
    shown = f"[{host}]" if ":" in host else host
    click.echo(f"http://{shown}:{sock.getsockname()[1]}/")
    click.echo("reading only; Ctrl-C ends it", err=True)
    try:
        run(pages, sock)
    finally:
        federations.stop()
        audits.stop()


def _home(
    federation: Path | None, factory: str | None
) -> tuple[Path | None, FederationLocation | None]:
    """Return the federation file to begin with, and what it says; None where there is none."""
    # A factory says what is looked at: a file that merely lies here may be of another chain.
    if federation is None and factory is not None:
        return None, None
    try:
        path = federation_file(federation)
    except Misconfigured:
        return None, None  # the factory of the chain will do
    return path, locate(path)


class RunLosses:
    """The held-out losses that a run's roles reported, by round; what is new is read at a call."""

    def __init__(self, run_folder: Path) -> None:
        self._progress = run_folder / "progress"
        self._offsets: dict[Path, int] = {}
        self._found: dict[int, float] = {}
        self._lock = Lock()

    def __call__(self) -> Mapping[int, float]:
        """Return the losses so far; 0 is the base model's."""
        with self._lock:
            for path in sorted(self._progress.glob("*.jsonl")):
                for offset, line in read_progress(path, self._offsets.get(path, 0)):
                    self._offsets[path] = offset
                    if isinstance(line.event, Evaluated):
                        self._found[line.event.round] = line.event.loss
            return dict(self._found)


def _notes(path: Path | None) -> LocalNotes:
    """Return names and losses that a run on this machine has, beside its federation file."""
    if path is None:
        return LocalNotes()
    names: Mapping[Address, str] = {}
    # They only inform: a run of another version may have settings that this one does not take.
    with suppress(CommonweightError, OSError, ValueError, KeyError):
        names = {Address(who): name for who, name in results.names(path.parent).items()}
    return LocalNotes(names, RunLosses(path.parent))


def _exporter(store: Store, place: Place) -> Export | None:
    """Return what writes models as peft folders; None without a base model, or without peft."""
    try:
        base = place.base_source()
    except Misconfigured:
        return None
    if find_spec("peft") is None:
        return None

    def write(model: Model, target: Path) -> None:
        adapter = fetch_adapter(raw_cid(model.manifest), store)
        # The manifest is only a hint where the bytes are: the root on the chain is the identity.
        if adapter.origin.root != model.root:
            raise WrongBytes(f"the store's manifest is of root {adapter.origin.root.hex()}")
        export(adapter, base, target, None)

    return write
