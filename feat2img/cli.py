"""The command line `feat2img`; its commands are in `commands`."""

import argparse
import difflib
import os
import shlex
import sys

from . import __version__
from .commands import COMMANDS
from .commands.options import DONE, FAILED, INTERRUPTED, Parser, report_error
from .memory import keep_freed_memory

ABOUT = """Turn the features of a vision network back into images.

A pipeline is a folder that a training wrote, or user/name on the Hub. It holds its encoder and needs photos only."""
GUIDE = """start here:
  feat2img reconstruct examples/quickstart/gan photo.jpg --output_dir out    a photo, and what its features keep
  feat2img compare out/gan out/diffusion --output_dir out/compare            a table, charts and report.html
  feat2img app                                                               photos into a page in the browser
  feat2img COMMAND --help                                                    options and examples of a command

train your own (accelerate launch examples/train_gan.py --help), then publish it with `card` and `push`.

exit codes: 0 done, 1 some photos could not be read, 2 wrong use or nothing could be done, 130 interrupted.
With --json stdout holds JSON and nothing else. Progress bars are shown on terminals only."""


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal without arrows still gets its table
    argv = sys.argv[1:] if argv is None else list(argv)
    try:
        args = parse(argv)
    except SystemExit as stop:
        return int(stop.code or DONE)
    hide_bars_in_pipes()
    keep_freed_memory()
    try:
        return args.run(args)
    except KeyboardInterrupt:
        return report_error("interrupted", INTERRUPTED)
    except (ValueError, OSError, ImportError) as error:
        if args.debug:
            raise
        return report_error(str(error) or type(error).__name__, FAILED)
    except RuntimeError as error:
        if args.debug or type(error).__name__ != "OutOfMemoryError":
            raise
        return report_error(f"the device is out of memory, lower --batch_size: {error}", FAILED)


def parse(argv: list[str]) -> argparse.Namespace:
    """Parse arguments; exits like argparse, with the nearest names for an unknown command or option."""
    parser, commands = build_parser()
    if not argv:
        parser.print_help(sys.stderr)
        parser.exit(FAILED)
    if not argv[0].startswith("-") and argv[0] not in commands:
        parser.error(f"unknown command {argv[0]!r}{did_you_mean(argv[0], list(commands))}")
    args, unknown = parser.parse_known_args(argv)
    if unknown and unknown[0].startswith("-"):
        known = [option for action in commands[args.command]._actions for option in action.option_strings]
        commands[args.command].error(f"unknown option {unknown[0]!r}{did_you_mean(unknown[0].split('=')[0], known)}")
    if unknown:
        commands[args.command].error(f"{unknown[0]!r} stands apart: keep the arguments without a name together")
    args.command_line = shlex.join(["feat2img", *argv])
    return args


def did_you_mean(text: str, known: list[str]) -> str:
    """A question with the nearest known name, or nothing."""
    near = difflib.get_close_matches(text, known, n=1)
    return f", did you mean {near[0]!r}?" if near else ""


def build_parser() -> tuple[Parser, dict[str, Parser]]:
    """The parser and its commands' parsers by name."""
    parser = Parser(prog="feat2img", description=ABOUT, epilog=GUIDE)
    parser.add_argument("--version", action="version", version=f"feat2img {__version__}")
    commands = parser.add_subparsers(
        dest="command", title="commands", metavar="COMMAND", required=True, parser_class=Parser
    )
    for command in COMMANDS:
        command.add(commands)
    return parser, dict(commands.choices)


def hide_bars_in_pipes() -> None:
    """Libraries draw their own progress bars also where nobody sees them; they read these when they are imported."""
    if not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")


if __name__ == "__main__":
    sys.exit(main())
