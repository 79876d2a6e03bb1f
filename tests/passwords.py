"""Password files as their owners keep them."""

from pathlib import Path


def write_password(path: Path, password: str) -> None:
    """Write a file that its owner alone can read."""
    path.touch(mode=0o600)
    path.write_text(password)
