"""Fail unless forge covers every line and branch of Federation.sol.

cd contracts && forge coverage --no-match-contract GasTest | python ../scripts/check_coverage.py
"""

import re
import sys

REQUIRED = "src/Federation.sol"


def main() -> int:
    """Copy the summary's rows for our sources to stdout; return 1 when one of ours is not full."""
    rows = [line for line in sys.stdin if line.startswith("| src/")]
    print("".join(rows), end="")
    wanted = [row for row in rows if REQUIRED in row]
    # A row that is missing must not pass for one that is full: forge may have failed before.
    if not wanted:
        print(f"no coverage of {REQUIRED} was reported", file=sys.stderr)
        return 1
    if any(float(percent) < 100 for percent in re.findall(r"([\d.]+)%", wanted[0])):
        print(f"{REQUIRED} is not covered in full", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
