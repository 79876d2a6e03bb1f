"""Preflight checks of an aggregator: its place in the sponsor's list, gas, bond."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from aggregator.announced import require_gateway
from chain.federation import Federation
from contracts.enums import AggregatorState
from protocol.errors import Misconfigured
from protocol.spec import Spec
from protocol.types import format_tokens
from runtime.preflight import Answers, Finding, Preflight, check_gas, check_tokens, looking

PROPOSAL_GAS: Final = 1_500_000
"""An aggregator's first round: approve, bond, open, propose, finalize for some 50 updates."""


class AggregatorPreflight(Preflight):
    """What an aggregator needs: the base model found at `model` where help is measured.

    With `dev` no gateway, as on a development chain.
    """

    uploads = "model"  # four times an update: a limit of uploads may lie between

    def __init__(
        self, answers: Answers, model: str | None, cache: Path, *, dev: bool = False
    ) -> None:
        super().__init__(answers)
        self.model = model
        self.cache = cache
        self._dev = dev

    def findings(self) -> Iterator[Finding]:
        """Yield the checks in the order in which faults are best put right."""
        yield from self.common_findings()
        if self.federation is None or self.wallet is None:
            return
        federation, address = self.federation, self.wallet.address
        # First the list, which the sponsor made at the start: without a place on it neither gas nor
        # a bond is of any use.
        with looking("listed") as finding:
            state = federation.aggregator_state(address)
            everybody = list(federation.aggregators())
            if state in (AggregatorState.UNLISTED, AggregatorState.SLASHED):
                raise Misconfigured(
                    f"{address} is {state.name.lower()}: the sponsor listed {', '.join(everybody)}"
                )
            place = everybody.index(address)
            finding.text = "the active aggregator" if place == 0 else f"standby number {place}"
        yield finding
        with looking("gas") as finding:
            finding.text = check_gas(federation, address, PROPOSAL_GAS)
        yield finding
        with looking("bond") as finding:
            if federation.aggregator_state(address) is AggregatorState.BONDED:
                finding.text = "posted already"
            else:
                bond = federation.terms().money.aggregator_bond
                finding.text = check_tokens(federation, address, bond, "the bond is")
        yield finding
        if self.spec is not None and self.spec.scoring == "heldOut":
            with looking("model") as finding:
                finding.text = self._check_model(self.spec)
            yield finding
        # Both are the sponsor's and the participants' to put right, and no round opens without.
        with looking("escrow") as finding:
            finding.text = _check_escrow(federation)
        yield finding
        with looking("participants") as finding:
            active, needed = federation.active_count(), federation.terms().seats.min_participants
            finding.text = f"{active} active, a round needs {needed}"
        yield finding

    def _announces(self) -> str:
        if self.location is not None:
            require_gateway(self.answers.store, self.location.chain_id, dev=self._dev)
        return super()._announces()

    def _check_model(self, spec: Spec) -> str:
        """Return which base model help is measured with; Misconfigured when it is not the spec's.

        It is not loaded: `run` does that, and takes the time of an evaluation before it bonds.
        """
        if self.model is None:
            raise Misconfigured("updates are scored by the held-out loss: give --model")
        # Here, because torch is an optional extra.
        from training.session import find_base

        find_base(spec, self.model, self.cache)
        return f"{spec.base_model.name}, to score updates with"


def _check_escrow(federation: Federation) -> str:
    """Return how many full rounds the escrow holds; Misconfigured when it holds none."""
    escrow, cost = federation.escrow(), federation.terms().round_cost
    if escrow < cost:
        raise Misconfigured(
            f"the escrow holds {format_tokens(escrow)} tokens, a full round costs"
            f" {format_tokens(cost)}: ask the sponsor to fund it"
        )
    rounds = f"{escrow // cost} full rounds" if cost else "any number of rounds"
    return f"{format_tokens(escrow)} tokens, enough for {rounds}"
