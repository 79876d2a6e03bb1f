"""Fail unless forge covers every line, statement, branch and function of the federation.

The Makefile's test-contracts pipes the output of `forge coverage` into it.
"""

import re
import sys

REQUIRED = "| src/"
# When the SHA-256 precompile has run out of gas, too little is left to take the branch behind it.
OUT_OF_GAS = ("| src/Tree.sol ", "| src/Masks.sol ")


def _required(row: str) -> list[float]:
    """Return what is covered of lines, statements, branches and functions, in percent."""
    lines, statements, branches, functions = (float(p) for p in re.findall(r"([\d.]+)%", row))
    if row.startswith(OUT_OF_GAS):
        return [lines, functions]
    return [lines, statements, branches, functions]


def main() -> int:
    """Copy the summary's rows for our sources to stdout; return 1 when one of ours is not full."""
    rows = [line for line in sys.stdin if line.startswith(REQUIRED)]
    print("".join(rows), end="")
    # Rows that are missing must not pass for full ones: forge may have failed before.
    if not rows:
        print("no coverage of the sources was reported", file=sys.stderr)
        return 1
    lacking = [row for row in rows if any(percent < 100 for percent in _required(row))]
    for row in lacking:
        print(f"{row.split('|')[1].strip()} is not covered in full", file=sys.stderr)
    return 1 if lacking else 0


if __name__ == "__main__":
    sys.exit(main())
