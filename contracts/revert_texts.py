"""Each error of a contract, in words that name the clashing values.

`{deadline:time}` shows a Unix time, `{escrow:amount}` an amount in token units.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from enum import IntEnum
from typing import Any

TEXTS: dict[str, str] = {
    "AggregatorNotLate": (
        "the aggregator is not late: it is {timestamp:time}, its deadline is {deadline:time}"
    ),
    "AlreadyClosed": "the sponsor has closed the federation already",
    "AlreadyJoined": "{participant} takes part already",
    "AlreadyLeaving": "{participant} is leaving already, its stake is free at {unlock_at:time}",
    "AlreadyRequested": "leaf {leaf} under {root} was requested already",
    "AvailabilityOff": "this federation's terms do not allow leaf requests: response_seconds is 0",
    "CloneArgumentsTooLong": "the terms do not fit behind the code of a contract",
    "CommitmentMismatch": "the revealed values hash to {revealed}, {committed} was committed to",
    "ERC5267ExtensionsNotSupported": "this version knows no extensions of EIP-712 domains",
    "EscrowTooLow": (
        "the escrow holds {escrow:amount} token units, a full round costs {required:amount}"
    ),
    "FailedDeployment": "the chain did not deploy the contract",
    "FederationFull": "all {max_participants} seats are taken",
    "FederationNotOver": (
        "the federation is not over: {round_count} rounds were opened, more may be until"
        " {closes_at:time}"
    ),
    "FederationOver": (
        "no further round may be opened: {round_count} were, the end is {closes_at:time}, closed by"
        " the sponsor: {is_closed}"
    ),
    "InsufficientBalance": "the contract holds {balance}, {needed} are needed",
    "InvalidAggregator": "{aggregator} cannot be an aggregator: it is zero or listed twice",
    "InvalidInvitation": (
        "the sponsor signed no invitation of {participant} until {expiry:time} to this federation"
    ),
    "InvalidRecipient": "tokens sent to {to} would be lost",
    "InvalidTerm": "the term {term} may not be {value}",
    "InvalidVerdict": (
        "the verdict on {participant} has weight {weight}, score {score} and reason {reason}:"
        " accepted needs reason 0, a weight from 1 to the cap and the score that the terms ask for,"
        " rejected needs a reason and neither"
    ),
    "InvitationExpired": "the invitation ended at {expiry:time}, now it is {timestamp:time}",
    "LeadMustStay": (
        "{aggregator} leads: its bond stays until the federation is over or another one leads"
    ),
    "LeafIsRight": (
        "leaf {leaf} of the model proposed for round {round} is what the accepted updates make of"
        " the model before"
    ),
    "LeafIsPublic": "leaf {leaf} under {root} was posted before: it is in the events",
    "LeafLength": "the leaf has {given} bytes, {required} were expected",
    "LeafNotLate": (
        "the leaf can still be posted: it is {timestamp:time}, its deadline is {deadline:time}"
    ),
    "LeafOutOfRange": "leaf {leaf} does not exist: there are {leaf_count}",
    "MembersMismatch": (
        "the addresses hash to {given}, those that committed to {required}: all of them, ascending"
    ),
    "MissedCount": "{given} missed rounds were named, {required} were expected",
    "MissedOrder": (
        "missed rounds go up, each after the seat's last commitment: {round} stands after"
        " {previous}"
    ),
    "ModelMustStay": (
        "no update is accepted, so the model stays {current_root}: {root} was proposed"
    ),
    "MoveIsBounded": (
        "no value of leaf {leaf} of the model proposed for round {round} moved further than an"
        " average can move it"
    ),
    "NoExamples": "an update counts at least one example, 0 was given",
    "NoStandby": "no bonded standby is left to take over",
    "NotActive": "{participant} may not commit to round {round}: it is not active, or joined later",
    "NotAggregator": "{caller} is not the aggregator, {aggregator} is",
    "NotAsSealed": (
        "the verdict on {participant} in round {round} does not fit what was sealed: a weight in"
        " the set and none outside, and reason 15 exactly when others posted its secrets"
    ),
    "NotEligible": "the seed of round {round} did not draw {participant}",
    "NotInSet": "{account} is not in the set that was sealed in round {round}",
    "NotJoined": "{participant} has no seat",
    "NotMissed": (
        "{participant} did not miss round {round}: it was not asked, has committed or still can, or"
        " the round was full"
    ),
    "NotRequested": "no open request is for leaf {leaf} under {root}",
    "NotSponsor": "{caller} is not the sponsor, {sponsor} is",
    "NothingAveraged": "round {round} accepted no update, so there is no average to challenge",
    "NothingRevealed": "nobody revealed in round {round}, so nobody is penalized",
    "NothingToWithdraw": "nothing is credited to {account}",
    "OpenedCount": "{given} updates were opened, {required} were expected",
    "ProofLength": "the proof has {given} siblings, {required} were expected",
    "ReentrancyGuardReentrantCall": "the token called back into the federation",
    "RevealMismatch": (
        "what was given of {participant} hashes to {given}, {revealed} was revealed"
    ),
    "RootMismatch": "leaf and proof lead to {computed}, not to {required}",
    "RoundFull": "round {round} has all of its {round_seats} commitments",
    "RoundStillOpen": "round {round} has not ended: it is in {actual}",
    "SafeCastOverflowedUintDowncast": "{value} does not fit in {bits} bits",
    "SafeERC20FailedOperation": "the token {token} did not confirm the transfer",
    "SecretCount": "{given} secrets or shares were given, {required} were expected",
    "SecretMismatch": "secret {index} hashes to {given}, {committed} was committed to",
    "SeedTooEarly": (
        "the seed can be fixed from block {opened_block} + 1 on, this is block {block_number}"
    ),
    "SetTooSmall": "the set has {size} updates, {required} are needed to open their sum",
    "SketchIsFixed": "the vectors of the sketches of round {round} are fixed already",
    "SketchNotFixed": "the vectors of the sketches of round {round} are not fixed yet",
    "SketchTooEarly": (
        "the vectors can be fixed from block {sealed_block} + 1 on, this is block {block_number}"
    ),
    "StandbyAvailable": "the standby {standby} can still propose this round",
    "TooFewParticipants": "{active} participants are active, a round needs {required}",
    "TooLateToPost": (
        "the leaf had to be posted before {deadline:time}, now it is {timestamp:time}"
    ),
    "TooLateToRequest": (
        "it is {timestamp:time}: leaves of this proposal could be requested until {latest:time}"
    ),
    "UpdateRejected": (
        "the update of {participant} was rejected in round {round}: only accepted ones are averaged"
    ),
    "VerdictCount": "{given} verdicts were given for {revealed} revealed updates",
    "VerdictIsRight": (
        "the verdict on {participant} in round {round} is what the contract can ask for"
    ),
    "VerdictOutOfRange": "verdict {index} does not exist: there are {count}",
    "VerdictOrder": (
        "verdicts go up by participant, each once: {participant} stands after {previous}"
    ),
    "VerdictsMismatch": "the verdicts hash to {given}, {proposed} was proposed",
    "WeakKey": "the public key {public_key} has a small order: its shared secrets are known",
    "WhereaboutsTooLong": "an announcement has at most {limit} bytes, this one has {length}",
    "WrongAggregatorState": "the aggregator {aggregator} is {actual}, this call needs {required}",
    "WrongAmountReceived": (
        "the token delivered {received:amount} units, {required:amount} were asked for"
    ),
    "WrongPadding": "the tree under {root} holds something behind its last leaf",
    "WrongPrivacy": "updates are {actual} in this federation: it has other calls",
    "WrongStatus": "round {round} is in {actual}, this call needs {required}",
    "WrongSubmissionState": (
        "the submission of {participant} to round {round} is {actual}, this call needs {required}"
    ),
    "ZeroAmount": "the amount is 0",
    "ZeroDigest": "a digest is zero, one that names something was expected",
    "ERC20InsufficientAllowance": (
        "{spender} may spend {allowance:amount} token units, {needed:amount} are needed:"
        " approve more"
    ),
    "ERC20InsufficientBalance": (
        "{sender} holds {balance:amount} token units, {needed:amount} are needed"
    ),
    "ERC20InvalidApprover": "{approver} cannot approve",
    "ERC20InvalidReceiver": "{receiver} cannot receive tokens",
    "ERC20InvalidSender": "{sender} cannot send tokens",
    "ERC20InvalidSpender": "{spender} cannot be approved",
    "Error": "{message}",
    "Panic": "the contract panicked: {reason} (code {code:#04x})",
}

# https://docs.soliditylang.org/en/latest/control-structures.html#panic-via-assert-and-error-via-require
PANICS: dict[int, str] = {
    0x01: "an assertion failed",
    0x11: "arithmetic left its range",
    0x12: "division by zero",
    0x21: "no such enum value",
    0x22: "wrongly encoded storage",
    0x31: "pop of an empty array",
    0x32: "index out of bounds",
    0x41: "too much memory",
    0x51: "call of an unset function",
}


def describe(name: str, arguments: Mapping[str, Any]) -> str:
    """Return the error in words; an error without a text here is listed with its values."""
    template = TEXTS.get(name)
    if template is None:
        listed = ", ".join(f"{key} {_Shown(value)}" for key, value in arguments.items())
        return f"the contract reverted with {name}" + (f": {listed}" if listed else "")
    return template.format_map({key: _Shown(value) for key, value in arguments.items()})


class _Shown:
    """A value in a text: enums by name, digests in hex, numbers also as `:time` or `:amount`."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def __format__(self, form: str) -> str:
        value = self._value
        if form == "time":
            try:
                return datetime.fromtimestamp(value, tz=UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
            except (ValueError, OverflowError, OSError):  # a uint64 reaches past the year 9999
                return str(value)
        if form == "amount":
            return f"{value:,}"
        if isinstance(value, bool):
            return "yes" if value else "no"
        if isinstance(value, IntEnum):
            return value.name.capitalize()
        if isinstance(value, bytes):
            return "0x" + value.hex()
        return format(value, form)
