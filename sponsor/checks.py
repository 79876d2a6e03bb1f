"""What a sponsor should know before money goes into a federation.

Terms that make no sense among strangers are refused unless they are for development, and on a chain
where tokens are worth something the sponsor must say that it knows what it does.
"""

from typing import Final

from chain.development import is_development_chain
from protocol.errors import Misconfigured
from protocol.spec import Spec
from sponsor.chains import describe_misfits
from sponsor.config import Config, WindowsSection

SHORTEST_CHALLENGE_SECONDS: Final = 3_600
"""An auditor needs the time to fetch every update and recompute the model."""

SHORTEST_RESPONSE_SECONDS: Final = 600
"""An aggregator that is restarted must still be able to post a leaf."""


SHORTEST_FINAL_SECONDS: Final = 1_800
"""Blocks are final after about 15 minutes; nothing is masked or unmasked on others."""

LEAST_MASKED_VALUES: Final = 1 << 16
"""Sketches publish 128 exact linear equations of an update, which a short one gives away."""


def check_masked_size(spec: Spec) -> None:
    """Raise Misconfigured for masked updates of so few values that sketches would tell them."""
    values = sum(spec.layer_values(index) for index in range(len(spec.layers)))
    if spec.privacy == "masked" and values < LEAST_MASKED_VALUES:
        raise Misconfigured(
            f"an update has {values:,} values, masked ones at least {LEAST_MASKED_VALUES:,}: the"
            " sketches of a shorter one say too much of it"
        )


def check_windows(windows: WindowsSection, *, is_masked: bool = False) -> None:
    """Raise Misconfigured, with every reason, for windows that only suit development."""
    faults = []
    if windows.challenge_seconds < SHORTEST_CHALLENGE_SECONDS:
        faults.append(
            f"challenge_seconds is {windows.challenge_seconds}, auditors need"
            f" {SHORTEST_CHALLENGE_SECONDS} at least"
        )
    if windows.response_seconds == 0:
        faults.append("response_seconds is 0, so that nobody can request a leaf that is withheld")
    elif windows.response_seconds < SHORTEST_RESPONSE_SECONDS:
        faults.append(
            f"response_seconds is {windows.response_seconds}, to post a leaf takes"
            f" {SHORTEST_RESPONSE_SECONDS} at least"
        )
    waiting = {"reveal": windows.reveal_seconds, "unmask": windows.unmask_seconds}
    faults += [
        f"{name}_seconds is {seconds}, members wait for the chain's finality and need"
        f" {SHORTEST_FINAL_SECONDS} at least"
        for name, seconds in waiting.items()
        if is_masked and seconds < SHORTEST_FINAL_SECONDS
    ]
    if faults:
        raise Misconfigured(f"{'; '.join(faults)}: give --dev for a federation to try things on")


def check_evaluations(config: Config, seconds: float) -> None:
    """Raise Misconfigured when scoring a full round takes more than half of its propose phase.

    `seconds` is what the loss of one model on the whole held-out set takes.
    """
    if config.rules.scoring == "equal":
        return
    seats, phase = config.seats.round_seats, config.windows.propose_seconds
    needed = (seats + 1) * seconds
    if needed > phase / 2:
        raise Misconfigured(
            f"scoring heldOut takes {seats + 1} evaluations of the held-out set of {seconds:.1f} s"
            f" each, {needed:,.0f} s, and half of propose_seconds is {phase / 2:,.0f} s: a smaller"
            " held-out set, fewer round_seats or a longer phase"
        )


def check_chain(chain_id: int, *, understood: bool) -> list[str]:
    """Return what the sponsor should know of a chain; Misconfigured unless it has `understood`.

    Nothing is asked of who uses a development chain.
    """
    if is_development_chain(chain_id):
        return []
    lines = [
        f"chain {chain_id} is public, and nobody has audited this contract: what is paid into it"
        " may be lost",
        *describe_misfits(chain_id),
    ]
    if not understood:
        raise Misconfigured(f"{'; '.join(lines)}. Give --i-understand to go on")
    return lines
