"""`commonweight keys`: make and import wallets."""

from pathlib import Path

import click

from commonweight.cli.options import new_password, plain_failures


@click.group()
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
    from ethereum.wallet import Wallet

    wallet = Wallet.create()
    wallet.save_keystore(file, new_password(password_file))
    click.echo(wallet.address)


@keys.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--password-file", type=click.Path(path_type=Path), help="Default: asked for.")
@plain_failures
def keys_import(file: Path, password_file: Path | None) -> None:
    """Encrypt a private key, asked for at the prompt, into FILE; print its address."""
    from ethereum.wallet import Wallet

    wallet = Wallet.from_key(click.prompt("Private key (hidden)", hide_input=True))
    wallet.save_keystore(file, new_password(password_file))
    click.echo(wallet.address)
