"""Preflight checks of a participant: stake, data, base model, memory."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from protocol.errors import Misconfigured
from protocol.types import format_tokens
from runtime.preflight import Answers, Finding, Preflight, check_gas, check_tokens, looking

ROUND_GAS: Final = 400_000
"""A participant's first round: approve, join, commit, reveal, withdraw, and some to spare."""


class ParticipantPreflight(Preflight):
    """What a participant needs: private `data`, the base model found at `model`, both checked."""

    def __init__(
        self,
        answers: Answers,
        data: Path | str | None,
        model: str,
        cache: Path,
        *,
        has_invitation: bool = False,
    ) -> None:
        super().__init__(answers)
        self.has_invitation = has_invitation
        self.data = data
        self.model = model
        self.cache = cache

    def findings(self) -> Iterator[Finding]:
        """Yield the checks in the order in which faults are best put right."""
        yield from self.common_findings()
        if self.federation is not None and self.wallet is not None:
            with looking("gas") as finding:
                finding.text = check_gas(self.federation, self.wallet.address, ROUND_GAS)
            yield finding
            with looking("stake") as finding:
                finding.text = self._check_stake()
            yield finding
        with looking("data") as finding:
            finding.text = self._check_data()
        yield finding
        # Both read the spec: which base model it pins, and what training it takes up.
        if self.spec is not None:
            with looking("model") as finding:
                finding.text = self._check_model()
            yield finding
            with looking("memory") as finding:
                finding.text = self._check_memory()
            yield finding

    def _check_stake(self) -> str:
        assert self.federation is not None
        assert self.wallet is not None
        federation, address = self.federation, self.wallet.address
        terms, standing = federation.terms(), federation.get_participant(address)
        if standing.active:
            return f"joined already, with {format_tokens(standing.stake)} tokens at stake"
        if standing.unlock_at:
            return "leaving: `commonweight participant run` would withdraw the stake"
        if terms.seats.by_invitation and not self.has_invitation:
            raise Misconfigured(
                "this federation admits by invitation: ask its sponsor for one, and give it as"
                " --invitation"
            )
        if federation.active_count() >= terms.seats.max_participants:
            raise Misconfigured(
                f"all {terms.seats.max_participants} seats are taken: try again later"
            )
        # What is missing: a penalty may have left part of an earlier stake.
        due = terms.money.participant_stake - standing.stake
        return check_tokens(federation, address, due, "joining stakes")

    def _check_data(self) -> str:
        data = self.data
        if data is None or (isinstance(data, Path) and not data.is_file()):
            raise Misconfigured(f"no file {data}: expected your questions and answers")
        # torch is what trains, and reading examples is beside it: an auditor's install has neither.
        if importlib.util.find_spec("torch") is None:
            raise ModuleNotFoundError(name="torch")
        from training.examples import load

        report = load(data).report
        dropped = sum(report.dropped.values())
        suffix = f", {dropped} rows without question or answer dropped" if dropped else ""
        return f"{report.examples} examples in {data}{suffix}"

    def _check_model(self) -> str:
        from training.sources import describe_source, resolve_source  # an optional extra

        assert self.spec is not None
        source = resolve_source(self.model, self.cache)
        needs_chat = self.spec.template == "chat"
        found, pinned = describe_source(source, needs_chat=needs_chat), self.spec.base_model
        # One by one, so that the message names the part that differs.
        for part in ("weights_digest", "tokenizer_digest", "chat_template_digest"):
            if getattr(found, part) != getattr(pinned, part):
                raise Misconfigured(
                    f"{self.model} is not {pinned.name}@{pinned.revision}: its {part} is"
                    f" {getattr(found, part)[:16]}…, the spec says {getattr(pinned, part)[:16]}…"
                )
        return f"{pinned.name}@{pinned.revision}, byte for byte"

    def _check_memory(self) -> str:
        # An optional extra; what it estimates from needs no weights in memory.
        from training.memory import RUNTIME_BYTES, estimate_memory, free_memory
        from training.sources import resolve_source

        assert self.spec is not None
        spec = self.spec
        source = resolve_source(self.model, self.cache)
        estimate = estimate_memory(source.folder, spec.quantization, spec.adapter, spec.training)
        needed, free = estimate.total + RUNTIME_BYTES, free_memory()
        shown = f"about {needed / 2**30:.1f} GiB to train"
        shown += f", {free / 2**30:.1f} GiB are free"
        if needed > free:
            raise Misconfigured(f"{shown}: use a larger machine or a GPU")
        return shown
