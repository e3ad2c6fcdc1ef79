"""`feat2img reconstruct`: photos from files."""

import argparse

from .options import DONE, FAILED, PARTLY_DONE, add_shared, print_json, quiet_loading, report_error, whole_number


def add(commands) -> None:
    parser = commands.add_parser(
        "reconstruct",
        help="reconstruct photos from files",
        description="Write the reconstruction of each photo, and original and reconstruction side by side.",
        examples=(
            "feat2img reconstruct examples/quickstart/gan photo.jpg --output_dir out",
            "feat2img reconstruct someone/diffusion photos/ more.png --num_inference_steps 8 --output_dir out",
            "feat2img reconstruct out/gan photos/ --output_dir out --json | jq -r '.photos[].image'",
        ),
    )
    parser.add_argument("pipeline", metavar="PIPELINE", help="folder or Hub name of a pipeline")
    parser.add_argument("photos", nargs="+", metavar="PHOTO", help="image files, or folders of them")
    parser.add_argument(
        "--num_inference_steps", type=whole_number(1), metavar="N", help="default: the pipeline's own number"
    )
    add_shared(parser, batch_size=8)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    # nothing here imports datasets, metrics or the report: they would add a second to the first image
    from ..evaluation.decoding import format_steps, load_pipeline, own_steps, resolve_device
    from ..evaluation.files import make_output_dir, write_image
    from ..evaluation.reconstruct import Reconstruction, find_photos, output_names, output_stems, reconstruct_photos

    quiet_loading()
    folder = make_output_dir(args.output_dir)
    photos = find_photos(args.photos)
    stems = output_stems(photos, folder)
    pipeline = load_pipeline(args.pipeline, resolve_device(args.device), args.dtype, args.scheduler)
    steps = args.num_inference_steps or own_steps(pipeline)
    title = f"{pipeline.kind}, {format_steps(steps)}" if steps else pipeline.kind
    options = {name: getattr(args, name) for name in ("batch_size", "seed", "num_inference_steps", "guidance_scale")}
    outcomes: dict[int, dict] = {}
    for index, result in reconstruct_photos(pipeline, photos, **options):
        if not isinstance(result, Reconstruction):
            report_error(f"photo {photos[index]} was skipped: {result.reason}", FAILED)
            outcomes[index] = {"photo": photos[index], "error": result.reason}
            continue
        image_name, pair_name = output_names(stems[index])
        write_image(folder / image_name, result.image)
        write_image(folder / pair_name, result.side_by_side(title))
        files = {"image": folder / image_name, "side_by_side": folder / pair_name}
        outcomes[index] = {"photo": photos[index], **files}
        if not args.json:
            print(folder / image_name, flush=True)
    in_order = [outcomes[index] for index in sorted(outcomes)]
    if args.json:
        print_json({"pipeline": args.pipeline, "kind": pipeline.kind, "steps": steps, "photos": in_order})
    written = sum("image" in outcome for outcome in in_order)
    if written == len(photos):
        return DONE
    return PARTLY_DONE if written else FAILED
