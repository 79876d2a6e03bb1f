"""One line of an audit."""

from dataclasses import asdict, dataclass
from typing import Any

from protocol.quantities import RoundId


@dataclass(frozen=True)
class Verified:
    """A claim that was checked: by which section of docs/protocol.md, for which round, and how.

    `round_id` is None for what concerns the whole federation. `detail` is what was recomputed, or
    what is wrong.
    """

    section: str
    round_id: RoundId | None
    claim: str
    passed: bool
    detail: str

    def line(self) -> str:
        """The check as a line of text."""
        where = "federation" if self.round_id is None else f"round {self.round_id}"
        mark = "ok  " if self.passed else "FAIL"
        detail = f": {self.detail}" if self.detail else ""
        return f"{mark}  {self.section:<4} {where:<10}  {self.claim}{detail}"

    def as_json(self) -> dict[str, Any]:
        """The check as a JSON object."""
        return asdict(self)
