"""The command line: `commonweight NOUN VERB`.

Results go to stdout, progress to stderr; `--json` prints one object. Exit code 0 when all is well,
1 when a check failed or something went wrong (one line on stderr says what), 2 for a command line
that cannot be understood. Imports that take long stand in the commands that need them.
"""

import click

from commonweight import __version__
from commonweight.cli.aggregate import aggregate
from commonweight.cli.aggregator import aggregator
from commonweight.cli.audit import audit
from commonweight.cli.demo import demo
from commonweight.cli.devnet import devnet
from commonweight.cli.federation import federation
from commonweight.cli.keys import keys
from commonweight.cli.model import model
from commonweight.cli.participant import participant
from commonweight.cli.profile import profile


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="commonweight")
def main() -> None:
    """Fine-tune one language model together, on data that never leaves its owners."""


for noun in (
    *(demo, devnet, federation, participant, aggregator, audit),
    *(aggregate, model, profile, keys),
):
    main.add_command(noun)
