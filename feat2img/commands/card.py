"""`feat2img card`: the model card of a saved pipeline, with the figures of a comparison."""

import argparse
from pathlib import Path

from .options import DONE, add_debug, add_json, print_json, quiet_loading


def add(commands) -> None:
    parser = commands.add_parser(
        "card",
        help="write a pipeline's model card, with its figures",
        description="Write README.md of a saved pipeline again, from its settings, its training and the figures of a "
        "comparison. A card whose first comment was deleted is yours, and stays as it is.",
        examples=(
            "feat2img card out/gan --license apache-2.0 --samples photos/",
            "feat2img compare out/gan out/diffusion --output_dir out/compare",
            "feat2img card out/gan --results out/compare/results.json",
        ),
    )
    parser.add_argument("pipeline", metavar="PIPELINE", help="folder of a pipeline")
    parser.add_argument("--results", metavar="FILE", help="results.json of a comparison that it took part in")
    parser.add_argument("--name", help="what the comparison calls the pipeline (default: the folder's name)")
    parser.add_argument("--dataset", metavar="NAME", help="what to call the comparison's photos (default: as it does)")
    parser.add_argument(
        "--samples", nargs="+", metavar="PHOTO", help="show these, at most eight, with their reconstructions"
    )
    parser.add_argument("--license", metavar="ID", help="for example apache-2.0 (default: the one it has)")
    add_json(parser)
    add_debug(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from ..evaluation.card import keep_figures, keep_samples
    from ..evaluation.decoding import load_pipeline, resolve_device
    from ..pipelines.base import read_index
    from ..pipelines.card import CARD_NAME, write_card

    quiet_loading()
    folder = Path(args.pipeline).expanduser()
    read_index(folder)
    pipeline = load_pipeline(str(folder), resolve_device("cpu"), "float32")
    if args.results:
        keep_figures(folder, args.results, args.name, args.dataset)
    elif args.name or args.dataset:
        raise ValueError("--name and --dataset say what to take from --results; give that too")
    if args.samples:
        keep_samples(folder, pipeline, args.samples)
    write_card(pipeline, folder, license=args.license)
    if args.json:
        print_json({"card": folder / CARD_NAME})
    else:
        print(folder / CARD_NAME)
    return DONE
