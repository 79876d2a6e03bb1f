"""The result of one check of an audit."""

from dataclasses import asdict, dataclass
from typing import Any

from protocol.errors import CommonweightError, DiskFault, Unavailable
from protocol.text import printable
from protocol.types import RoundId
from rounds.compare import WrongValue


@dataclass(frozen=True)
class CheckResult:
    """A claim that was checked, with its section of docs/protocol.md, its round and the result.

    `round_id` is None when the claim is about the whole federation. `passed` is None when it could
    not be checked because bytes are missing or the node failed, or where `seen_differently`: a
    statement about another place and time, which is found otherwise here. `detail` says what was
    recomputed, is wrong or is missing; `wrong_value` is the first wrong value of a proposed model.
    An unchecked claim is `lasting` where another look of the same auditor would not change that.
    """

    section: str
    round_id: RoundId | None
    claim: str
    passed: bool | None
    detail: str
    wrong_value: WrongValue | None = None
    seen_differently: bool = False
    lasting: bool = False

    @classmethod
    def refused(
        cls, section: str, round_id: RoundId | None, claim: str, error: CommonweightError
    ) -> "CheckResult":
        """Return a check that ended in an error: failed, unless the error is no fault of theirs."""
        passed = None if isinstance(error, Unavailable | DiskFault) else False
        return cls(section, round_id, claim, passed, str(error))

    @property
    def is_final(self) -> bool:
        """Whether the claim need not be looked at again: it is true, or will stay unchecked."""
        return self.passed is True or self.lasting

    @property
    def failed(self) -> bool:
        """Whether the claim is false."""
        return self.passed is False

    @property
    def unchecked(self) -> bool:
        """Whether nothing is known of the claim."""
        return self.passed is None

    def line(self) -> str:
        """Return the check as a line of text."""
        where = "federation" if self.round_id is None else f"round {self.round_id}"
        mark = "FAIL" if self.failed else "??  " if self.unchecked else "ok  "
        detail = f": {self.detail}" if self.detail else ""
        if self.unchecked:
            why = "seen differently from here" if self.seen_differently else "could not check"
            detail = f": {why}{detail}"
        return printable(f"{mark}  {self.section:<4} {where:<10}  {self.claim}{detail}")

    def as_json(self) -> dict[str, Any]:
        """Return the check as a JSON object."""
        return asdict(self)
