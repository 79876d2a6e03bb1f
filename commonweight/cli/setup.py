"""What `participant init` and `aggregator init` share: answers, checks, settings files."""

import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click

from chain.invitation import Invitation
from chain.location import FederationLocation
from commonweight.cli.options import PATH, default_ipfs, default_rpc, fail, new_password
from protocol.errors import Misconfigured
from protocol.text import parse_toml
from runtime.preflight import Answers, Finding
from runtime.settings import check_settings, write_location, write_toml
from runtime.stores import StoreSettings
from storage.files import write_atomically
from storage.rpc import ApiAddress


def setup_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add the options that both roles' `init` take, passed on by name."""
    options = [
        click.option("--folder", type=PATH, default=Path("."), help="Where to write. Default: ."),
        click.option("--keystore", type=PATH, help="Wallet; `commonweight keys new` makes one."),
        click.option("--password-file", type=PATH, help="Default: asked for, now and by `run`."),
        click.option("--rpc", "rpc_url", help="Ethereum JSON-RPC endpoint."),
        click.option("--ipfs", "ipfs_url", help="IPFS RPC endpoint."),
        click.option("--bucket", help="In its place: s3://…, gs://…, az://… or a folder."),
        click.option("--public", help="Where others read the store: https://HOST/PATH."),
        click.option("--address", help="The federation's contract."),
        click.option("--chain-id", type=int, help="Refuse an endpoint that serves another chain."),
        click.option("--from-block", type=int, help="The contract's block. Default: looked for."),
        click.option("--federation", type=PATH, help="A federation.json, in place of these five."),
        click.option("--yes", is_flag=True, help="Ask nothing."),
    ]
    # Decorators apply from the last to the first; the help lists them as they stand above.
    for option in reversed(options):
        function = option(function)
    return function


class Setup:
    """Collects the settings of one role: as given, else as remembered, else asked for."""

    def __init__(self, folder: Path, noun: str, given: dict[str, Any], ask: bool) -> None:
        self.folder = folder.resolve()
        self.file = self.folder / f"{noun}.toml"
        self._given = given
        # A script has no terminal: it gets the defaults, or an error that names the option.
        self._asks = ask and sys.stdin.isatty()
        try:
            self._before: dict[str, Any] = parse_toml(self.file.read_bytes())
        except FileNotFoundError:
            self._before = {}
        except (OSError, ValueError) as error:
            raise Misconfigured(f"settings {self.file}: {error}") from error

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

    def optional(self, name: str) -> Any:
        """Return an answer that nobody must give; None when it was not."""
        return self._given.get(name) or self._before.get(name)

    def remembered(self, name: str) -> str | None:
        """Return a setting as it was written before."""
        known = self._before.get(name)
        return None if known is None else str(known)

    def path(self, name: str, question: str, default: str | None = None) -> Path:
        """Return a path; one on the command line is relative to the current folder.

        One remembered in the settings is relative to the settings' folder.
        """
        if self._given.get(name) is None and self._before.get(name):
            return self.folder / str(self._before[name])
        return Path(self.text(name, question, default)).expanduser().absolute()

    def data(self, question: str, default: str) -> Path | str:
        """Return the file with the examples, or a name on the hub as it was given."""
        given = self._given.get("data") or self._before.get("data") or ""
        return str(given) if str(given).startswith("hub:") else self.path("data", question, default)

    def invitation(self) -> Path | None:
        """Return the file with the invitation; one given as a line is written beside the settings.

        None when none was given. Raises Misconfigured when it is no invitation.
        """
        given = self._given.get("invitation")
        if given is None:
            remembered = self._before.get("invitation")
            return None if remembered is None else self.folder / str(remembered)
        shown = Invitation.load(given)
        file = self.folder / "invitation.json"
        write_atomically(file, shown.to_line().encode() + b"\n")
        return file

    def answers(self) -> Answers:
        """Return what to check."""
        # 1. The federation: from the file named or found, under the options given beside it.
        known = self._given.get("federation") or self.folder / "federation.json"
        place: dict[str, Any] = {}
        # A file that was named must exist; the one in the folder is there from the second time on.
        if known.exists() or self._given.get("federation"):
            location = FederationLocation.load(known)
            place = location.model_dump(mode="json")
            place["from_block"] = place.pop("deployment_block")
            place.pop("version")
        given = {key: value for key, value in self._given.items() if value is not None}
        if "address" in given and given["address"] != place.get("address"):
            place.pop("from_block", None)  # that was another contract's
            place.pop("chain_id", None)
        self._given = {**place, **given}
        # 2. The wallet. Without a password the check reports it, and the others still run.
        keystore = self.path("keystore", "Keystore file", "wallet.json")
        password: str | None = None
        rpc_url = self.text("rpc_url", "Ethereum RPC URL", default_rpc())
        # Refused before it is written: a password in it would stand in federation.json.
        ipfs_url = ApiAddress.parse(self.text("ipfs_url", "IPFS RPC URL", default_ipfs())).url
        address = self.text("address", "Address of the federation's contract")
        if self.password_file is not None:
            password = new_password(self.password_file)
        elif self._asks:
            password = click.prompt(f"Password of {keystore.name}", hide_input=True, err=True)
        return Answers(
            rpc_url=rpc_url,
            ipfs_url=ipfs_url,
            address=address,
            keystore=keystore,
            password=password,
            chain_id=self._given.get("chain_id"),
            from_block=self._given.get("from_block"),
            store=self._store(),
        )

    def _store(self) -> StoreSettings:
        """Return the section [store]: what was given of it, the rest as written by hand."""
        section = dict(self._before.get("store", {}))
        if bucket := self._given.get("bucket"):
            section.pop("ipfs", None)
            section["bucket"] = bucket if "://" in bucket else self.relative(Path(bucket))
        if public := self._given.get("public"):
            section["public"] = public
        if section:
            self._before["store"] = section  # to be written
        return check_settings(StoreSettings, section, self.file)

    def write(self, answers: Answers, location: FederationLocation, **own: Any) -> None:
        """Write the settings and federation.json; settings made by hand are kept.

        None takes a setting away.
        """
        # The settings name federation.json, so it comes first: a crash leaves no dangling name.
        write_location(self.folder / "federation.json", location)
        settings = {
            **self._before,
            "federation": "federation.json",
            "keystore": self.relative(answers.keystore),
            **own,
        }
        # Only its name: the password itself never enters the settings.
        if self.password_file is not None:
            settings["password_file"] = self.relative(self.password_file)
        known = {name: value for name, value in settings.items() if value is not None}
        write_toml(self.file, known)

    def relative(self, path: Path | str) -> str:
        """Return a path as the settings name it: relative when it lies in their folder."""
        if isinstance(path, str):  # a name on the hub
            return path
        absolute = Path(os.path.abspath(path))
        inside = absolute.is_relative_to(self.folder)
        return str(absolute.relative_to(self.folder) if inside else absolute)

    @property
    def password_file(self) -> Path | None:
        """The file with the keystore's password; None when it is typed."""
        if self._given.get("password_file") is None and "password_file" not in self._before:
            return None
        return self.path("password_file", "Password file")


def report_findings(findings: Iterable[Finding]) -> int:
    """Print every finding as it is made; return how many are missing."""
    missing = 0
    for finding in findings:
        click.echo(finding.line())
        missing += not finding.is_ok
    return missing


def conclude(missing: int, written: Path | None, next_step: str) -> None:
    """Print where things stand; exit 1 when anything is missing."""
    if written is None:
        fail("nothing was written: put right what is missing and run this again")
    click.echo(f"written  {written} and federation.json beside it")
    if missing:
        fail(f"{missing} missing: put that right and run this again")
    click.echo(f"next     {next_step}")
