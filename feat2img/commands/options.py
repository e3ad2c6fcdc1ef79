"""What the commands share: the parser, types and options of arguments, exit codes, and output for other programs."""

import argparse
import json
import sys
import textwrap
from typing import Any, NoReturn

DONE, PARTLY_DONE, FAILED, INTERRUPTED = 0, 1, 2, 130
DTYPES = ("float32", "bfloat16", "float16")
SCHEDULERS = ("ddim", "ddpm", "dpmsolver++", "unipc")
DATASET_SIZES = ("full_size", "320px", "160px")


class Parser(argparse.ArgumentParser):
    """argparse with one-line errors under one name, examples, and without guessing at abbreviated options."""

    def __init__(self, *, description: str = "", examples: tuple[str, ...] = (), **kwargs):
        if examples:
            kwargs["epilog"] = "examples:\n" + "\n".join(f"  {example}" for example in examples)
        super().__init__(
            description="\n\n".join(textwrap.fill(part, 100) for part in description.split("\n\n")),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
            **kwargs,
        )

    def error(self, message: str) -> NoReturn:
        self.exit(FAILED, f"feat2img: error: {message} (see `{self.prog} --help`)\n")


def report_error(message: str, code: int) -> int:
    """Print an error as one line on stderr and return the exit code."""
    print(f"feat2img: error: {' '.join(message.split())}", file=sys.stderr)
    return code


def print_json(content: Any) -> None:
    """The only thing on stdout with --json; what JSON does not know, such as a path, becomes text."""
    print(json.dumps(content, indent=2, default=str, allow_nan=False))


def whole_number(minimum: int):
    """An argparse type: whole numbers from `minimum`."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = None
        if value is None or value < minimum:
            raise argparse.ArgumentTypeError(f"expected a whole number from {minimum}, got {text!r}")
        return value

    return parse


def guidance(text: str) -> float:
    """An argparse type: a finite number from 0."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number from 0 (1 is off), got {text!r}")
    return value


def add_json(parser: Parser) -> None:
    parser.add_argument("--json", action="store_true", help="print the outcome as JSON, for other programs")


def add_debug(parser: Parser) -> None:
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")


def add_shared(parser: Parser, batch_size: int) -> None:
    """Options of every command that runs pipelines."""
    parser.add_argument("--output_dir", required=True, metavar="DIR", help="folder for the results")
    parser.add_argument("--guidance_scale", type=guidance, help="of diffusion pipelines; 1 is off (default)")
    parser.add_argument("--scheduler", choices=SCHEDULERS, help="sampler of diffusion pipelines instead of their own")
    parser.add_argument("--batch_size", type=whole_number(1), default=batch_size, help="default: %(default)s")
    parser.add_argument("--seed", type=whole_number(0), default=0, help="of the noise and choices (default: 0)")
    parser.add_argument("--device", help="cpu, cuda, cuda:1, mps, ... (default: cuda where there is one)")
    parser.add_argument("--dtype", choices=DTYPES, default="float32", help="default: %(default)s")
    add_json(parser)
    add_debug(parser)


def add_verifier(parser: Parser) -> None:
    parser.add_argument(
        "--verifier",
        default="tf_efficientnet_lite2.in1k",
        metavar="NAME",
        help="timm classifier that judges reconstructions; none turns it off (default: %(default)s)",
    )
    parser.add_argument("--verifier_weights", metavar="FILE", help="its weights as safetensors, instead of a download")


def quiet_loading() -> None:
    """Without diffusers' progress bars over a pipeline's few components."""
    import diffusers

    diffusers.utils.logging.disable_progress_bar()
