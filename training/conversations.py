"""The turns of a conversation, as data sets write them, and the answers to learn from it.

OpenAI      {"role": "user", "content": "…"}, the content a text or a list of parts, `weight` 0 or 1
ShareGPT    {"from": "human", "value": "…"}
TRL         as OpenAI, also in the fields prompt and completion
"""

import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from protocol.errors import Misconfigured

Role = Literal["system", "user", "assistant"]

_ROLES: Final[Mapping[str, Role]] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
}
_MISSING: Final = {"system": "system text", "user": "question", "assistant": "answer"}
_TEXT_PARTS: Final = ("text", "input_text", "output_text")


class Unusable(Exception):
    """A row gives nothing to learn; the message is the reason, as "no answer"."""


@dataclass(frozen=True)
class Turn:
    """What one side says; `is_learnt` is False for an answer that is only context."""

    role: Role
    text: str
    is_learnt: bool = True


@dataclass(frozen=True)
class Exchange:
    """A question and its answer."""

    question: str
    answer: str
    is_learnt: bool = True


def is_blank(text: str) -> bool:
    """Return whether `text` shows nothing: only spaces, zero-width and control characters."""
    return all(unicodedata.category(each) in ("Zs", "Zl", "Zp", "Cc", "Cf") for each in text)


def read_turns(value: Any, place: str) -> list[Turn]:
    """Return the turns of a list of messages; `place` begins the message of a fault.

    Raises Unusable for a turn without text, or of a role or part that is not text between two
    sides, and Misconfigured for what is no conversation.
    """
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise Misconfigured(f"{place} must be a list of messages")
    return [_turn(each, place) for each in value]


def _turn(message: Mapping[str, Any], place: str) -> Turn:
    names = ("role", "content") if "role" in message else ("from", "value")
    said, content = (message.get(name) for name in names)
    if not isinstance(said, str):
        raise Misconfigured(f"{place}: a message must have role and content, or from and value")
    role = _ROLES.get(said.strip().lower())
    if role is None:
        raise Unusable(f"a turn of {said}")
    text = _text(content, place)
    if is_blank(text) and role != "system":
        raise Unusable(f"no {_MISSING[role]}")
    return Turn(role, text, is_learnt=message.get("weight") != 0)


def _text(content: Any, place: str) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    if not isinstance(content, list):
        raise Misconfigured(f"{place}: a message's content must be text, or a list of parts")
    texts = []
    for part in content:
        kind = part.get("type", "text") if isinstance(part, dict) else "text"
        text = part.get("text") if isinstance(part, dict) else part
        if kind not in _TEXT_PARTS or not isinstance(text, str):
            raise Unusable(f"a part of type {kind}")
        texts.append(text)
    return "\n".join(texts)


def exchanges(turns: Iterable[Turn]) -> tuple[str, list[Exchange]]:
    """Return the system text before a conversation, and its questions with their answers.

    Turns of one side that follow one another are joined by an empty line, a system text in the
    middle with the next question. Answers before the first question and questions without an
    answer are left out: templates have no form for them.
    """
    system: list[str] = []
    found: list[Exchange] = []
    asked: list[str] = []
    for turn in turns:
        if is_blank(turn.text):
            continue
        if turn.role == "system" and not (asked or found):
            system.append(turn.text)
        elif turn.role != "assistant":
            asked.append(turn.text)
        elif asked:
            found.append(Exchange("\n\n".join(asked), turn.text, turn.is_learnt))
            asked = []
        elif found:
            last = found.pop()
            learnt = last.is_learnt and turn.is_learnt
            found.append(Exchange(last.question, f"{last.answer}\n\n{turn.text}", learnt))
    return "\n\n".join(system), found
