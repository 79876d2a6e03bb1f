"""What several commands share: options, opening what they name, and plain failures."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any, Final, NoReturn, ParamSpec

import click
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from devnet import daemons
from ethereum.wallet import Wallet, load_keystore, read_password
from protocol.errors import CommonweightError
from runtime.home import home

P = ParamSpec("P")

DEFAULT_RPC: Final = "http://127.0.0.1:8545"  # where anvil, geth and most nodes listen
DEFAULT_IPFS: Final = "http://127.0.0.1:5001"  # Kubo's RPC
SHOWN_RPC: Final = f"the devnet's, else {DEFAULT_RPC}"
SHOWN_IPFS: Final = f"the devnet's, else {DEFAULT_IPFS}"
PATH: Final = click.Path(path_type=Path)

# Which extra of pyproject.toml installs an optional module.
_EXTRAS: Final = {
    **dict.fromkeys(("torch", "transformers", "peft", "safetensors"), "train"),
    **dict.fromkeys(("eth_tester", "eth", "solcx"), "devnet"),
    "flwr": "simulation",
}

as_json = click.option("--json", "json_output", is_flag=True, help="Print one JSON object.")
federation_option = click.option(
    "--federation",
    type=PATH,
    help="Federation file, or its folder. Default: federation.json here, else the newest run's.",
)


def default_rpc() -> str:
    """Return the devnet's chain where it runs, else where most nodes listen."""
    net = daemons.running(home() / "devnet")
    return DEFAULT_RPC if net is None else net.rpc_url


def default_ipfs() -> str:
    """Return the devnet's IPFS daemon where it runs, else where Kubo listens."""
    net = daemons.running(home() / "devnet")
    return DEFAULT_IPFS if net is None else net.ipfs_url


def wallet_options(function: Callable[P, None]) -> Callable[P, None]:
    """Add the options that name a wallet."""
    keystore = click.option("--keystore", type=PATH, help="Wallet that sends the challenge.")
    password = click.option("--password-file", type=PATH, help="Default: asked for.")
    return keystore(password(function))


def plain_failures(function: Callable[P, None]) -> Callable[P, None]:
    """Turn an expected failure into one line on stderr and exit code 1.

    Any other exception is a fault of this program, and keeps its traceback.
    """

    @wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            function(*args, **kwargs)
        except CommonweightError as error:
            fail(str(error))
        except ModuleNotFoundError as error:
            # An auditor installs neither torch nor Flower, so their absence is no fault of ours.
            extra = _EXTRAS.get((error.name or "").partition(".")[0])
            package = f"'commonweight[{extra}]'" if extra else "commonweight"
            fail(f"{error.name} is not installed: pip install {package}")
        except KeyboardInterrupt:
            fail("interrupted")

    return wrapped


def new_password(file: Path | None) -> str:
    """Return the password in `file`, or one typed twice."""
    if file is None:
        # Twice, because a typing error would lock the new wallet for ever.
        typed: str = click.prompt("Password", hide_input=True, confirmation_prompt=True)
        return typed
    return read_password(file)


def open_wallet(keystore: Path | None, password_file: Path | None) -> Wallet:
    """Return the wallet of a keystore, asking for its password when no file holds it."""
    if keystore is None:
        fail("a challenge is a transaction: give --keystore FILE, and --password-file FILE")
    if password_file is None:
        return load_keystore(keystore, click.prompt("Password", hide_input=True))
    return load_keystore(keystore, new_password(password_file))


fields_option = click.option(
    "--fields",
    metavar="PART=FIELD,…",
    help="Your names of question, context, answer, or messages, as question=Frage,answer=Antwort.",
)


def read_fields(text: str) -> dict[str, str]:
    """Return what `--fields` says, by part."""
    pairs = [pair.partition("=") for pair in text.split(",")]
    if any(not equals for _, equals, _ in pairs):
        fail(f"--fields was expected as PART=FIELD,…, not {text}")
    return {part.strip(): field.strip() for part, _, field in pairs}


@contextmanager
def working(what: str) -> Iterator[None]:
    """Show `what` and the time it takes while the block runs, on a terminal; elsewhere nothing."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield
        return
    columns = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
    with Progress(*columns, console=console, transient=True) as progress:
        progress.add_task(what, total=None)
        yield


def print_json(value: Any) -> None:
    """Print a result of `--json`."""
    click.echo(json.dumps(value, indent=2))


def fail(text: str) -> NoReturn:
    """End the command with one line on stderr and exit code 1."""
    click.echo(f"error: {text}", err=True)
    sys.exit(1)
