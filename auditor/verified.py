"""One line of an audit."""

from dataclasses import asdict, dataclass
from typing import Any

from auditor.mean import WrongValue
from protocol.quantities import RoundId


@dataclass(frozen=True)
class Verified:
    """A claim that was checked: by which section of docs/protocol.md, for which round, and how.

    `round_id` is None for what concerns the whole federation. `detail` is what was recomputed, or
    what is wrong; `wrong_value` is the value that a proposed model has wrong first.
    """

    section: str
    round_id: RoundId | None
    claim: str
    passed: bool
    detail: str
    wrong_value: WrongValue | None = None

    def line(self) -> str:
        """The check as a line of text."""
        where = "federation" if self.round_id is None else f"round {self.round_id}"
        mark = "ok  " if self.passed else "FAIL"
        detail = f": {self.detail}" if self.detail else ""
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
