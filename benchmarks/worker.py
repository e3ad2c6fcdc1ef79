"""One of several processes that train together; the first prints the images per second of all of them as JSON."""

import argparse
import dataclasses
import json
import time

from feat2img.training import DIFFUSION_PRESETS

from .training_step import OurLoop


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", required=True)
    parser.add_argument("--output_dir", required=True)
    parser.add_argument("--batch", type=int, required=True, help="per process")
    parser.add_argument("--steps", type=int, default=6)
    args = parser.parse_args()
    config = dataclasses.replace(
        DIFFUSION_PRESETS["quickstart"], dataset_name=args.photos, encoder_random_weights=True, report_to="none",
        validation_split=None, num_validation_images=1, max_train_minutes=None, max_train_steps=1_000_000,
        train_batch_size=args.batch, output_dir=args.output_dir, feature_cache_dir=f"{args.output_dir}/cache",
    )  # fmt: skip
    loop = OurLoop(config)
    for _ in range(2):
        loop.step()
    accelerator = loop.run.accelerator
    accelerator.wait_for_everyone()
    start = time.perf_counter()
    for _ in range(args.steps):
        loop.step()
    accelerator.wait_for_everyone()
    seconds = time.perf_counter() - start
    if accelerator.is_main_process:
        images = args.batch * args.steps * accelerator.num_processes
        print(json.dumps({"processes": accelerator.num_processes, "images_per_second": images / seconds}))


if __name__ == "__main__":
    main()
