"""Print what each cheat earns in the small world: `python -m tests.attacks.table`.

The table is in docs/incentives.md.
"""

import tempfile
from pathlib import Path

from tests.attacks.test_cheats import CAUGHT, FOUND, play


def main() -> None:
    """Play every cheat where the whole update counts, and where its new part does."""
    print(
        "gain    cheat                            check  pay    loss against the round without it"
    )
    for gain in ("whole", "new"):
        with tempfile.TemporaryDirectory() as folder:
            for name, played in play(Path(folder), gain, {**CAUGHT, **FOUND}).items():
                worse = played.loss / played.alone - 1
                print(
                    f"{gain:<6}  {name:<32} {played.check:>4}  {played.pay:>5.0%}  {worse:+.1%}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
