"""Run a command of the documentation at tiny size: `python small.py feat2img compare ...`.

The one place that says how commands differ from what readers type: flags are appended (the last one counts), data sets
that are not here are replaced by the folder `photos`, and launchers run on this CPU.
"""

import os
import subprocess
import sys
from pathlib import Path

PHOTOS = "photos"
MOST_STEPS = 8  # a smaller --max_train_steps is kept as it stands
TRAINING = [
    *("--encoder", "test_resnet.r160_in1k", "--encoder_layers", "layer3", "--encoder_random_weights"),
    *("--encoder_weights", "None", "--image_size", "64", "--resize_size", "64", "--max_train_samples", "8"),
    *("--train_batch_size", "2", "--num_validation_images", "2", "--dataloader_num_workers", "0"),
    *("--projector_channels", "32", "--projector_blocks", "1", "--max_train_minutes", "None"),
    *("--perceptual_layers", "layer1", "layer2", "--mixed_precision", "no"),
]
DIFFUSION = ["--unet_block_out_channels", "32", "64", "--num_attention_heads", "4", "--token_dim", "32"]
SHIPPED = {"examples/quickstart/gan": "256", "examples/quickstart/diffusion": "128"}  # widths of their projectors
NETWORK = ["--encoder", "test_resnet", "--random_weights", "--layers", "layer1", "layer2"]
SMALL = ["--num_train_images", "2", "--num_images", "2"]
SMALL_IMAGES = ["--image_size", "64", "--resize_size", "64"]
COMMANDS = {
    "compare": ["--num_images", "2", "--verifier", "none", "--baseline_images", "2", "--latency_batch_size", "2"],
    "sweep": [*NETWORK, *SMALL, "--verifier", "none"],
}


def with_data(arguments: list[str], flag: str) -> list[str]:
    """Append the photos of the test, unless the arguments name a folder that is here."""
    named = arguments[arguments.index(flag) + 1] if flag in arguments else ""
    return arguments if named == "scikit-image" or Path(named).is_dir() and named else [*arguments, flag, PHOTOS]


def small_training(script: str, arguments: list[str]) -> list[str]:
    """A training script's arguments, for two steps on a few photos."""
    shipped = [path for path in SHIPPED if path in arguments]  # goes over to the small network as large as it is
    extra = [*TRAINING, *(DIFFUSION if "diffusion" in script and not shipped else [])]
    for path in shipped:
        extra += ["--projector_channels", SHIPPED[path]]
    given = arguments[arguments.index("--max_train_steps") + 1] if "--max_train_steps" in arguments else "1000"
    if int(given) > MOST_STEPS:
        extra += ["--max_train_steps", "2"]
    return [*with_data(arguments, "--dataset_name"), *extra]


def small_command(arguments: list[str]) -> list[str]:
    """The arguments of `feat2img`, on two photos."""
    command, rest = arguments[0], arguments[1:]
    if command in ("compare", "sweep"):
        rest = with_data(rest, "--dataset")
    if command == "sweep" and "--decoder" not in rest:  # which makes images of its own size
        rest += SMALL_IMAGES
    return [command, *rest, *COMMANDS.get(command, [])]


def serve_until_ready(command: list[str]) -> int:
    """Start a server, wait until it says where it runs, and end it."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    line = process.stdout.readline()
    process.terminate()
    process.wait(60)
    print(line, end="")
    return 0 if "http://" in line else 1


def main(program: str, arguments: list[str]) -> int:
    if program == "feat2img":
        command = [sys.executable, "-m", "feat2img.cli", *small_command(arguments)]
        return serve_until_ready(command) if arguments[0] == "app" else subprocess.call(command)
    if program == "torchrun" and "-m" in arguments:
        place = arguments.index("-m") + 2
        rest = small_command(arguments[place:])
        return subprocess.call([sys.executable, "-m", "torch.distributed.run", *arguments[:place], *rest])
    place = next(i for i, argument in enumerate(arguments) if argument.endswith(".py"))
    script, rest = arguments[place], small_training(arguments[place], arguments[place + 1 :])
    if program == "torchrun":
        return subprocess.call([sys.executable, "-m", "torch.distributed.run", *arguments[:place], script, *rest])
    launcher = [sys.executable]  # accelerate's own starts Python twice: only where there is something for it to read
    if "--config_file" in arguments:
        launcher += ["-m", "accelerate.commands.launch", "--cpu"]
    return subprocess.call([*launcher, script, *rest], env={**os.environ, "ACCELERATE_USE_CPU": "true"})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
