"""What `flwr run .` finds in a clone: not an app, but the line that says what to type.

Flower imports this package when it looks for the components that pyproject.toml names below it.
The app itself carries no code and lies elsewhere (docs/decisions/0004).
"""

import click

raise click.ClickException("to play a federation in Flower's simulation, type: make demo")
