"""A participant: trains on its own data, commits, reveals and withdraws."""
