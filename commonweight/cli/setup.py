"""What `participant init` and `aggregator init` share: answers, checks, settings files."""

import os
import sys
import tomllib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from commonweight.cli.options import DEFAULT_IPFS, DEFAULT_RPC, fail, new_password
from protocol.errors import Misconfigured

if TYPE_CHECKING:
    from runtime.preflight import Answers, Finding

_PATH = click.Path(path_type=Path)


def setup_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add the options that both roles' `init` take, handed on by name."""
    options = [
        click.option("--folder", type=_PATH, default=Path("."), help="Where to write. Default: ."),
        click.option("--keystore", type=_PATH, help="Wallet; `commonweight keys new` makes one."),
        click.option("--password-file", type=_PATH, help="Default: asked for, now and by `run`."),
        click.option("--rpc", "rpc_url", help="Ethereum JSON-RPC endpoint."),
        click.option("--ipfs", "ipfs_url", help="IPFS RPC endpoint."),
        click.option("--address", help="The federation's contract."),
        click.option("--chain-id", type=int, help="Refuse an endpoint that serves another chain."),
        click.option("--from-block", type=int, help="The contract's block. Default: looked for."),
        click.option("--federation", type=_PATH, help="A federation.json, in place of these five."),
        click.option("--yes", is_flag=True, help="Ask nothing."),
    ]
    for option in reversed(options):
        function = option(function)
    return function


class Setup:
    """The settings of one role in the making: given, else of the last time, else asked for."""

    def __init__(self, folder: Path, noun: str, given: dict[str, Any], ask: bool) -> None:
        self.folder = folder.resolve()
        self.file = self.folder / f"{noun}.toml"
        self._given = given
        self._asks = ask and sys.stdin.isatty()
        self._before = self._read_before()

    def text(self, name: str, question: str, default: str | None = None) -> str:
        """Return an answer in words."""
        known = self._given.get(name) or self._before.get(name)
        if known:
            return str(known)
        if self._asks:
            answer: str = click.prompt(question, default=default, err=True)
            return answer
        if default is None:
            fail(f"{question}: give --{name.replace('_', '-')}")
        return default

    def path(self, name: str, question: str, default: str | None = None) -> Path:
        """Return a file that was given from where the user stands, or before from the folder."""
        if self._given.get(name) is None and self._before.get(name):
            return self.folder / str(self._before[name])
        return Path(self.text(name, question, default)).expanduser().absolute()

    def data(self, question: str, default: str) -> Path | str:
        """Return the file with the examples, or a name on the hub as it was given."""
        given = self._given.get("data") or self._before.get("data") or ""
        return str(given) if str(given).startswith("hub:") else self.path("data", question, default)

    def answers(self) -> "Answers":
        """Return what to check."""
        from chain.location import FederationLocation
        from runtime.preflight import Answers

        known = self._given.get("federation") or self.folder / "federation.json"
        place: dict[str, Any] = {}
        if known.exists() or self._given.get("federation"):
            location = FederationLocation.load(known)
            place = location.model_dump(mode="json")
            place["from_block"] = place.pop("deployment_block")
        given = {key: value for key, value in self._given.items() if value is not None}
        if "address" in given and given["address"] != place.get("address"):
            place.pop("from_block", None)  # that was another contract's
            place.pop("chain_id", None)
        self._given = {**place, **given}
        keystore = self.path("keystore", "Keystore file", "wallet.json")
        return Answers(
            rpc_url=self.text("rpc_url", "Ethereum RPC URL", DEFAULT_RPC),
            ipfs_url=self.text("ipfs_url", "IPFS RPC URL", DEFAULT_IPFS),
            address=self.text("address", "Address of the federation's contract"),
            keystore=keystore,
            password=self._password(keystore),
            chain_id=self._given.get("chain_id"),
            from_block=self._given.get("from_block"),
        )

    def write(self, answers: "Answers", location: Any, **own: str) -> None:
        """Write the settings and federation.json; what was set by hand before stays."""
        from runtime.settings import write_location, write_toml

        write_location(self.folder / "federation.json", location)
        settings = {
            **self._before,
            "federation": "federation.json",
            "keystore": self.relative(answers.keystore),
            **own,
        }
        if self.password_file is not None:
            settings["password_file"] = self.relative(self.password_file)
        write_toml(self.file, settings)

    def relative(self, path: Path | str) -> str:
        """Return a path as the settings name it: relative where it lies in the folder."""
        if isinstance(path, str):  # a name on the hub
            return path
        absolute = Path(os.path.abspath(path))
        inside = absolute.is_relative_to(self.folder)
        return str(absolute.relative_to(self.folder) if inside else absolute)

    @property
    def password_file(self) -> Path | None:
        """The file with the keystore's password, None where it is typed."""
        if self._given.get("password_file") is None and "password_file" not in self._before:
            return None
        return self.path("password_file", "Password file")

    def _password(self, keystore: Path) -> str | None:
        if self.password_file is not None:
            return new_password(self.password_file)
        if not self._asks:
            return None
        typed: str = click.prompt(f"Password of {keystore.name}", hide_input=True, err=True)
        return typed

    def _read_before(self) -> dict[str, Any]:
        try:
            return tomllib.loads(self.file.read_text())
        except FileNotFoundError:
            return {}
        except (OSError, tomllib.TOMLDecodeError) as error:
            raise Misconfigured(f"settings {self.file}: {error}") from error


def report_findings(findings: Iterable["Finding"]) -> int:
    """Print every finding as it is made; return how many are missing."""
    missing = 0
    for finding in findings:
        click.echo(finding.line())
        missing += not finding.is_ok
    return missing


def conclude(missing: int, written: Path | None, next_step: str) -> None:
    """Say where things stand; exit 1 when anything is missing."""
    if written is None:
        fail("nothing was written: put right what is missing and run this again")
    click.echo(f"written  {written} and federation.json beside it")
    if missing:
        fail(f"{missing} missing: put that right and run this again")
    click.echo(f"next     {next_step}")
