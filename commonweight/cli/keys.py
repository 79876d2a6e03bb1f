"""`commonweight keys`: make and import wallets."""

from pathlib import Path

import click

from commonweight.cli.options import PATH, new_password, plain_failures
from ethereum.wallet import Wallet, check_new


@click.group()
def keys() -> None:
    """Make and import wallets (Ethereum keystore files)."""


@keys.command("new")
@click.argument("file", type=PATH)
@click.option("--password-file", type=PATH, help="Default: asked for.")
@plain_failures
def keys_new(file: Path, password_file: Path | None) -> None:
    """Make a new key, encrypted into FILE (mode 0600), and print its address.

    \b
    Example: commonweight keys new wallet.json
    """
    check_new(file)  # before a password is asked for
    wallet = Wallet.create()
    wallet.save_keystore(file, new_password(password_file))
    click.echo(wallet.address)


@keys.command("import")
@click.argument("file", type=PATH)
@click.option("--password-file", type=PATH, help="Default: asked for.")
@plain_failures
def keys_import(file: Path, password_file: Path | None) -> None:
    """Encrypt a private key, asked for at the prompt, into FILE; print its address."""
    check_new(file)
    # Only by a prompt: an argument would stay in the shell's history and show in `ps`.
    wallet = Wallet.from_key(click.prompt("Private key (hidden)", hide_input=True))
    wallet.save_keystore(file, new_password(password_file))
    click.echo(wallet.address)
