"""`commonweight devnet`: a chain and an IPFS daemon on this machine, to try things on."""

import signal
import sys
from pathlib import Path
from typing import Any, Final

import click

from chain.location import FederationLocation
from commonweight.cli.options import (
    DEFAULT_IPFS,
    DEFAULT_RPC,
    PATH,
    as_json,
    fail,
    federation_option,
    plain_failures,
    print_json,
)
from devnet import daemons
from devnet.accounts import DEV_ACCOUNTS, dev_account
from devnet.funding import fund, read_amount
from devnet.network import prepare
from devnet.serve import serve_chain, serve_ipfs
from protocol.types import read_address
from runtime.home import home
from sponsor.config import Config

_COMPOSE_CONFIG: Final = Path(__file__).parents[2] / "configs" / "compose.toml"
_DEFAULT_PORTS: Final = {"chain": 8545, "ipfs": 5001}  # those of anvil and Kubo


@click.group()
def devnet() -> None:
    """Run a chain and an IPFS daemon on this machine, to try things on."""


@devnet.command("up")
@click.option(
    "--chain",
    default="",
    metavar="anvil|eth-tester|geth",
    help="Kind of chain. Default: the last, or anvil where it is installed.",
)
@click.option(
    "--ipfs", default="", metavar="dev|kubo", help="Kind of IPFS daemon. Default: the last, or dev."
)
@click.option(
    "--block-time",
    type=click.FloatRange(min=0),
    help="Seconds between blocks; 0 mines with each transaction. Default: the last, or 0.",
)
@click.option("--chain-port", default=0, help="Port of the chain. Default: the last, or free.")
@click.option("--ipfs-port", default=0, help="Port of the daemon. Default: the last, or free.")
@as_json
@plain_failures
def devnet_up(json_output: bool, **options: Any) -> None:
    """Start both, with the chain and blocks of the last time, and print the funded accounts.

    anvil and geth keep their chain; eth-tester's is in memory and is lost when it stops. geth and
    Kubo (`ipfs`) must be on the PATH; `make daemons` builds both.

    \b
    Example: commonweight devnet up --block-time 1
    """
    # Checked here, not by click.Choice: the kinds that exist are the devnet's to say.
    for option, known in (("chain", daemons.CHAINS), ("ipfs", daemons.IPFS)):
        if options[option] and options[option] not in known:
            fail(f"--{option} {options[option]}: expected {' or '.join(known)}")
    net = daemons.up(_devnet_folder(), daemons.Wanted(**options))
    _print_devnet(net, json_output, with_accounts=True)


@devnet.command("down")
@plain_failures
def devnet_down() -> None:
    """Stop both; their state stays on disk."""
    stopped = daemons.down(_devnet_folder())
    click.echo("stopped" if stopped else "the devnet was not running")


@devnet.command("status")
@as_json
@plain_failures
def devnet_status(json_output: bool) -> None:
    """Show whether both run, and where; exit 1 when they do not."""
    _print_devnet(_running_devnet(), json_output)


@devnet.command("fund")
@click.argument("address")
@click.option("--ether", default="1", show_default=True, help="Ether to send, from dev account 0.")
@click.option("--tokens", default="0", show_default=True, help="The federation's tokens to send.")
@federation_option
@as_json
@plain_failures
def devnet_fund(
    address: str, ether: str, tokens: str, federation: Path | None, json_output: bool
) -> None:
    """Give a wallet ether, and tokens of a federation on the devnet.

    \b
    Example: commonweight devnet fund 0x70997970C51812dc3A010C7d01b50e0d17dc79C8 --tokens 500
    """
    # All three are read first: a typing error in the tokens must not send the ether.
    to, wei, units = read_address(address), read_amount(ether), read_amount(tokens)
    held = fund(_running_devnet().rpc_url, to, wei, units, federation)
    if json_output:
        print_json({"address": to, **{name: str(amount) for name, amount in held.items()}})
        return
    click.echo(f"{to} holds {' and '.join(f'{n:,f} {name}' for name, n in held.items())}")


@devnet.command("serve")
@click.argument("daemon", type=click.Choice(list(_DEFAULT_PORTS)))
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", type=int, show_default="8545 or 5001", help="Port to listen on; 0 for a free one."
)
@click.option(
    "--folder",
    type=PATH,
    show_default="the devnet's",
    help="Where the chain's state or the blocks are kept.",
)
@click.option(
    "--block-time",
    type=click.FloatRange(min=0),
    default=0,
    show_default=True,
    help="Seconds between blocks of the chain; 0 mines with each transaction.",
)
@plain_failures
def devnet_serve(
    daemon: str, host: str, port: int | None, folder: Path | None, block_time: float
) -> None:
    """Run one of the two in the foreground until SIGTERM, as a container does.

    There is no password, and the chain's keys are public: listen on loopback or in a network of
    containers, nowhere else.

    \b
    Example: commonweight devnet serve chain --folder ./chain
    """
    # The fixed ports of the programs that these stand in for; `devnet up` takes free ones.
    folder = folder or _devnet_folder()
    port = _DEFAULT_PORTS[daemon] if port is None else port
    if daemon == "chain":
        serve_chain(folder, host, port, block_time)
    else:
        serve_ipfs(folder, host, port)


@devnet.command("prepare")
@click.option(
    "--config",
    type=PATH,
    default=_COMPOSE_CONFIG,
    show_default="configs/compose.toml",
    help="What to train and on which terms.",
)
@click.option("--folder", type=PATH, required=True, help="Holds a folder for each role.")
@click.option("--rpc", "rpc_url", default=DEFAULT_RPC, show_default=True, help="A devnet's chain.")
@click.option("--ipfs", "ipfs_url", default=DEFAULT_IPFS, show_default=True, help="IPFS RPC.")
@click.option(
    "--own-ipfs",
    default="",
    help="IPFS RPC of each role's own daemon, with {name} for the role's; else --ipfs.",
)
@as_json
@plain_failures
def devnet_prepare(
    config: Path, folder: Path, rpc_url: str, ipfs_url: str, own_ipfs: str, json_output: bool
) -> None:
    """Make the wallets and the federation of a network of containers, and join it.

    Waits until chain and IPFS answer. Running it again changes nothing.

    \b
    Example: commonweight devnet prepare --folder ./network
    """
    # The first process of a container has no default action for SIGTERM: without a handler it
    # would be killed only after the engine's time-out.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    file = prepare(
        Config.load(config),
        folder.resolve(),
        rpc_url,
        ipfs_url,
        lambda line: click.echo(line, err=True),
        own_ipfs,
    )
    location = FederationLocation.load(file)
    if json_output:
        print_json({"file": str(file), **location.model_dump(mode="json")})
    else:
        click.echo(f"{location.address}  ({file})")


def _devnet_folder() -> Path:
    return home() / "devnet"


def _running_devnet() -> daemons.Devnet:
    net = daemons.running(_devnet_folder())
    # "Running" is both: with one of them down nothing that needs the devnet would work.
    if net is None:
        fail("the devnet is not running: start it with `commonweight devnet up`")
    return net


def _print_devnet(net: daemons.Devnet, json_output: bool, *, with_accounts: bool = False) -> None:
    held = [dev_account(index) for index in range(DEV_ACCOUNTS)] if with_accounts else []
    accounts = [(account.address, "0x" + bytes(account.key).hex()) for account in held]
    if json_output:
        kinds = {"chain": net.chain.kind, "ipfs_daemon": net.ipfs.kind}
        places = {"rpc": net.rpc_url, "ipfs": net.ipfs_url, "chain_id": net.chain_id}
        keys = [{"address": address, "public_test_key": key} for address, key in accounts]
        print_json({**places, **kinds, **({"accounts": keys} if keys else {})})
        return
    click.echo(f"chain  {net.rpc_url}  ({net.chain.kind}, chain id {net.chain_id})")
    click.echo(f"ipfs   {net.ipfs_url}  ({net.ipfs.kind})")
    if accounts:
        click.echo("\nAccounts of 10,000 ether. PUBLIC TEST KEYS, known to everybody:")
    for address, key in accounts:
        click.echo(f"{address}  {key}")
