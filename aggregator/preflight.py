"""Preflight checks of an aggregator: its place in the sponsor's list, gas, bond."""

from collections.abc import Iterator
from typing import Final

from contracts.enums import AggregatorState
from protocol.errors import Misconfigured
from runtime.preflight import Finding, Preflight

PROPOSAL_GAS: Final = 1_500_000
"""A first round of an aggregator: approve, bond, open, propose, finalize for some 50 updates."""


class AggregatorPreflight(Preflight):
    """What an aggregator needs."""

    def findings(self) -> Iterator[Finding]:
        """Yield the checks in the order in which faults are best put right."""
        yield from self._common()
        if self._federation is not None and self.wallet is not None:
            yield self._look("listed", self._listed)
            yield self._look("gas", lambda: self._gas(PROPOSAL_GAS))
            yield self._look("bond", self._bond)

    def _bond(self) -> str:
        federation = self._open_federation()
        if federation.aggregator_state(self._address()) is AggregatorState.BONDED:
            return "posted already"
        return self._pays(federation.terms().aggregator_bond, "the bond is")

    def _listed(self) -> str:
        federation = self._open_federation()
        state = federation.aggregator_state(self._address())
        if state in (AggregatorState.UNLISTED, AggregatorState.SLASHED):
            listed = ", ".join(federation.aggregators())
            raise Misconfigured(
                f"{self._address()} is {state.name.lower()}: the sponsor listed {listed}"
            )
        place = list(federation.aggregators()).index(self._address())
        return "the lead" if place == 0 else f"standby number {place}"
