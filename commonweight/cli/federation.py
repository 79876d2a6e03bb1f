"""`commonweight federation`: create a federation, look at it, invite to it, and end it."""

import re
from pathlib import Path
from typing import Any

import click

from chain.factory import Factory, known_factory
from chain.federation import Federation, connect_federation
from commonweight.cli.options import (
    PATH,
    SHOWN_IPFS,
    SHOWN_RPC,
    as_json,
    default_ipfs,
    default_rpc,
    fail,
    federation_option,
    plain_failures,
    print_json,
)
from commonweight.cli.running import wallet_opener
from commonweight.located import locate
from devnet.factory import devnet_factory, note_devnet_factory
from ethereum.rpc import connect, plain_errors
from ethereum.wallet import Wallet
from protocol.types import format_tokens, read_address
from protocol.whereabouts import parse_place, write_whereabouts
from sponsor import manage
from sponsor.attacks import assess
from sponsor.config import Config
from sponsor.create import Order, create_federation
from sponsor.show import describe_federation, print_federation
from storage.files import write_atomically

_UNITS = {"m": 60, "h": 3_600, "d": 86_400}

keystore_option = click.option("--keystore", type=PATH, required=True, help="The sponsor's wallet.")
password_option = click.option("--password-file", type=PATH, help="Default: asked for.")
rpc_option = click.option("--rpc", "rpc_url", default=default_rpc, show_default=SHOWN_RPC)
factory_option = click.option("--factory", help="Default: the one known on the chain.")


@click.group()
def federation() -> None:
    """Create a federation, look at it, invite to it, and end it."""


@federation.command("list")
@rpc_option
@factory_option
@click.option(
    "--from-block",
    type=click.IntRange(min=0),
    help="Default: the factory's own block, where it is known.",
)
@as_json
@plain_failures
def federation_list(
    rpc_url: str, factory: str | None, from_block: int | None, json_output: bool
) -> None:
    """List the federations of a factory, oldest first.

    \b
    Example: commonweight federation list
    """
    w3 = connect(rpc_url)
    with plain_errors():
        chain_id = int(w3.eth.chain_id)
    known = known_factory(chain_id)
    address = factory or devnet_factory(rpc_url) or (known.address if known else None)
    if address is None:
        fail(f"no factory is known on chain {chain_id}: give --factory ADDRESS")
    first = from_block
    if first is None:
        first = known.block if known is not None and factory is None else 0
    rows = manage.list_federations(Factory(w3, read_address(address)), first)
    if json_output:
        print_json(rows)
        return
    if not rows:
        click.echo(f"none was founded by {address} from block {first} on", err=True)
    for row in rows:
        state = "over" if row["over"] else f"{row['rounds_left']} rounds left"
        admits = "by invitation" if row["by_invitation"] else "open to anybody"
        price = format_tokens(row["update_reward"])
        click.echo(
            f"{row['federation']}  {price} an update, {row['participants']} participants,"
            f" {admits}, {state}"
        )


@federation.command("show")
@federation_option
@as_json
@plain_failures
def federation_show(federation: Path | None, json_output: bool) -> None:
    """Show the terms in words, the participants and every round.

    \b
    Example: commonweight federation show
    """
    location = locate(federation)
    described = describe_federation(location)
    if json_output:
        print_json(described)
    else:
        print_federation(described)


@federation.command("check")
@click.argument("config", type=PATH)
@as_json
@plain_failures
def federation_check(config: Path, json_output: bool) -> None:
    """Say which attacks would pay at the terms of CONFIG, with figures in tokens.

    Nothing is started and no chain is asked: docs/incentives.md says how to choose the terms.

    \b
    Example: commonweight federation check configs/scored.toml
    """
    attacks = list(assess(Config.load(config)))
    if json_output:
        print_json([attack.as_json() for attack in attacks])
        return
    for attack in attacks:
        click.echo(attack.line())


@federation.command("create")
@click.option("--config", type=PATH, required=True, help="What to train and on which terms.")
@keystore_option
@password_option
@click.option("--aggregator", "aggregators", multiple=True, required=True, help="May be repeated.")
@click.option("--token", help="An ERC-20 with 18 decimals. Default, to try: a development token.")
@rpc_option
@click.option("--ipfs", "ipfs_url", default=default_ipfs, show_default=SHOWN_IPFS)
@factory_option
@click.option("--deploy-factory", is_flag=True, help="Deploy a factory where none is known.")
@click.option("--seed", default=0, show_default=True, help="Of the initial adapter.")
@click.option(
    "--continue",
    "continued",
    type=PATH,
    help="Begin with the newest model of the federation of this federation.json.",
)
@click.option("--dev", is_flag=True, help="Allow windows that only suit development.")
@click.option(
    "--i-understand",
    "understood",
    is_flag=True,
    help="On a public chain: that nobody has audited the contract.",
)
@click.option("--output", type=PATH, default=Path("federation.json"), show_default=True)
@as_json
@plain_failures
def federation_create(
    output: Path, keystore: Path, password_file: Path | None, json_output: bool, **options: Any
) -> None:
    """Found a federation, put its rewards into escrow and write OUTPUT for its participants.

    First one round is trained on the public rows: a federation that cannot be trained is not
    founded. The first --aggregator leads, the others stand by in this order. If it is interrupted
    before the escrow is full, the same command continues.

    \b
    Example: commonweight federation create --config configs/demo.toml --keystore sponsor.json \\
               --aggregator 0x5FbDB2315678afecb367f032d93F642f64180aa3 --dev
    """
    options["factory"] = options["factory"] or devnet_factory(options["rpc_url"])
    open_wallet = wallet_opener(keystore, password_file)
    created = create_federation(
        output, Order(**options), open_wallet, lambda line: click.echo(line, err=True)
    )
    note_devnet_factory(options["rpc_url"], created["factory"])
    if json_output:
        print_json(created)
        return
    trial = created.pop("trial")
    for key, value in created.items():
        click.echo(f"{key:<12} {value}")
    if trial is not None:
        click.echo(
            f"{'trial':<12} loss {trial['loss_before']:.4f} before, {trial['loss_after']:.4f}"
            f" after; grid {trial['grid_bits']}, relative error {trial['relative_error']:.2%}"
        )


@federation.command("invite")
@click.argument("address")
@federation_option
@keystore_option
@password_option
@click.option(
    "--expires", default="7d", show_default=True, help="How long it holds: 30m, 12h or 7d."
)
@click.option("--output", type=PATH, help="File for the invitation. Default: print it.")
@as_json
@plain_failures
def federation_invite(
    address: str,
    federation: Path | None,
    keystore: Path,
    password_file: Path | None,
    expires: str,
    output: Path | None,
    json_output: bool,
) -> None:
    """Invite ADDRESS: sign the line that `participant join --invitation` takes. Sends nothing.

    \b
    Example: commonweight federation invite 0x70997970C51812dc3A010C7d01b50e0d17dc79C8 \\
               --keystore sponsor.json --expires 7d --output invitation.json
    """
    participant, seconds = read_address(address), _read_duration(expires)
    wallet, client = _open(federation, keystore, password_file)
    line = manage.invite(client, wallet, participant, seconds).to_line()
    if output is None:
        click.echo(line)  # JSON already
        return
    write_atomically(output, line.encode() + b"\n")
    if json_output:
        print_json({"participant": participant, "written": str(output)})
    else:
        click.echo(f"written  {output}")


@federation.command("announce")
@federation_option
@click.argument("places", nargs=-1, required=True)
@keystore_option
@password_option
@as_json
@plain_failures
def federation_announce(
    federation: Path | None,
    places: tuple[str, ...],
    keystore: Path,
    password_file: Path | None,
    json_output: bool,
) -> None:
    """Say on chain, as its sponsor, where spec, held-out set and initial model can be read.

    Up to four PLACES: https://HOST/PATH of a trustless gateway, /dns4/HOST/tcp/PORT/p2p/ID or
    /p2p/ID. They stand on chain for ever. The other roles announce what their settings name.

    \b
    Example: commonweight federation announce https://store.example --keystore sponsor.json
    """
    text = write_whereabouts([parse_place(place) for place in places])
    wallet, client = _open(federation, keystore, password_file)
    manage.announce(client, wallet, text)
    if json_output:
        print_json({"federation": client.address, "places": text.splitlines()})
    else:
        click.echo(f"announced for {wallet.address}: {', '.join(text.splitlines())}")


@federation.command("close")
@federation_option
@keystore_option
@password_option
@as_json
@plain_failures
def federation_close(
    federation: Path | None, keystore: Path, password_file: Path | None, json_output: bool
) -> None:
    """Open no further rounds. The open one runs to its end; then `refund` gives back the rest.

    \b
    Example: commonweight federation close --keystore sponsor.json
    """
    wallet, client = _open(federation, keystore, password_file)
    manage.close(client, wallet)
    over = client.is_over()
    if json_output:
        print_json({"federation": client.address, "over": over})
    else:
        following = (
            "it is over, `commonweight federation refund` gives back what is left"
            if over
            else "its open round runs to its end"
        )
        click.echo(f"closed {client.address}: {following}")


@federation.command("refund")
@federation_option
@keystore_option
@password_option
@as_json
@plain_failures
def federation_refund(
    federation: Path | None, keystore: Path, password_file: Path | None, json_output: bool
) -> None:
    """Give the escrow that was never spent back to the sponsor, once the federation is over.

    \b
    Example: commonweight federation refund --keystore sponsor.json
    """
    _, client = _open(federation, keystore, password_file)
    amount = manage.refund(client)
    if json_output:
        print_json({"federation": client.address, "refunded": amount})
    else:
        click.echo(f"refunded {format_tokens(amount)} tokens to {client.sponsor()}")


def _open(
    federation: Path | None, keystore: Path, password_file: Path | None
) -> tuple[Wallet, Federation]:
    location = locate(federation)
    wallet = wallet_opener(keystore, password_file)()
    return wallet, connect_federation(location, wallet)


def _read_duration(text: str) -> int:
    """Return the seconds of a duration such as 30m, 12h or 7d."""
    found = re.fullmatch(r"([1-9][0-9]{0,4})([mhd])", text)
    if found is None:
        fail(f"--expires {text}: expected a duration such as 30m, 12h or 7d")
    return int(found[1]) * _UNITS[found[2]]
