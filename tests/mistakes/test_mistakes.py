"""Each mistake has one clear line for an answer, and docs/mistakes.md shows them all."""

import re

import pytest

from tests.mistakes.cases import SECTIONS
from tests.mistakes.play import TARGET, Answer, page, play_all
from tests.test_messages import VARIES, quoted


@pytest.fixture(scope="module")
def answers() -> dict[str, list[Answer]]:
    return play_all()


def test_each_answer_is_one_line_on_stderr(answers: dict[str, list[Answer]]) -> None:
    played = [answer for section in answers.values() for answer in section]
    assert len(played) == sum(map(len, SECTIONS.values())) > 60
    for answer in played:
        lines = answer.stderr.strip().splitlines()
        assert len(lines) == 1, answer
        assert lines[0].startswith("error: "), answer
        assert "Traceback" not in answer.stderr, answer
        assert answer.code in (1, 2), answer
        assert len(answer.line) < 300, answer


def test_each_preflight_check_says_what_is_missing(answers: dict[str, list[Answer]]) -> None:
    for answer in answers["Data"]:
        assert answer.line.startswith("MISSING data "), answer


def test_each_answer_is_explained(answers: dict[str, list[Answer]]) -> None:
    known = [re.compile(".*?".join(map(re.escape, each.split(VARIES)))) for each in quoted()]
    # What cannot be parsed is click's, names the option at fault, and is explained there as one.
    played = [each for section in answers.values() for each in section if each.code == 1]
    for answer in played:
        said = re.sub(r"^(error: |MISSING \w+ )", "", answer.line)
        said = re.sub(r"`[^`]*`", VARIES, said)
        assert any(each.fullmatch(said) for each in known), said


def test_the_page_shows_them(answers: dict[str, list[Answer]]) -> None:
    assert TARGET.read_text() == page(answers), "run `make docs`"
