"""The command line: `commonweight NOUN VERB`.

Results go to stdout, progress to stderr; `--json` prints one object. Exit code 0 when all is well,
1 when a check failed or something went wrong (one line on stderr says what), 2 for a command line
that cannot be understood. Imports that take long stand in the commands that need them.
"""

import json
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, ParamSpec

import click

from commonweight import __version__
from protocol.errors import CommonweightError

if TYPE_CHECKING:
    from chain.federation import Federation
    from chain.wallet import Wallet
    from storage.ipfs import ContentStore

P = ParamSpec("P")

DEFAULT_RPC = "http://127.0.0.1:8545"
DEFAULT_IPFS = "http://127.0.0.1:5001"
DEFAULT_CONFIG = Path(__file__).parent.parent / "configs" / "demo.toml"

as_json = click.option("--json", "json_output", is_flag=True, help="Print one JSON object.")
federation_option = click.option(
    "--federation",
    type=click.Path(path_type=Path),
    help="Federation file, or a run's folder. Default: the newest run.",
)


def wallet_options(function: Callable[P, None]) -> Callable[P, None]:
    """Add the options that name a wallet."""
    path = click.Path(path_type=Path)
    keystore = click.option("--keystore", type=path, help="Wallet that sends the challenge.")
    password = click.option("--password-file", type=path, help="Default: asked for.")
    return keystore(password(function))


def plain_failures(function: Callable[P, None]) -> Callable[P, None]:
    """Turn an expected failure into one line on stderr and exit code 1."""

    @wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            function(*args, **kwargs)
        except CommonweightError as error:
            _fail(str(error))
        except ModuleNotFoundError as error:
            _fail(f"{error.name} is not installed: {_install_hint(error.name or '')}")
        except KeyboardInterrupt:
            _fail("interrupted")

    return wrapped


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="commonweight")
def main() -> None:
    """Fine-tune one language model together, on data that never leaves its owners."""


# ------------------------------------------------------------------------------------------- demo


@main.command()
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    default=DEFAULT_CONFIG,
    show_default="configs/demo.toml",
    help="What to train and on which terms.",
)
@click.option("--seed", default=0, show_default=True, help="Same seed, same models.")
@click.option("--keep", is_flag=True, help="Leave the devnet running afterwards.")
@click.option("--chain-port", default=0, help="Port of the dev chain. Default: a free one.")
@click.option("--ipfs-port", default=0, help="Port of the dev IPFS daemon. Default: a free one.")
@click.option("--rpc", "rpc_url", help="Use this dev chain (chain id 31337) instead.")
@click.option("--ipfs", "ipfs_url", help="Use this IPFS daemon's RPC instead, e.g. Kubo's.")
@as_json
@plain_failures
def demo(config: Path, json_output: bool, **options: Any) -> None:
    """Play a whole federation on this machine: train, average, pay and audit.

    Killed half-way, the same command goes on where the chain stands.

    \b
    Example: commonweight demo --config configs/tiny.toml --keep
    """
    from commonweight.config import Config
    from commonweight.demo import Options, run_demo
    from commonweight.view import DemoView, print_result

    loaded = Config.load(config)
    with DemoView(loaded, sys.stderr) as view:
        result = run_demo(loaded, Options(**options), view.show)
    if json_output:
        _print_json(result)
    else:
        print_result(result)
    if result["audit"]["failed"]:
        sys.exit(1)


# ----------------------------------------------------------------------------------------- devnet


@main.group()
def devnet() -> None:
    """Run a dev chain and a dev IPFS daemon on this machine."""


@devnet.command("up")
@click.option("--chain-port", default=0, help="Port of the dev chain. Default: the last, or free.")
@click.option("--ipfs-port", default=0, help="Port of the daemon. Default: the last, or free.")
@as_json
@plain_failures
def devnet_up(chain_port: int, ipfs_port: int, json_output: bool) -> None:
    """Start both, with the chain and blocks of the last time."""
    from commonweight import devnet as daemons

    net = daemons.up(_devnet_folder(), chain_port=chain_port, ipfs_port=ipfs_port)
    _print_devnet(net, json_output)


@devnet.command("down")
@plain_failures
def devnet_down() -> None:
    """Stop both; their state stays on disk."""
    from commonweight import devnet as daemons

    stopped = daemons.down(_devnet_folder())
    click.echo("stopped" if stopped else "the devnet was not running")


@devnet.command("status")
@as_json
@plain_failures
def devnet_status(json_output: bool) -> None:
    """Say whether both run, and where; exit 1 when they do not."""
    from commonweight import devnet as daemons

    net = daemons.running(_devnet_folder())
    if net is None:
        _fail("the devnet is not running: start it with `commonweight devnet up`")
    _print_devnet(net, json_output)


# ------------------------------------------------------------------------------------- federation


@main.group()
def federation() -> None:
    """Look at a federation."""


@federation.command("show")
@federation_option
@as_json
@plain_failures
def federation_show(federation: Path | None, json_output: bool) -> None:
    """Show the terms, the participants and every round.

    \b
    Example: commonweight federation show
    """
    from chain.location import FederationLocation
    from commonweight.home import federation_file
    from commonweight.show import describe_federation, print_federation

    location = FederationLocation.load(federation_file(federation))
    described = describe_federation(location)
    if json_output:
        _print_json(described)
    else:
        print_federation(described)


# ------------------------------------------------------------------------------------------ audit


@main.group()
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
    challenge and provably wrong costs its aggregator the bond; the wallet pays the gas and is
    credited half of the bond.

    \b
    Example: commonweight audit run 0x5FbDB2315678afecb367f032d93F642f64180aa3 \\
               --rpc http://127.0.0.1:8545 --ipfs http://127.0.0.1:5001
    """
    import tempfile

    from auditor.disputes import challenge_open
    from auditor.replay import Audit

    wallet = _open_wallet(keystore, password_file) if challenge else None
    client, store = _audited(address, federation, rpc_url, ipfs_url, from_block, wallet)
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
        _print_json({**record, "checks": [check.as_json() for check in checks], **told})
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

    Prints a line a finding and goes on until it is stopped (SIGTERM). The wallet pays the gas and
    is credited half of the bond of an aggregator it refutes.

    \b
    Example: commonweight audit watch 0x5FbDB2315678afecb367f032d93F642f64180aa3 \\
               --keystore wallet.json --password-file password
    """
    import signal
    import tempfile
    from threading import Event

    from auditor.disputes import watch

    wallet = _open_wallet(keystore, password_file)
    client, store = _audited(address, federation, rpc_url, ipfs_url, from_block, wallet)
    stopped = Event()
    signal.signal(signal.SIGTERM, lambda number, frame: stopped.set())
    click.echo(f"watching {client.address} as {wallet.address}", err=True)
    with tempfile.TemporaryDirectory(prefix="commonweight-watch-") as folder:
        watch(client, store, Path(folder), click.echo, stopped.is_set, once=once)


# ------------------------------------------------------------------------------------------ model


@main.group()
def model() -> None:
    """Use a federation's model."""


@model.command("chat")
@click.argument("question")
@federation_option
@click.option("--source", help="Where this machine finds the base model. Default: the run's.")
@click.option("--tokens", default=64, show_default=True, help="Longest answer.")
@as_json
@plain_failures
def model_chat(
    question: str, federation: Path | None, source: str | None, tokens: int, json_output: bool
) -> None:
    """Ask the fine-tuned and the base model the same QUESTION.

    \b
    Example: commonweight model chat "What does the sinoatrial node do?"
    """
    from commonweight.chat import ask
    from commonweight.home import federation_file

    answers = ask(federation_file(federation), question, source, tokens)
    if json_output:
        _print_json(answers)
        return
    click.secho(f"fine-tuned (round {answers['round']})", bold=True)
    click.echo(f"  {answers['fine_tuned']}\n")
    click.secho("base model", bold=True)
    click.echo(f"  {answers['base']}")


# ------------------------------------------------------------------------------------------- keys


@main.group()
def keys() -> None:
    """Make and import wallets (Ethereum keystore files)."""


@keys.command("new")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--password-file", type=click.Path(path_type=Path), help="Default: asked for.")
@plain_failures
def keys_new(file: Path, password_file: Path | None) -> None:
    """Make a new key, encrypted into FILE (mode 0600), and print its address.

    \b
    Example: commonweight keys new wallet.json
    """
    from chain.wallet import Wallet

    wallet = Wallet.create()
    wallet.save_keystore(file, _new_password(password_file))
    click.echo(wallet.address)


@keys.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--password-file", type=click.Path(path_type=Path), help="Default: asked for.")
@plain_failures
def keys_import(file: Path, password_file: Path | None) -> None:
    """Encrypt a private key, asked for at the prompt, into FILE; print its address."""
    from chain.wallet import Wallet

    wallet = Wallet.from_key(click.prompt("Private key (hidden)", hide_input=True))
    wallet.save_keystore(file, _new_password(password_file))
    click.echo(wallet.address)


# --------------------------------------------------------------------------------------- internal


def _new_password(file: Path | None) -> str:
    if file is None:
        typed: str = click.prompt("Password", hide_input=True, confirmation_prompt=True)
        return typed
    try:
        return file.read_text().strip()
    except OSError as error:
        _fail(f"password file {file}: {error.strerror}")


def _open_wallet(keystore: Path | None, password_file: Path | None) -> "Wallet":
    from chain.wallet import load_keystore

    if keystore is None:
        _fail("a challenge is a transaction: give --keystore FILE, and --password-file FILE")
    if password_file is None:
        return load_keystore(keystore, click.prompt("Password", hide_input=True))
    return load_keystore(keystore, _new_password(password_file))


def _audited(
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


def _devnet_folder() -> Path:
    from commonweight.home import home

    return home() / "devnet"


def _print_devnet(net: Any, json_output: bool) -> None:
    if json_output:
        _print_json({"rpc": net.rpc_url, "ipfs": net.ipfs_url, "chain_id": net.chain_id})
        return
    click.echo(f"chain  {net.rpc_url}  (chain id {net.chain_id})")
    click.echo(f"ipfs   {net.ipfs_url}")


def _print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2))


def _install_hint(module: str) -> str:
    extras = {"torch": "train", "transformers": "train", "peft": "train", "flwr": "simulation"}
    extras |= {"eth_tester": "devnet", "eth": "devnet", "solcx": "devnet"}
    extra = extras.get(module.partition(".")[0])
    return f"pip install 'commonweight[{extra}]'" if extra else "pip install commonweight"


def _fail(text: str) -> NoReturn:
    click.echo(f"error: {text}", err=True)
    sys.exit(1)
