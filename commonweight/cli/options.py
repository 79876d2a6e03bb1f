"""What several commands share: options, opening what they name, and plain failures."""

import json
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, ParamSpec

import click

from protocol.errors import CommonweightError

if TYPE_CHECKING:
    from ethereum.wallet import Wallet

P = ParamSpec("P")

DEFAULT_RPC = "http://127.0.0.1:8545"
DEFAULT_IPFS = "http://127.0.0.1:5001"

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
            fail(str(error))
        except ModuleNotFoundError as error:
            fail(f"{error.name} is not installed: {_install_hint(error.name or '')}")
        except KeyboardInterrupt:
            fail("interrupted")

    return wrapped


def new_password(file: Path | None) -> str:
    """Return the password in `file`, or one typed twice."""
    if file is None:
        typed: str = click.prompt("Password", hide_input=True, confirmation_prompt=True)
        return typed
    try:
        return file.read_text().strip()
    except OSError as error:
        fail(f"password file {file}: {error.strerror}")


def open_wallet(keystore: Path | None, password_file: Path | None) -> "Wallet":
    """Return the wallet of a keystore; its password is asked for where no file has it."""
    from ethereum.wallet import load_keystore

    if keystore is None:
        fail("a challenge is a transaction: give --keystore FILE, and --password-file FILE")
    if password_file is None:
        return load_keystore(keystore, click.prompt("Password", hide_input=True))
    return load_keystore(keystore, new_password(password_file))


def print_json(value: Any) -> None:
    """Print a result of `--json`."""
    click.echo(json.dumps(value, indent=2))


def _install_hint(module: str) -> str:
    extras = {"torch": "train", "transformers": "train", "peft": "train", "flwr": "simulation"}
    extras |= {"eth_tester": "devnet", "eth": "devnet", "solcx": "devnet"}
    extra = extras.get(module.partition(".")[0])
    return f"pip install 'commonweight[{extra}]'" if extra else "pip install commonweight"


def fail(text: str) -> NoReturn:
    """End the command with one line on stderr and exit code 1."""
    click.echo(f"error: {text}", err=True)
    sys.exit(1)
