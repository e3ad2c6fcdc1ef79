"""The command line: `feat2img compare`, `feat2img reconstruct` and `feat2img sweep`.

Nothing heavy is imported here: each command imports what it needs when it runs, so that `--help` answers at once.
Exit codes: 0 done, 1 some photos could not be read, 2 wrong use or nothing could be done, 130 interrupted.
"""

import argparse
import difflib
import shlex
import sys
from typing import NoReturn

from . import __version__

DONE, PARTLY_DONE, FAILED, INTERRUPTED = 0, 1, 2, 130
DTYPES = ("float32", "bfloat16", "float16")
SCHEDULERS = ("ddim", "ddpm", "dpmsolver++", "unipc")
DATASET_SIZES = ("full_size", "320px", "160px")


class Parser(argparse.ArgumentParser):
    """argparse with one-line errors under one name, and without guessing at abbreviated options."""

    def __init__(self, **kwargs):
        super().__init__(allow_abbrev=False, **kwargs)

    def error(self, message: str) -> NoReturn:
        self.exit(FAILED, f"feat2img: error: {message} (see `{self.prog} --help`)\n")


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


def report_error(message: str, code: int) -> int:
    """Print an error as one line on stderr and return the exit code."""
    print(f"feat2img: error: {' '.join(message.split())}", file=sys.stderr)
    return code


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
    parser = Parser(prog="feat2img", description="Turn the features of a vision network back into images.")
    parser.add_argument("--version", action="version", version=f"feat2img {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=Parser)
    add_compare(commands)
    add_reconstruct(commands)
    add_sweep(commands)
    return parser, dict(commands.choices)


def add_shared(parser: Parser, batch_size: int) -> None:
    """Options of every command that runs pipelines."""
    parser.add_argument("--output_dir", required=True, metavar="DIR", help="folder for the results")
    parser.add_argument("--guidance_scale", type=guidance, help="of diffusion pipelines; 1 is off (default)")
    parser.add_argument("--scheduler", choices=SCHEDULERS, help="sampler of diffusion pipelines instead of their own")
    parser.add_argument("--batch_size", type=whole_number(1), default=batch_size, help="default: %(default)s")
    parser.add_argument("--seed", type=whole_number(0), default=0, help="of the noise and choices (default: 0)")
    parser.add_argument("--device", help="cpu, cuda, cuda:1, mps, ... (default: cuda where there is one)")
    parser.add_argument("--dtype", choices=DTYPES, default="float32", help="default: %(default)s")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")


def add_compare(commands) -> None:
    parser = commands.add_parser(
        "compare",
        help="score pipelines on the same photos",
        description="Reconstruct the same photos with every pipeline, score and time the results, and write "
        "results.json, results.csv, pairs.csv, per_image.csv, grid.png, charts and report.html. A run that was cut "
        "off goes on from its last batch when it is started again.",
    )
    parser.add_argument("pipelines", nargs="+", metavar="PIPELINE", help="folder or Hub name of a pipeline")
    parser.add_argument(
        "--dataset",
        default="frgfm/imagenette",
        help="folder, Hub name, or scikit-image for the photographs in that package (default: %(default)s)",
    )
    parser.add_argument("--split", default="validation", help="default: %(default)s")
    parser.add_argument("--size", choices=DATASET_SIZES, default="320px", help="of ImageNette on the Hub (320px)")
    parser.add_argument("--image_column", help="column of the images, where it cannot be told by its type")
    parser.add_argument("--num_images", type=whole_number(1), default=256, help="photos (default: %(default)s)")
    parser.add_argument(
        "--num_inference_steps",
        type=whole_number(1),
        nargs="+",
        default=[],
        metavar="N",
        help="steps of diffusion pipelines, one result for each (default: each pipeline's own number)",
    )
    parser.add_argument("--num_workers", type=whole_number(0), default=0, help="processes that decode photos")
    parser.add_argument(
        "--num_samples", type=whole_number(1), default=1, metavar="K", help="samples per photo, where they differ (1)"
    )
    add_verifier(parser)
    parser.add_argument(
        "--distribution_network", metavar="NAME", help="timm network for KID and Frechet distance (the verifier)"
    )
    parser.add_argument(
        "--latency_batch_size", type=whole_number(1), default=32, metavar="N", help="larger batch that is timed (32)"
    )
    parser.add_argument(
        "--baselines",
        action="store_true",
        help="also score the mean image, the nearest training photo, a linear decoder, and shrunk originals",
    )
    parser.add_argument(
        "--pixel_optimisation_steps",
        type=whole_number(0),
        default=0,
        metavar="N",
        help="with --baselines also optimise pixels in so many steps; slow (default: 0, without)",
    )
    parser.add_argument(
        "--pixel_optimisation_images", type=whole_number(1), default=8, metavar="N", help="on so many photos (8)"
    )
    parser.add_argument("--baseline_split", default="train", help="split of their photos (default: %(default)s)")
    parser.add_argument("--baseline_images", type=whole_number(1), default=1000, metavar="N", help="default: 1000")
    add_shared(parser, batch_size=16)
    parser.set_defaults(run=run_compare)


def add_sweep(commands) -> None:
    parser = commands.add_parser(
        "sweep",
        help="how much of an image each layer keeps",
        description="Fit a linear decoder to each layer's features, score it, and write sweep.json, sweep.csv, "
        "sweep.png and grid.png.",
    )
    parser.add_argument("--encoder", default="resnet101.a1h_in1k", metavar="NAME", help="default: %(default)s")
    parser.add_argument("--encoder_weights", metavar="FILE", help="its weights as safetensors, instead of a download")
    parser.add_argument("--random_weights", action="store_true", help="the untrained network")
    parser.add_argument("--layers", nargs="+", required=True, metavar="LAYER", help="names of its modules")
    parser.add_argument("--image_size", type=whole_number(1), default=224, metavar="N", help="default: 224")
    parser.add_argument("--resize_size", type=whole_number(1), default=256, metavar="N", help="before the crop (256)")
    parser.add_argument("--dataset", default="frgfm/imagenette", help="folder or Hub name (default: %(default)s)")
    parser.add_argument("--train_split", default="train", help="fits the decoders (default: %(default)s)")
    parser.add_argument("--split", default="validation", help="judges them (default: %(default)s)")
    parser.add_argument("--size", choices=DATASET_SIZES, default="320px", help="of ImageNette on the Hub (320px)")
    parser.add_argument("--image_column", help="column of the images, where it cannot be told by its type")
    parser.add_argument("--num_train_images", type=whole_number(1), default=2000, metavar="N", help="default: 2000")
    parser.add_argument("--num_images", type=whole_number(1), default=500, metavar="N", help="default: 500")
    add_verifier(parser)
    parser.add_argument("--batch_size", type=whole_number(1), default=16, help="default: %(default)s")
    parser.add_argument("--num_workers", type=whole_number(0), default=0, help="processes that decode photos")
    parser.add_argument("--seed", type=whole_number(0), default=0, help="of the choice of photos (default: 0)")
    parser.add_argument("--device", help="cpu, cuda, cuda:1, mps, ... (default: cuda where there is one)")
    parser.add_argument("--output_dir", required=True, metavar="DIR", help="folder for the results")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.set_defaults(run=run_sweep)


def add_verifier(parser: Parser) -> None:
    parser.add_argument(
        "--verifier",
        default="tf_efficientnet_lite2.in1k",
        metavar="NAME",
        help="timm classifier that judges reconstructions; none turns it off (default: %(default)s)",
    )
    parser.add_argument("--verifier_weights", metavar="FILE", help="its weights as safetensors, instead of a download")


def add_reconstruct(commands) -> None:
    parser = commands.add_parser(
        "reconstruct",
        help="reconstruct photos from files",
        description="Write the reconstruction of each photo, and original and reconstruction side by side.",
    )
    parser.add_argument("pipeline", metavar="PIPELINE", help="folder or Hub name of a pipeline")
    parser.add_argument("photos", nargs="+", metavar="PHOTO", help="image files, or folders of them")
    parser.add_argument(
        "--num_inference_steps", type=whole_number(1), metavar="N", help="default: the pipeline's own number"
    )
    add_shared(parser, batch_size=8)
    parser.set_defaults(run=run_reconstruct)


def quiet_loading() -> None:
    """Without diffusers' progress bars over a pipeline's few components."""
    import diffusers

    diffusers.utils.logging.disable_progress_bar()


def run_compare(args: argparse.Namespace) -> int:
    from .evaluation import CompareSettings, compare_pipelines, format_table, write_comparison
    from .evaluation.files import make_output_dir
    from .evaluation.outputs import describe_settings
    from .evaluation.state import STATE_FOLDER, discard_state

    quiet_loading()
    names = CompareSettings.__dataclass_fields__
    given = {name: value for name, value in vars(args).items() if name in names}
    given["num_inference_steps"] = tuple(args.num_inference_steps)
    given["verifier"] = None if args.verifier == "none" else args.verifier
    settings = CompareSettings(**given)
    state_dir = make_output_dir(args.output_dir) / STATE_FOLDER
    data = compare_pipelines(args.pipelines, settings, state_dir)
    if data is None:  # one of several processes; the main one writes
        return DONE
    data.settings = {"Command": args.command_line, **describe_settings(args.pipelines, settings)}
    files = write_comparison(data, args.output_dir)
    discard_state(state_dir)
    print(format_table(data.rows))
    for note in data.notes:
        print(note)
    print("wrote " + ", ".join(str(path) for path in files.values()))
    return DONE


def run_sweep(args: argparse.Namespace) -> int:
    from .evaluation.files import make_output_dir
    from .evaluation.sweep import SweepSettings, sweep_layers
    from .evaluation.sweep_outputs import sweep_table, write_sweep

    given = {name: value for name, value in vars(args).items() if name in SweepSettings.__dataclass_fields__}
    given["layers"] = tuple(args.layers)
    given["verifier"] = None if args.verifier == "none" else args.verifier
    settings = SweepSettings(**given)
    make_output_dir(args.output_dir)
    sweep = sweep_layers(settings)
    files = write_sweep(sweep, args.output_dir)
    print(sweep_table(sweep.rows))
    for note in sweep.notes:
        print(note)
    print("wrote " + ", ".join(str(path) for path in files.values()))
    return DONE


def run_reconstruct(args: argparse.Namespace) -> int:
    # nothing here imports datasets, metrics or the report: they would add a second to the first image
    from .evaluation.decoding import format_steps, load_pipeline, own_steps, resolve_device
    from .evaluation.files import make_output_dir, write_image
    from .evaluation.reconstruct import Reconstruction, find_photos, output_names, output_stems, reconstruct_photos

    quiet_loading()
    folder = make_output_dir(args.output_dir)
    photos = find_photos(args.photos)
    stems = output_stems(photos, folder)
    pipeline = load_pipeline(args.pipeline, resolve_device(args.device), args.dtype, args.scheduler)
    steps = args.num_inference_steps or own_steps(pipeline)
    title = f"{pipeline.kind}, {format_steps(steps)}" if steps else pipeline.kind
    options = {name: getattr(args, name) for name in ("batch_size", "seed", "num_inference_steps", "guidance_scale")}
    written = 0
    for index, result in reconstruct_photos(pipeline, photos, **options):
        if not isinstance(result, Reconstruction):
            report_error(f"photo {photos[index]} was skipped: {result.reason}", FAILED)
            continue
        image_name, pair_name = output_names(stems[index])
        write_image(folder / image_name, result.image)
        write_image(folder / pair_name, result.side_by_side(title))
        written += 1
        print(folder / image_name)
    if written == len(photos):
        return DONE
    return PARTLY_DONE if written else FAILED


if __name__ == "__main__":
    sys.exit(main())
