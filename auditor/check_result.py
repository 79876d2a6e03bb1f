"""One line of an audit."""

from dataclasses import asdict, dataclass
from typing import Any

from protocol.errors import CommonweightError, Unavailable
from protocol.types import RoundId
from rounds.compare import WrongValue
from storage.ipfs import Contradiction


@dataclass(frozen=True)
class CheckResult:
    """A claim that was checked: by which section of docs/protocol.md, for which round, and how.

    `round_id` is None for what concerns the whole federation. `passed` is None when it could not be
    checked: bytes are missing, or the node gave up. `detail` is what was recomputed, what is wrong
    or what is missing; `wrong_value` is the value that a proposed model has wrong first.
    """

    section: str
    round_id: RoundId | None
    claim: str
    passed: bool | None
    detail: str
    wrong_value: WrongValue | None = None

    @classmethod
    def refused(
        cls, section: str, round_id: RoundId | None, claim: str, error: CommonweightError
    ) -> "CheckResult":
        """Return a check that ended in an error: failed, unless another try may end otherwise."""
        may_pass = isinstance(error, Unavailable) and not isinstance(error, Contradiction)
        return cls(section, round_id, claim, None if may_pass else False, str(error))

    @property
    def failed(self) -> bool:
        """Whether the claim is false."""
        return self.passed is False

    @property
    def unchecked(self) -> bool:
        """Whether nothing is known of the claim."""
        return self.passed is None

    def line(self) -> str:
        """The check as a line of text."""
        where = "federation" if self.round_id is None else f"round {self.round_id}"
        mark = "FAIL" if self.failed else "??  " if self.unchecked else "ok  "
        detail = f": {self.detail}" if self.detail else ""
        if self.unchecked:
            detail = f": could not check{detail}"
        return printable(f"{mark}  {self.section:<4} {where:<10}  {self.claim}{detail}")

    def as_json(self) -> dict[str, Any]:
        """The check as a JSON object."""
        return asdict(self)


def printable(text: str) -> str:
    """Return `text` with a visible escape for what is no plain character.

    Details quote what manifests and daemons say: it must not move a terminal's cursor, nor turn
    the direction in which a line is read.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
