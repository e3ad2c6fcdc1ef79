"""Train the adversarial decoder.

accelerate launch examples/train_gan.py --output_dir feat2img-gan
accelerate launch examples/train_gan.py --dataset_name photos/ --validation_split None --output_dir my-gan
"""

import sys

from feat2img.training import GAN_PRESETS, parse_config, train


def main() -> None:
    train(parse_config(GAN_PRESETS, "Train a GAN that turns features back into images."))


if __name__ == "__main__":
    try:
        main()
    except ValueError as error:
        sys.exit(f"train_gan.py: error: {error}")
