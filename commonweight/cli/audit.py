"""`commonweight audit`: recompute what a federation did, and challenge what is wrong."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from commonweight.cli.options import (
    DEFAULT_IPFS,
    DEFAULT_RPC,
    as_json,
    federation_option,
    open_wallet,
    plain_failures,
    print_json,
    wallet_options,
)

if TYPE_CHECKING:
    from chain.federation import Federation
    from chain.wallet import Wallet
    from storage.ipfs import ContentStore


@click.group()
def audit() -> None:
    """Recompute what a federation did."""


@audit.command("run")
@click.argument("address", required=False)
@federation_option
@click.option("--rpc", "rpc_url", show_default=DEFAULT_RPC, help="Ethereum JSON-RPC endpoint.")
@click.option("--ipfs", "ipfs_url", show_default=DEFAULT_IPFS, help="IPFS RPC endpoint.")
@click.option("--from-block", default=0, help="First block to look at, to save time.")
@click.option("--challenge", is_flag=True, help="Prove what can be proved to the contract.")
@wallet_options
@as_json
@plain_failures
def audit_run(
    address: str | None,
    federation: Path | None,
    rpc_url: str | None,
    ipfs_url: str | None,
    from_block: int,
    challenge: bool,
    keystore: Path | None,
    password_file: Path | None,
    json_output: bool,
) -> None:
    """Rebuild every round of the federation at ADDRESS from the chain and IPFS alone.

    Prints a line a check with its section of docs/protocol.md, and exits 1 when any fails. Without
    ADDRESS: the federation of --federation. With --challenge a proposal that is still open to
    challenge and provably wrong costs its aggregator the bond; of withheld bytes a leaf is demanded.
    The wallet pays the gas, and a deposit for each demand, and is
    credited half of the bond.

    \b
    Example: commonweight audit run 0x5FbDB2315678afecb367f032d93F642f64180aa3 \\
               --rpc http://127.0.0.1:8545 --ipfs http://127.0.0.1:5001
    """
    import tempfile

    from auditor.disputes import challenge_open
    from auditor.replay import Audit

    wallet = open_wallet(keystore, password_file) if challenge else None
    client, store = audited(address, federation, rpc_url, ipfs_url, from_block, wallet)
    checks, settled = [], []
    with tempfile.TemporaryDirectory(prefix="commonweight-audit-") as folder:
        auditing = Audit(client, store, Path(folder))
        for check in auditing.run():
            checks.append(check)
            click.echo(check.line(), err=json_output)
        if challenge:
            settled = challenge_open(auditing)
    failed = sum(not check.passed for check in checks)
    if json_output:
        record = {"federation": client.address, "block": auditing.block, "failed": failed}
        told = {"challenges": settled} if challenge else {}
        print_json({**record, "checks": [check.as_json() for check in checks], **told})
    else:
        for line in settled:
            click.echo(line)
        click.echo(f"{len(checks)} checks, {failed} failed, at block {auditing.block}")
    if failed:
        sys.exit(1)


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

    Prints a line a finding and goes on until it is stopped (SIGTERM). The wallet pays the gas, and a
    deposit for each withheld leaf that it demands, returned when nobody posts it. It is credited half
    of the bond of an aggregator it refutes.

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
    from chain.rpc import connect
    from commonweight.home import federation_file
    from protocol.quantities import parse_address
    from storage.ipfs import ContentStore

    if address is None:
        location = FederationLocation.load(federation_file(federation))
        address, from_block = location.address, location.deployment_block
        rpc_url, ipfs_url = rpc_url or location.rpc_url, ipfs_url or location.ipfs_url
    checked = parse_address(address)
    w3 = connect(rpc_url or DEFAULT_RPC)
    client = Federation(w3, checked, wallet, deployment_block=from_block)
    return client, ContentStore(ipfs_url or DEFAULT_IPFS)
