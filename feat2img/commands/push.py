"""`feat2img push`: a saved pipeline to the Hub."""

import argparse

from .options import DONE, add_debug, add_json, print_json, quiet_loading


def add(commands) -> None:
    parser = commands.add_parser(
        "push",
        help="upload a pipeline to the Hub",
        description="Upload a saved pipeline and its model card to the Hub in one commit; checkpoints, logs and the "
        "paths of this machine stay here. The token is the one that `hf auth login` stored, or HF_TOKEN.",
        examples=("feat2img push out/gan someone/gan --private --license apache-2.0",),
    )
    parser.add_argument("pipeline", metavar="PIPELINE", help="folder of a pipeline")
    parser.add_argument("repository", metavar="REPOSITORY", help="user/name, or a name of yours; made if need be")
    parser.add_argument("--private", action="store_true", help="where the repository is made, make it private")
    parser.add_argument("--revision", metavar="BRANCH", help="branch to commit to, made if need be (default: main)")
    parser.add_argument("--create_pr", action="store_true", help="open a pull request instead")
    parser.add_argument("--message", help="of the commit")
    parser.add_argument("--license", metavar="ID", help="for the card, for example apache-2.0")
    add_json(parser)
    add_debug(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from ..pipelines import Feat2ImgPipeline

    quiet_loading()
    pipeline = Feat2ImgPipeline.from_pretrained(args.pipeline)
    address = pipeline.push_to_hub(
        args.repository,
        commit_message=args.message,
        private=args.private or None,
        create_pr=args.create_pr,
        revision=args.revision,
        license=args.license,
    )
    if args.json:
        print_json({"repository": args.repository, "address": address})
    else:
        print(address)
    return DONE
