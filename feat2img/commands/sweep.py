"""`feat2img sweep`: how much of an image each layer keeps."""

import argparse
import json

from .options import DATASET_SIZES, DONE, add_debug, add_json, add_verifier, print_json, whole_number


def add(commands) -> None:
    parser = commands.add_parser(
        "sweep",
        help="how much of an image each layer keeps",
        description="Fit a decoder to each layer's features, score it, and write sweep.json, sweep.csv, sweep.png and "
        "grid.png.",
        examples=(
            "feat2img sweep --layers layer1 layer2 layer3 layer4 --output_dir out/sweep",
            "feat2img sweep --layers layer2 layer3 layer4 --decoder examples/quickstart/gan --output_dir out/sweep",
        ),
    )
    parser.add_argument("--encoder", default="resnet101.a1h_in1k", metavar="NAME", help="default: %(default)s")
    parser.add_argument("--encoder_weights", metavar="FILE", help="its weights as safetensors, instead of a download")
    parser.add_argument("--random_weights", action="store_true", help="the untrained network")
    parser.add_argument("--layers", nargs="+", required=True, metavar="LAYER", help="names of its modules")
    parser.add_argument(
        "--decoder", metavar="DIR", help="a GAN pipeline's, fitted to each layer (default: linear ones)"
    )
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
    add_json(parser)
    add_debug(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from ..evaluation.files import make_output_dir
    from ..evaluation.outputs import results_json
    from ..evaluation.sweep import SweepSettings, sweep_layers
    from ..evaluation.sweep_outputs import sweep_table, write_sweep

    given = {name: value for name, value in vars(args).items() if name in SweepSettings.__dataclass_fields__}
    given["layers"] = tuple(args.layers)
    given["verifier"] = None if args.verifier == "none" else args.verifier
    settings = SweepSettings(**given)
    make_output_dir(args.output_dir)
    sweep = sweep_layers(settings)
    files = write_sweep(sweep, args.output_dir)
    if args.json:
        rows = json.loads(results_json(sweep.rows))
        print_json({"rows": rows, "notes": sweep.notes, "files": files})
        return DONE
    print(sweep_table(sweep.rows))
    for note in sweep.notes:
        print(note)
    print("wrote " + ", ".join(str(path) for path in files.values()))
    return DONE
