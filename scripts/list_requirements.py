"""Print what pyproject.toml requires, one requirement per line, without installing the project.

    python list_requirements.py [EXTRA...]      # the base dependencies, or those of the extras

The Dockerfile installs dependencies before it copies the sources, so that a changed source line
does not download them again.
"""

import sys
import tomllib
from pathlib import Path


def list_requirements(extras: list[str]) -> list[str]:
    """Return the requirements of `extras`, or the base ones; KeyError names an unknown extra."""
    project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
    if not extras:
        return list(project["dependencies"])
    return [line for extra in extras for line in project["optional-dependencies"][extra]]


if __name__ == "__main__":
    print("\n".join(list_requirements(sys.argv[1:])))
