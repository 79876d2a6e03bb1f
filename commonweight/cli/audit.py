"""`commonweight audit`: recompute what a federation did, and challenge what is wrong."""

import shlex
import signal
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import wraps
from importlib.metadata import version
from pathlib import Path
from threading import Event
from typing import Any, Final

import click

import aggregator
import training
from aggregator.evaluator import open_evaluator
from auditor.cache import CONFIRMATIONS, AuditCache, code_digest
from auditor.check_result import CheckResult
from auditor.disputes import challenge_open
from auditor.findings import Findings, collect
from auditor.replay import Audit, ChainChanged
from auditor.report import render
from auditor.watch import watch
from chain.federation import Federation
from commonweight import __version__
from commonweight.cli.options import (
    PATH,
    SHOWN_IPFS,
    SHOWN_RPC,
    as_json,
    default_ipfs,
    default_rpc,
    fail,
    federation_option,
    open_wallet,
    plain_failures,
    print_json,
    wallet_options,
)
from commonweight.located import locate
from ethereum.rpc import connect
from ethereum.wallet import Wallet
from explorer.following import Following
from explorer.still import audit_of, write_pages
from protocol.errors import Unavailable
from protocol.spec import Spec
from protocol.types import RoundId, read_address
from rounds.score import Evaluate
from rounds.whereabouts import learn_places
from runtime.home import audit_cache_folder, cache_folder
from storage.blocks import Store
from storage.dial import DialRules
from storage.files import write_atomically
from storage.ipfs import ContentStore
from storage.sources import Sources

# Apart from 1, so that a script can tell "try again" from "somebody cheated".
_UNCHECKED: Final = 3
_EVALUATING: Final = ("torch", "transformers", "peft", "bitsandbytes")
_ATTEMPTS: Final = 3  # an audit begins again when a reorganisation undid what it had read


@dataclass(frozen=True)
class Target:
    """The federation to audit and the endpoints to read it from; None where nothing was given."""

    address: str | None
    federation: Path | None
    rpc_url: str | None
    ipfs_url: str | None
    from_block: int
    allow_private: bool

    def open(self, wallet: Wallet | None = None) -> tuple[Federation, Store]:
        """Return a client of the contract, and of the store that holds its content."""
        address, from_block = self.address, self.from_block
        rpc_url, ipfs_url = self.rpc_url, self.ipfs_url
        # An address alone must do: an auditor need not trust the sponsor's federation file.
        if address is None:
            location = locate(self.federation)
            address, from_block = location.address, location.deployment_block
            rpc_url, ipfs_url = rpc_url or location.rpc_url, ipfs_url or location.ipfs_url
        checked = read_address(address)
        w3 = connect(rpc_url or default_rpc())
        client = Federation(w3, checked, wallet, deployment_block=from_block)
        return client, _open_store(ipfs_url or default_ipfs(), self.allow_private)


def _open_store(ipfs_url: str, allow_private: bool) -> Sources:
    """Return a daemon and what members announced beside it; "none" stands for no daemon."""
    own = None if ipfs_url == "none" else ContentStore(ipfs_url)
    return Sources(own, DialRules(allow_private=allow_private))


def target_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add ADDRESS and the options that locate a federation, passed on as one `target`."""

    @click.argument("address", required=False)
    @federation_option
    @click.option("--rpc", "rpc_url", show_default=SHOWN_RPC, help="Ethereum JSON-RPC endpoint.")
    @click.option(
        "--ipfs",
        "ipfs_url",
        show_default=SHOWN_IPFS,
        help='IPFS RPC endpoint; "none" to read announced gateways alone.',
    )
    @click.option("--from-block", default=0, help="First block to look at, to save time.")
    @click.option(
        "--allow-private",
        is_flag=True,
        help="Read what is announced in local networks, by http too.",
    )
    @wraps(function)
    def wrapped(
        *args: Any,
        address: str | None,
        federation: Path | None,
        rpc_url: str | None,
        ipfs_url: str | None,
        from_block: int,
        allow_private: bool,
        **kwargs: Any,
    ) -> None:
        target = Target(address, federation, rpc_url, ipfs_url, from_block, allow_private)
        function(*args, target=target, **kwargs)

    return wrapped


@click.group()
def audit() -> None:
    """Recompute what a federation did."""


@audit.command("run")
@target_options
@click.option(
    "--round",
    "rounds",
    type=click.IntRange(min=1),
    multiple=True,
    help="Only this round; may be given several times. Tokens are counted all the same.",
)
@click.option(
    "--report",
    type=PATH,
    help="Write one page to this file (….html), or the explorer's pages to this folder.",
)
@click.option("--challenge", is_flag=True, help="Prove what can be proved to the contract.")
@click.option(
    "--model",
    help="Where the base model is: losses behind scores are evaluated again. Default: not.",
)
@click.option(
    "--cache",
    "kept_in",
    type=PATH,
    help="Where to keep what need not be done twice. Default: in COMMONWEIGHT_HOME.",
)
@click.option("--no-cache", is_flag=True, help="Neither read nor keep anything: do it all again.")
@click.option(
    "--confirmations",
    type=click.IntRange(min=0),
    default=CONFIRMATIONS,
    show_default=True,
    help="Blocks on top of a round's end before it is kept as done.",
)
@wallet_options
@as_json
@plain_failures
def audit_run(
    target: Target,
    rounds: tuple[int, ...],
    report: Path | None,
    challenge: bool,
    model: str | None,
    kept_in: Path | None,
    no_cache: bool,
    confirmations: int,
    keystore: Path | None,
    password_file: Path | None,
    json_output: bool,
) -> None:
    """Rebuild every round of the federation at ADDRESS from the chain and IPFS alone.

    Prints one line per check with its section of docs/protocol.md. Without ADDRESS: the federation
    of --federation. A round that passed, and whose end is deep enough in the chain, is not fetched
    and recomputed again; an interrupted audit resumes where it was. With --challenge a
    proposal that is still open to challenge and provably wrong costs its aggregator the bond; the
    wallet pays the gas and is credited half of the bond.

    \b
    Exits with
      0  every check passed
      1  a check failed, or the command is wrong
      3  no check failed, but not all could be made: bytes are missing, or the
         Ethereum node gave up or lacks logs; try again, or with another node

    \b
    Any full node will do: no state of old blocks is read.

    \b
    Example: commonweight audit run 0x5FbDB2315678afecb367f032d93F642f64180aa3 \\
               --rpc http://127.0.0.1:8545 --ipfs http://127.0.0.1:5001 --report audit.html
    """
    # The password is asked for before the audit, which takes long, not after it.
    wallet = open_wallet(keystore, password_file) if challenge else None
    asked = frozenset(map(RoundId, rounds)) or None
    try:
        client, store = target.open(wallet)
        evaluate = None if model is None else _open_evaluator(client, store, model)
        cache = None
        if not no_cache:
            evaluator = None if evaluate is None else _evaluator_digest()
            kept_in = kept_in or audit_cache_folder()
            cache = AuditCache(kept_in, client, confirmations, evaluator)
        with _layer_files(cache) as folder:
            # With --json stdout holds one object and nothing else.
            auditing, checks = _run_to_the_end(
                lambda: Audit(client, store, folder, cache, evaluate),
                asked,
                lambda line: click.echo(line, err=json_output),
            )
            settled = challenge_open(auditing) if challenge else None
            found = collect(
                auditing,
                checks,
                rounds=asked,
                made_at=datetime.now(UTC),
                command=_repeat_command(client, store, asked, model),
                version=__version__,
                challenges=settled,
            )
    except Unavailable as error:
        # An endpoint that is down says nothing about the federation: this is no failed check.
        click.echo(f"error: could not check: {error}", err=True)
        sys.exit(_UNCHECKED)
    # The page is written and the result printed before the exit code: they explain a failure.
    if report is not None:
        try:
            _write_report(report, found, client, store)
        except OSError as error:
            fail(f"report {report}: {error.strerror}")
    if json_output:
        print_json(found.as_json())
    else:
        _print_summary(found)
    if found.failed:
        sys.exit(1)
    if found.unchecked:
        sys.exit(_UNCHECKED)


@audit.command("watch")
@target_options
@click.option("--once", is_flag=True, help="Stop after the first proposal that was judged.")
@wallet_options
@plain_failures
def audit_watch(
    target: Target, once: bool, keystore: Path | None, password_file: Path | None
) -> None:
    """Follow the federation at ADDRESS and challenge wrong proposals inside their window.

    Prints one line per finding until the federation is over, or it is stopped (SIGTERM). The
    wallet pays the gas, and a deposit for each leaf request that it makes for withheld bytes,
    returned when nobody posts the leaf. It is credited half of the bond of an aggregator that it
    refutes.

    \b
    Example: commonweight audit watch 0x5FbDB2315678afecb367f032d93F642f64180aa3 \\
               --keystore wallet.json --password-file password
    """
    wallet = open_wallet(keystore, password_file)
    client, store = target.open(wallet)
    # A flag, not an exception: a challenge that is being sent is sent to its end.
    stopped = Event()
    signal.signal(signal.SIGTERM, lambda number, frame: stopped.set())
    click.echo(f"watching {client.address} as {wallet.address}", err=True)
    with tempfile.TemporaryDirectory(prefix="commonweight-watch-") as folder:
        watch(client, store, Path(folder), click.echo, stopped.is_set, once=once)


def _write_report(report: Path, found: Findings, client: Federation, store: Store) -> None:
    """Write one page, or all pages about the federation into a folder."""
    if report.suffix in (".html", ".htm"):
        write_atomically(report, render(found).encode())
        return
    following = Following(client, store)
    following.start()
    try:
        count = write_pages(following, audit_of(found), report)
    finally:
        following.stop()
    click.echo(f"{count} pages in {report}: begin with {report / 'index.html'}", err=True)


@contextmanager
def _layer_files(cache: AuditCache | None) -> Iterator[Path]:
    """Yield one folder for layer files, however often an audit begins again."""
    if cache is None:
        with tempfile.TemporaryDirectory(prefix="commonweight-audit-") as folder:
            yield Path(folder)
    else:
        # One audit at a time: two would write the same layer files.
        with cache.held():
            yield cache.files


def _run_to_the_end(
    start: Callable[[], Audit], rounds: Collection[RoundId] | None, tell: Callable[[str], None]
) -> tuple[Audit, list[CheckResult]]:
    """Return a completed audit and its checks; begin again after a reorganisation."""
    for attempt in range(1, _ATTEMPTS + 1):
        auditing, checks = start(), []
        try:
            for check in auditing.run(rounds):
                checks.append(check)
                tell(check.line())
        except ChainChanged as error:
            # A chain that changes under every attempt is the node's fault: say so and stop.
            if attempt == _ATTEMPTS:
                raise
            click.echo(f"beginning again: {error}", err=True)
        else:
            return auditing, checks
    raise AssertionError("the last attempt returns or raises")


def _open_evaluator(client: Federation, store: Store, model: str) -> Evaluate:
    """Return what evaluates models, with the base model found at `model`; it is loaded now."""
    learn_places(store, client)
    spec = Spec.parse(store.get_block(client.terms().identity.spec_digest))
    return open_evaluator(spec, store, model, cache_folder())


def _evaluator_digest() -> str:
    """Return a digest of all software that a loss depends on, but the base model in the spec."""
    versions = [f"{name} {version(name)}" for name in _EVALUATING]
    return code_digest((aggregator, training), " ".join(versions))


def _repeat_command(
    client: Federation, store: Store, rounds: Collection[int] | None, model: str | None
) -> str:
    """Return the command that repeats an audit, for a page that may be published."""
    # The provider's own name leaves out the path of the endpoint, which is often a key.
    node = str(client.w3.provider).removeprefix("RPC connection ")
    words = ["commonweight", "audit", "run", client.address, "--rpc", node, "--ipfs", store.address]
    if client.deployment_block:
        words += ["--from-block", str(client.deployment_block)]
    for number in sorted(rounds or ()):
        words += ["--round", str(number)]
    # Where this machine has the base model is nobody else's business.
    words += [] if model is None else ["--model", "MODEL"]
    return shlex.join([*words, "--no-cache"])


def _print_summary(found: Findings) -> None:
    """Print what was challenged, what came from the cache, and how many checks failed."""
    for line in found.challenges or ():
        click.echo(line)
    if found.cached:
        click.echo(
            f"{found.cached} of {len(found.rounds)} rounds from the cache, not fetched again"
        )
    unchecked = f", {found.unchecked} could not be made" if found.unchecked else ""
    click.echo(
        f"{len(found.checks)} checks, {found.failed} failed{unchecked}, at block {found.block}"
    )
