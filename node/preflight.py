"""Preflight checks of a participant: stake, data, base model, memory."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from node.canaries import planted_rows
from node.participant import training_failures
from node.privacy import describe_noise
from node.settings import Choices, Privacy
from node.trainer import MANY_CUT
from protocol.errors import Misconfigured
from protocol.types import format_tokens
from runtime.preflight import Answers, Finding, Preflight, check_gas, check_tokens, looking
from training.examples import Example, Fields, in_validation, load, split_validation

ROUND_GAS: Final = 400_000
"""A participant's first round: approve, join, commit, reveal, withdraw, and some to spare."""


class ParticipantPreflight(Preflight):
    """What a participant needs: private `data`, the base model found at `model`, both checked.

    `choices` say how the data are read and trained on.
    """

    def __init__(
        self,
        answers: Answers,
        data: Path | str | None,
        model: str,
        cache: Path,
        choices: Choices | None = None,
        *,
        has_invitation: bool = False,
        privacy: Privacy | None = None,
    ) -> None:
        super().__init__(answers)
        self.privacy = privacy or Privacy()
        self._records = 0
        self.choices = choices or Choices()
        self._examples: list[Example] = []
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
        # These read the spec: which base model it pins, and what its training takes.
        if self.spec is None:
            return
        with looking("model") as model:
            model.text = self._check_model()
        yield model
        with looking("memory") as memory:
            memory.text = self._check_memory()
        yield memory
        if self.privacy.epsilon is not None and finding.is_ok and self.federation is not None:
            with looking("privacy") as privacy:
                privacy.text, privacy.is_warning = self._check_privacy()
            yield privacy
        # What a round does, on the data themselves: so that no round is the first to try it.
        if not (finding.is_ok and model.is_ok and memory.is_ok):
            return
        with looking("tokens") as finding:
            finding.text, finding.is_warning = self._check_tokens()
        yield finding
        with looking("training") as finding:
            finding.text = self._check_training()
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
        fields = Fields(**self.choices.fields.model_dump())
        loaded = load(data, fields, encoding=self.choices.encoding)
        seed = 0 if self.spec is None else self.spec.training.seed
        self._examples, kept = split_validation(loaded.examples, self.choices.validation, seed)
        share, planted = self.choices.validation, planted_rows(self.privacy.canaries)
        pairs = zip(loaded.examples, loaded.records, strict=True)
        records = {number for each, number in pairs if not in_validation(each, share, seed)}
        self._records = len(records) + len(planted)
        report, told = loaded.report, [f"{len(loaded.examples)} examples in {data}"]
        told += [f"{count} rows dropped: {why}" for why, count in report.dropped.items()]
        told += [f"{report.repaired} repaired: they have lone surrogates"] * bool(report.repaired)
        told += [f"{len(kept)} kept back to measure on"] * bool(kept)
        return ", ".join(told)

    def _check_privacy(self) -> tuple[str, bool]:
        """Return what the budget means for the noise, and whether that is a warning."""
        assert self.spec is not None
        assert self.federation is not None
        target = self.privacy.target(self.federation.terms().seats.rounds)
        assert target is not None
        return describe_noise(self.spec, target, self._records)

    def _check_tokens(self) -> tuple[str, bool]:
        """Return what the sequence length cuts, and whether that is much."""
        from training.data import tokenize
        from training.model import load_tokenizer
        from training.sources import resolve_source

        assert self.spec is not None
        tokenizer = load_tokenizer(
            resolve_source(self.model, self.cache).folder, self.spec.template
        )
        length, examples = self.spec.training.sequence_length, self._examples
        tokenized = tokenize(tokenizer, examples, length, self.spec.template)
        told = f"{tokenized.truncated} of {len(examples)} examples have more than {length} tokens"
        if tokenized.truncated:
            told += " and are cut there"
        if tokenized.left_out:
            told += f", {tokenized.left_out} left out: their questions alone are so long"
        return told, tokenized.truncated * MANY_CUT > len(examples)

    def _check_training(self) -> str:
        from training.session import close_session, try_step

        assert self.spec is not None
        try:
            with training_failures():
                report = try_step(
                    self.spec, self.model, self.cache, self._examples, self.choices.rank
                )
        finally:
            close_session()  # whoever runs the role loads its own
        return f"one step on your data: loss {report.mean_loss:.3f}, {report.seconds:.1f} s"

    def _check_model(self) -> str:
        # An optional extra.
        from training.sources import check_identity, describe_source, resolve_source

        assert self.spec is not None
        source, pinned = resolve_source(self.model, self.cache), self.spec.base_model
        found = describe_source(source, needs_chat=self.spec.template == "chat")
        check_identity(found, pinned, self.model)
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
