"""Rounds of which only the sum is learnt (docs/protocol.md §13)."""
