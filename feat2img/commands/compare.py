"""`feat2img compare`: score pipelines on the same photos."""

import argparse
import json

from .options import DATASET_SIZES, DONE, add_shared, add_verifier, print_json, quiet_loading, whole_number


def add(commands) -> None:
    parser = commands.add_parser(
        "compare",
        help="score pipelines on the same photos",
        description="Reconstruct the same photos with every pipeline, score and time the results, and write "
        "results.json, results.csv, pairs.csv, per_image.csv, grid.png, charts and report.html. A run that was cut "
        "off goes on from its last batch when it is started again.",
        examples=(
            "feat2img compare out/gan out/diffusion --num_inference_steps 4 25 --output_dir out/compare",
            "feat2img compare out/gan --dataset my-photos/ --baselines --output_dir out/compare",
            "feat2img compare someone/gan --dataset scikit-image --verifier none --output_dir out --json | jq .rows",
        ),
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
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from ..evaluation import CompareSettings, compare_pipelines, format_table, write_comparison
    from ..evaluation.files import make_output_dir
    from ..evaluation.outputs import describe_settings, results_json
    from ..evaluation.state import STATE_FOLDER, discard_state

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
    if args.json:
        rows, pairs = json.loads(results_json(data.rows)), json.loads(results_json(data.pairs))
        print_json({"rows": rows, "pairs": pairs, "notes": data.notes, "files": files})
        return DONE
    print(format_table(data.rows))
    for note in data.notes:
        print(note)
    print("wrote " + ", ".join(str(path) for path in files.values()))
    return DONE
