"""`commonweight audit`: recompute what a federation did, and challenge what is wrong."""

import shlex
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from commonweight import __version__
from commonweight.cli.options import (
    DEFAULT_IPFS,
    DEFAULT_RPC,
    as_json,
    fail,
    federation_option,
    open_wallet,
    plain_failures,
    print_json,
    wallet_options,
)
from protocol.errors import Unavailable

if TYPE_CHECKING:
    from auditor.check_result import CheckResult
    from auditor.findings import Findings
    from auditor.replay import Audit
    from chain.federation import Federation
    from ethereum.wallet import Wallet
    from protocol.types import RoundId
    from storage.ipfs import ContentStore

_UNCHECKED: Final = 3


@click.group()
def audit() -> None:
    """Recompute what a federation did."""


@audit.command("run")
@click.argument("address", required=False)
@federation_option
@click.option("--rpc", "rpc_url", show_default=DEFAULT_RPC, help="Ethereum JSON-RPC endpoint.")
@click.option("--ipfs", "ipfs_url", show_default=DEFAULT_IPFS, help="IPFS RPC endpoint.")
@click.option("--from-block", default=0, help="First block to look at, to save time.")
@click.option(
    "--round",
    "rounds",
    type=click.IntRange(min=1),
    multiple=True,
    help="Only this round; may be given several times. Tokens are counted all the same.",
)
@click.option("--report", type=click.Path(path_type=Path), help="Write an HTML page to this file.")
@click.option("--challenge", is_flag=True, help="Prove what can be proved to the contract.")
@click.option(
    "--cache",
    "cache_folder",
    type=click.Path(path_type=Path),
    help="Where to keep what need not be done twice. Default: in COMMONWEIGHT_HOME.",
)
@click.option("--no-cache", is_flag=True, help="Neither read nor keep anything: do it all again.")
@click.option(
    "--confirmations",
    type=click.IntRange(min=0),
    default=12,
    show_default=True,
    help="Blocks on top of a round's end before it is kept as done.",
)
@wallet_options
@as_json
@plain_failures
def audit_run(
    address: str | None,
    federation: Path | None,
    rpc_url: str | None,
    ipfs_url: str | None,
    from_block: int,
    rounds: tuple[int, ...],
    report: Path | None,
    challenge: bool,
    cache_folder: Path | None,
    no_cache: bool,
    confirmations: int,
    keystore: Path | None,
    password_file: Path | None,
    json_output: bool,
) -> None:
    """Rebuild every round of the federation at ADDRESS from the chain and IPFS alone.

    Prints one line per check with its section of docs/protocol.md. Without ADDRESS: the federation
    of --federation. A round that passed, and whose end is deep enough in the chain, is not fetched
    and recomputed again; an audit that was interrupted goes on where it was. With --challenge a
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
    from auditor.disputes import challenge_open
    from auditor.findings import collect
    from protocol.types import RoundId

    wallet = open_wallet(keystore, password_file) if challenge else None
    asked = frozenset(map(RoundId, rounds)) or None
    with (
        _unavailable_is_unchecked(),
        _workplace(
            *audited(address, federation, rpc_url, ipfs_url, from_block, wallet),
            cache_folder,
            no_cache,
            confirmations,
        ) as start,
    ):
        auditing, checks = _run(start, asked, lambda line: click.echo(line, err=json_output))
        settled = challenge_open(auditing) if challenge else None
        found = collect(
            auditing,
            checks,
            rounds=asked,
            made_at=datetime.now(UTC),
            command=_command(auditing.federation, auditing.store, asked),
            version=__version__,
            challenges=settled,
        )
    if report is not None:
        _write_report(report, found)
    if json_output:
        print_json(found.as_json())
    else:
        _print_summary(found)
    if found.failed:
        sys.exit(1)
    if found.unchecked:
        sys.exit(_UNCHECKED)


@audit.command("watch")
@click.argument("address", required=False)
@federation_option
@click.option("--rpc", "rpc_url", show_default=DEFAULT_RPC, help="Ethereum JSON-RPC endpoint.")
@click.option("--ipfs", "ipfs_url", show_default=DEFAULT_IPFS, help="IPFS RPC endpoint.")
@click.option("--from-block", default=0, help="First block to look at, to save time.")
@click.option("--once", is_flag=True, help="Stop after the first proposal that was judged.")
@wallet_options
@plain_failures
def audit_watch(
    address: str | None,
    federation: Path | None,
    rpc_url: str | None,
    ipfs_url: str | None,
    from_block: int,
    once: bool,
    keystore: Path | None,
    password_file: Path | None,
) -> None:
    """Follow the federation at ADDRESS and challenge wrong proposals inside their window.

    Prints one line per finding and goes on until it is stopped (SIGTERM). The wallet pays the gas,
    and a deposit for each withheld leaf that it demands, returned when nobody posts it. It is
    credited half of the bond of an aggregator it refutes.

    \b
    Example: commonweight audit watch 0x5FbDB2315678afecb367f032d93F642f64180aa3 \\
               --keystore wallet.json --password-file password
    """
    import signal
    import tempfile
    from threading import Event

    from auditor.watch import watch

    wallet = open_wallet(keystore, password_file)
    client, store = audited(address, federation, rpc_url, ipfs_url, from_block, wallet)
    stopped = Event()
    signal.signal(signal.SIGTERM, lambda number, frame: stopped.set())
    click.echo(f"watching {client.address} as {wallet.address}", err=True)
    with tempfile.TemporaryDirectory(prefix="commonweight-watch-") as folder:
        watch(client, store, Path(folder), click.echo, stopped.is_set, once=once)


def audited(
    address: str | None,
    federation: Path | None,
    rpc_url: str | None,
    ipfs_url: str | None,
    from_block: int,
    wallet: "Wallet | None",
) -> "tuple[Federation, ContentStore]":
    """Return the federation that an audit was asked for, and where its content is had."""
    from chain.federation import Federation
    from chain.location import FederationLocation
    from ethereum.rpc import connect
    from protocol.types import parse_address
    from runtime.home import federation_file
    from storage.ipfs import ContentStore

    if address is None:
        location = FederationLocation.load(federation_file(federation))
        address, from_block = location.address, location.deployment_block
        rpc_url, ipfs_url = rpc_url or location.rpc_url, ipfs_url or location.ipfs_url
    checked = parse_address(address)
    w3 = connect(rpc_url or DEFAULT_RPC)
    client = Federation(w3, checked, wallet, deployment_block=from_block)
    return client, ContentStore(ipfs_url or DEFAULT_IPFS)


@contextmanager
def _unavailable_is_unchecked() -> Iterator[None]:
    """End the command with exit code 3 when an endpoint is down or gives up."""
    try:
        yield
    except Unavailable as error:
        click.echo(f"error: could not check: {error}", err=True)
        sys.exit(_UNCHECKED)


@contextmanager
def _workplace(
    client: "Federation",
    store: "ContentStore",
    cache_folder: Path | None,
    no_cache: bool,
    confirmations: int,
) -> "Iterator[Callable[[], Audit]]":
    """Yield what begins an audit, with its layer files in one place however often it begins."""
    import tempfile

    from auditor.cache import AuditCache
    from auditor.replay import Audit
    from runtime.home import audit_cache_folder

    if no_cache:
        with tempfile.TemporaryDirectory(prefix="commonweight-audit-") as folder:
            yield lambda: Audit(client, store, Path(folder))
        return
    cache = AuditCache(cache_folder or audit_cache_folder(), client, confirmations)
    with cache.held():
        yield lambda: Audit(client, store, cache.files, cache)


def _run(
    start: "Callable[[], Audit]", rounds: "Collection[RoundId] | None", tell: Callable[[str], None]
) -> "tuple[Audit, list[CheckResult]]":
    """Return an audit that ran to its end, and its checks; begins again after a reorganisation."""
    from auditor.replay import ChainChanged

    for again in (True, True, False):
        auditing, checks = start(), []
        try:
            for check in auditing.run(rounds):
                checks.append(check)
                tell(check.line())
        except ChainChanged as error:
            if not again:
                raise
            click.echo(f"beginning again: {error}", err=True)
        else:
            return auditing, checks
    raise AssertionError("the last try returns or raises")


def _command(client: "Federation", store: "ContentStore", rounds: Collection[int] | None) -> str:
    """Return the command that repeats an audit. A path of an endpoint, often a key, is not told."""
    node = str(client.w3.provider).removeprefix("RPC connection ")
    words = ["commonweight", "audit", "run", client.address, "--rpc", node, "--ipfs", store.api_url]
    if client.deployment_block:
        words += ["--from-block", str(client.deployment_block)]
    for number in sorted(rounds or ()):
        words += ["--round", str(number)]
    return shlex.join([*words, "--no-cache"])


def _write_report(path: Path, found: "Findings") -> None:
    from auditor.report import render
    from storage.files import write_atomically

    try:
        write_atomically(path, render(found).encode())
    except OSError as error:
        fail(f"report {path}: {error.strerror}")


def _print_summary(found: "Findings") -> None:
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
