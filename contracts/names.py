"""The contract's camelCase and this project's snake_case."""

import re

_CAPITAL = re.compile(r"(?<!^)(?=[A-Z])")


def snake_case(name: str) -> str:
    """Return `roundReward` as `round_reward`."""
    return _CAPITAL.sub("_", name).lower()
