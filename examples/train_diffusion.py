"""Train the diffusion decoder.

accelerate launch examples/train_diffusion.py --output_dir feat2img-diffusion
accelerate launch examples/train_diffusion.py --dataset_name photos/ --validation_split None --output_dir my-diffusion
"""

import sys

from feat2img.training import DIFFUSION_PRESETS, parse_config, train


def main() -> None:
    train(parse_config(DIFFUSION_PRESETS, "Train a diffusion model that turns features back into images."))


if __name__ == "__main__":
    try:
        main()
    except ValueError as error:
        sys.exit(f"train_diffusion.py: error: {error}")
