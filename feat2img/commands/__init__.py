"""The commands of `feat2img`, one per file: `add` describes it to the parser, `run` does it.

Nothing heavy is imported before a command runs, so that `--help` answers at once.
"""

from . import app, card, compare, push, reconstruct, sweep

COMMANDS = (reconstruct, compare, sweep, app, card, push)  # in the order of the help
