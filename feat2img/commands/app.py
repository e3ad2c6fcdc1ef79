"""`feat2img app`: drop photos into a page in the browser."""

import argparse

from .options import DONE, DTYPES, add_debug, quiet_loading, whole_number


def add(commands) -> None:
    parser = commands.add_parser(
        "app",
        help="drop photos into a page in the browser",
        description="Serve a page on this machine where photos are dropped in and reconstructed by every pipeline, "
        "with figures and a slider between original and reconstruction. Needs gradio: pip install 'feat2img[app]'.",
        examples=("feat2img app", "feat2img app out/gan someone/diffusion --device cuda --dtype bfloat16"),
    )
    parser.add_argument(
        "pipelines", nargs="*", metavar="PIPELINE", help="folder or Hub name (default: the quickstart pair)"
    )
    parser.add_argument("--host", metavar="NAME", help="where to listen; 0.0.0.0 for all (default: 127.0.0.1)")
    parser.add_argument("--port", type=whole_number(1), metavar="N", help="default: the first free one from 7860")
    parser.add_argument("--open", action="store_true", help="also open the page in a browser")
    parser.add_argument("--device", help="cpu, cuda, cuda:1, mps, ... (default: cuda where there is one)")
    parser.add_argument("--dtype", choices=DTYPES, default="float32", help="default: %(default)s")
    add_debug(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from ..app import default_pipelines, launch

    quiet_loading()
    pipelines = args.pipelines or default_pipelines()
    launch(pipelines, args.host, args.port, args.device, args.dtype, args.open)
    return DONE
