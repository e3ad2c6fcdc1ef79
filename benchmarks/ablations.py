"""What each part of a recipe is worth: short trainings of the quickstart decoders at one budget, judged on one choice
of photos. Writes docs/source/ablations.md.

python -m benchmarks.ablations --dataset DATA --image_size 112 --minutes 4 --work_dir out/ablations [ROW ...]

What goes on from the row "start" begins with that one's longer training. A row that is finished in `work_dir` is not
trained again, so a run that was broken off goes on where it stopped.
"""

import dataclasses
import json
import os
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from feat2img.evaluation.decoding import load_pipeline
from feat2img.evaluation.intervals import bootstrap_mean, paired_difference

from .measure import machine, parser, table
from .quality import METRICS, Judge, resize_size

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "source" / "ablations.md"
# a generator that so few minutes can teach
SMALL = "--block_out_channels 128 96 64 --layers_per_block 1 --projector_channels 128 --learning_rate 1e-3"
NOTHING = f"{SMALL} --adversarial_weight 0"
BEHIND = "--perceptual_layers blocks.0 blocks.1 blocks.2 blocks.4 blocks.6 bn2"
GOING_ON = f"{SMALL} --init_from {{start}} --discriminator_start 0 --adversarial_start 0.05 --adversarial_weight 0.3"
GAN = f"{GOING_ON} {BEHIND}"
DIFFUSION = "--first_guess {start}"
TEN = f"{NOTHING} --max_train_minutes 10"
RESNET = (
    f"{TEN} --encoder resnet50 --encoder_layers layer3 --encoder_weights {{resnet50}} --feature_cache_dir None "
    "--perceptual_layers act1 layer1 layer2 layer3"
)
EVERY_STEP = "--few_steps None --num_inference_steps 4 --denoising_weight 1"


@dataclasses.dataclass(frozen=True)
class Row:
    """One training: the script's flags over the quickstart preset.

    In them `{start}` stands for the row "start"'s pipeline, `{work}` for the folder of all, `{resnet50}` for a file.
    """

    name: str
    kind: str  # gan or diffusion
    flags: str
    guidance_scale: float | None = None
    of: str | None = None  # judged is the pipeline of this row

    @property
    def script(self) -> str:
        return f"examples/train_{self.kind}.py"

    @property
    def folder(self) -> str:
        return (self.of or self.name).replace(" ", "-").replace(",", "")


START = Row("start", "gan", NOTHING)
LIGHTER = Row("gan, adversary a third as heavy", "gan", f"{GAN} --adversarial_weight 0.1")
GUESSES = (START, LIGHTER)  # what other rows go on from
BETTER = f"--first_guess {{work}}/{LIGHTER.folder} --max_train_minutes 8"
# Each group is compared with its first row.
GROUPS = {
    "From nothing": [
        Row("from nothing", "gan", NOTHING),
        Row("from nothing, perceptual behind the hook too", "gan", f"{NOTHING} {BEHIND}"),
        Row("from nothing, normalisation log1p", "gan", f"{NOTHING} --feature_normalization log1p"),
        Row("from nothing, normalisation none", "gan", f"{NOTHING} --feature_normalization none"),
        Row("from nothing, two layers", "gan", f"{NOTHING} --encoder_layers blocks.2 blocks.4"),
        Row("from nothing, crops instead of a cache", "gan", f"{NOTHING} --feature_cache_dir None --random_crop"),
    ],
    "GAN, going on from the start": [
        Row("gan", "gan", GAN),
        START,
        Row("gan, pixel loss alone", "gan", f"{GAN} --perceptual_weight 0 --adversarial_weight 0"),
        Row("gan, perceptual to the hook", "gan", f"{GOING_ON} --adversarial_weight 0"),
        Row("gan, perceptual behind it too", "gan", f"{GAN} --adversarial_weight 0"),
        Row("gan, patch adversary", "gan", f"{GAN} --discriminator patch --adversarial_weight 0.02"),
        Row("gan, all to the hook", "gan", GOING_ON),
        LIGHTER,
        Row("gan, relativistic R1 R2", "gan", f"{GAN} --adversarial_loss relativistic --gradient_penalty 1"),
        Row("gan, adversary from half the run", "gan", f"{GAN} --adversarial_start 0.5"),
    ],
    "Diffusion on what the start lacks": [
        Row("diffusion", "diffusion", DIFFUSION),
        START,
        Row("diffusion, cross-attention", "diffusion", f"{DIFFUSION} --conditioning cross_attention"),
        Row("diffusion, both", "diffusion", f"{DIFFUSION} --conditioning both"),
        Row("diffusion, cross-attention without positions", "diffusion",
            f"{DIFFUSION} --conditioning cross_attention --no-feature_positions"),
        Row("diffusion, patches of 8", "diffusion", f"{DIFFUSION} --patch_size 8 --unet_block_out_channels 128 256"),
        Row("diffusion, v prediction", "diffusion", f"{DIFFUSION} --prediction_type v_prediction"),
        Row("diffusion, min-SNR", "diffusion", f"{DIFFUSION} --loss_weighting min_snr"),
        Row("diffusion, four steps", "diffusion", f"{DIFFUSION} --few_steps 4 --num_inference_steps 4"),
        Row("diffusion, without adversary", "diffusion", f"{DIFFUSION} --adversarial_weight 0"),
        Row("diffusion, perceptual at low noise", "diffusion",
            f"{DIFFUSION} --adversarial_weight 0 {EVERY_STEP} --perceptual_max_timestep 300"),
        Row("diffusion, denoising alone", "diffusion",
            f"{DIFFUSION} --adversarial_weight 0 {EVERY_STEP} --perceptual_weight 0 --condition_dropout 0.1"),
        Row("diffusion, denoising alone, guidance 1.5", "diffusion", "", 1.5, of="diffusion, denoising alone"),
        Row("diffusion, without a first guess", "diffusion", ""),
    ],
    "Normalisation, ten minutes from nothing, seed 1": [
        Row("ten minutes, normalisation channel, seed 1", "gan", f"{TEN} --seed 1"),
        Row("ten minutes, normalisation none, seed 1", "gan", f"{TEN} --seed 1 --feature_normalization none"),
    ],
    "Normalisation, ten minutes from nothing, seed 2": [
        Row("ten minutes, normalisation channel, seed 2", "gan", f"{TEN} --seed 2"),
        Row("ten minutes, normalisation none, seed 2", "gan", f"{TEN} --seed 2 --feature_normalization none"),
    ],
    "Normalisation, ten minutes from nothing, ResNet-50 layer3": [
        Row("ten minutes, resnet50, normalisation channel", "gan", RESNET),
        Row("ten minutes, resnet50, normalisation none", "gan", f"{RESNET} --feature_normalization none"),
    ],
    "Diffusion, eight minutes on a better guess": [
        Row("eight minutes, diffusion", "diffusion", BETTER),
        LIGHTER,
        Row("eight minutes, diffusion, cross-attention", "diffusion", f"{BETTER} --conditioning cross_attention"),
        Row("eight minutes, diffusion, patches of 8", "diffusion",
            f"{BETTER} --patch_size 8 --unet_block_out_channels 128 256"),
    ],
}  # fmt: skip


def main() -> None:
    options = parser(__doc__.splitlines()[0])
    options.add_argument("rows", nargs="*", metavar="ROW", help="names of rows (default: all)")
    options.add_argument("--minutes", type=float, default=10.0, help="budget of each training")
    options.add_argument("--start_minutes", type=float, default=20.0, help="budget of the start")
    options.add_argument("--image_size", type=int, default=224, help="crop, pixels; a multiple of 16")
    options.add_argument("--num_images", type=int, default=1000, help="validation photos that judge")
    options.add_argument("--resnet50_weights", help="safetensors file of timm's resnet50, which some rows are about")
    options.add_argument("--parallel", type=int, default=1, help="trainings side by side, each on its share of cores")
    options.add_argument("--work_dir", default="out/ablations", help="trained pipelines, feature cache, scores")
    options = options.parse_args()
    if not options.dataset:
        raise SystemExit("ablations need --dataset, a folder or Hub name with photos to train on")
    rows = {row.name: row for group in GROUPS.values() for row in group}
    unknown = [name for name in options.rows if name not in rows]
    if unknown:
        raise SystemExit(f"no row {unknown[0]!r}; rows: {', '.join(rows)}")
    chosen = [rows[name] for name in options.rows or rows]
    if not options.resnet50_weights:
        if options.rows and any("{resnet50}" in row.flags for row in chosen):
            raise SystemExit("a row on ResNet-50 needs --resnet50_weights FILE")
        chosen = [row for row in chosen if "{resnet50}" not in row.flags]
    work = Path(options.work_dir)
    train(START, options, work)
    if any(LIGHTER.folder in row.flags for row in chosen):
        train(LIGHTER, options, work)
    with ThreadPoolExecutor(options.parallel) as pool:
        list(pool.map(lambda row: train(row, options, work), chosen))
    scores = judge(chosen, options, work)
    PAGE.write_text(page(scores, options, work))
    sys.stdout.write(f"wrote {PAGE}; if it is new, add its line to index.md beside it\n")


def shared_flags(options, work: Path) -> str:
    """What all trainings' command lines begin with."""
    return (
        f"--preset quickstart --dataset_name {options.dataset} --feature_cache_dir {work / 'cache'} "
        f"--image_size {options.image_size} --resize_size {resize_size(options.image_size)} "
        f"--max_train_minutes {options.minutes:g} --lr_warmup_steps 20 --report_to none "
        "--resume_from_checkpoint latest"
    )


def own_flags(row: Row, options, work: Path) -> str:
    """What a row's command line adds to them; a flag's last value counts."""
    minutes = f"--max_train_minutes {options.start_minutes:g}" if row is START else ""
    flags = row.flags.format(work=work, start=work / START.folder, resnet50=options.resnet50_weights)
    return " ".join(f"{minutes} {flags} --output_dir {work / row.folder}".split())


def command(row: Row, options, work: Path) -> list[str]:
    """The training's command line, without its launcher."""
    return shlex.split(f"{row.script} {shared_flags(options, work)} {own_flags(row, options, work)}")


def train(row: Row, options, work: Path) -> None:
    """Train a row unless its pipeline is there."""
    if row.of is not None or (work / row.folder / "training.json").is_file():
        return
    work.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads_of_each(options))}
    sys.stdout.write(f"training: {row.name}\n")
    sys.stdout.flush()
    with (work / f"{row.folder}.log").open("w") as log:
        done = subprocess.run(
            [sys.executable, *command(row, options, work)], cwd=ROOT, env=environment, stdout=log, stderr=log
        )
    if done.returncode:
        raise SystemExit(f"training {row.name!r} failed; see {log.name}")


def threads_of_each(options) -> int:
    """Threads of one training: its share of this process's, which OMP_NUM_THREADS sets."""
    return max(1, torch.get_num_threads() // options.parallel)


def judge(rows: list[Row], options, work: Path) -> dict[str, dict]:
    """Scores of all rows ever judged in `work`, by name; those of `rows` are added where they are missing."""
    path = work / f"scores-{options.num_images}.json"
    scores = json.loads(path.read_text()) if path.is_file() else {}
    judge = None
    for row in rows:
        if row.name in scores:
            continue
        judge = judge or Judge(options.dataset, options.num_images, load_encoder(work))
        training = json.loads((work / row.folder / "training.json").read_text())
        own = judge.score_pipeline(work / row.folder, row.guidance_scale)
        scores[row.name] = {"images_seen": training["images_seen"], **own}
        path.write_text(json.dumps(scores))
    return scores


def load_encoder(work: Path):
    return load_pipeline(str(work / START.folder), torch.device("cpu"), "float32").encoder


def page(scores: dict[str, dict], options, work: Path) -> str:
    """The page's markdown: a table for each group with at least one judged row."""
    resnet = " --resnet50_weights FILE" if options.resnet50_weights else ""
    parts = [
        "# Ablations\n\nWritten by `python -m benchmarks.ablations --dataset DATA "
        f"--image_size {options.image_size} --minutes {options.minutes:g} --start_minutes {options.start_minutes:g} "
        f"--num_images {options.num_images} --parallel {options.parallel}{resnet}`. Every row is a training of the "
        f"quickstart preset, with a smaller generator, at {options.image_size} px, unless its flags say otherwise for "
        f"{options.minutes:g} minutes ({START.name}: {options.start_minutes:g}), on {threads_of_each(options)} of the "
        f"machine's cores ({options.parallel} side by side), judged on {options.num_images:,} validation photos; "
        "brackets are 95 % intervals, of means or, for the differences, of paired differences to the first row of "
        f"the table. {machine()}.\n"
    ]
    for title, rows in GROUPS.items():
        judged = [row for row in rows if row.name in scores]
        if judged:
            parts.append(section(title, judged, scores, options, work))
    return "\n".join(parts)


def section(title: str, rows: list[Row], scores: dict[str, dict], options, work: Path) -> str:
    first = scores[rows[0].name]
    header = ["row", "images seen", *METRICS.values(), "LPIPS, difference", "verifier, difference"]
    lines = []
    for row in rows:
        own = scores[row.name]
        means = [interval(bootstrap_mean(own[metric])) for metric in METRICS]
        differences = [
            "" if row is rows[0] else interval(paired_difference(own[metric], first[metric]), signed=True)
            for metric in ("lpips", "verifier_top1")
        ]
        lines.append([row.name, own["images_seen"], *means, *differences])
    commands = f'COMMON="{shared_flags(options, work)}"\n' + "\n".join(
        f"# {row.name}\naccelerate launch {row.script} $COMMON \\\n    {own_flags(row, options, work)}"
        for row in sorted(rows, key=lambda row: row not in GUESSES)
        if row.of is None
    )
    shown = commands.replace(str(options.dataset), "DATA").replace(str(work), "out/ablations")
    if options.resnet50_weights:
        shown = shown.replace(options.resnet50_weights, Path(options.resnet50_weights).name)
    return f"## {title}\n\n{table(header, lines)}\n```bash\n{shown}\n```\n"


def interval(value, signed: bool = False) -> str:
    sign = "+" if signed else ""
    return f"{value.mean:{sign}.3f} [{value.low:{sign}.3f}, {value.high:{sign}.3f}]"


if __name__ == "__main__":
    main()
