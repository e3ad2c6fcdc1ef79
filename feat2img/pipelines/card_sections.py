"""The sections of a model card, in Markdown."""

from pathlib import Path
from typing import TYPE_CHECKING

import timm
import torch
from safetensors import safe_open

if TYPE_CHECKING:
    from .base import Feat2ImgPipeline

TRAINING_NAME = "training.json"  # what the training wrote
FLOATS = {"F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64"}  # safetensors' names


def about_section(pipeline: "Feat2ImgPipeline") -> str:
    shape = " x ".join(map(str, _feature_shape(pipeline)))
    size = pipeline.image_size
    way = {
        "gan": "in one pass of a generator that was trained adversarially",
        "diffusion": "by a diffusion model that denoises an image step by step, the features as its condition",
    }[pipeline.kind]
    return (
        f"Turns feature maps of a vision network, {shape} numbers for a photograph, back into "
        f"images of {size} x {size} pixels, {way}. What comes back shows what the features still hold."
    )


def use_section(pipeline: "Feat2ImgPipeline", name: str) -> str:
    made = f"(1, {', '.join(map(str, _feature_shape(pipeline)))})"
    lines = ["from feat2img import Feat2ImgPipeline", "", f'pipe = Feat2ImgPipeline.from_pretrained("{name}")']
    if pipeline.encoder is not None:
        lines = ["from PIL import Image", *lines, f'features = pipe.encode(Image.open("photo.jpg"))  # {made}']
    else:
        lines += [f"features = ...  # {made}, of the network that it was trained with"]
    lines += ['pipe(features=features).images[0].save("reconstruction.png")']
    text = "## How to use\n\nWith the library `feat2img`:\n\n```python\n" + "\n".join(lines) + "\n```"
    shell = f"feat2img reconstruct {name} photo.jpg --output_dir out"
    return text + (f"\n\n```bash\n{shell}\n```" if pipeline.encoder is not None else "")


def parts_section(pipeline: "Feat2ImgPipeline", folder: Path) -> str:
    rows = [("features", " x ".join(map(str, _feature_shape(pipeline))))]
    if pipeline.encoder is not None:
        config = pipeline.encoder.config
        rows.insert(0, ("encoder", f"timm `{config.model_name}`, {', '.join(f'`{x}`' for x in config.layers)}"))
    rows.append(("images", f"{pipeline.image_size} px; photos: short side to {pipeline.resize_size} px, centre crop"))
    for name, part in pipeline.components.items():
        if isinstance(part, torch.nn.Module):
            count = sum(parameter.numel() for parameter in part.parameters())
            rows.append((f"parameters of the {name}", f"{count:,} ({_saved_as(folder / name, part)})"))
    if pipeline.kind == "diffusion":
        rows.append(("scheduler", type(pipeline.scheduler).__name__))
        rows.append(("denoising steps", str(pipeline.config.num_inference_steps)))
    return "## What it is made of\n\n" + _table(("", ""), rows)


def _saved_as(folder: Path, part: torch.nn.Module) -> str:
    """The floating-point types in a component's weights; a pipeline in memory may have been loaded as another type."""
    kinds = set()
    for path in folder.glob("*.safetensors"):
        with safe_open(path, framework="pt") as weights:
            kinds |= {weights.get_slice(name).get_dtype() for name in weights.keys()}  # noqa: SIM118 - no mapping
    floats = sorted(FLOATS[kind] for kind in kinds & FLOATS.keys())
    return " and ".join(floats) or str(part.dtype).removeprefix("torch.")


def training_section(training: dict | None) -> str:
    if training is None:
        return "## Training\n\nThis folder holds no record of a training."
    config = training["config"]
    rows = [
        ("data set", f"{_public(config['dataset_name'])}, split {config['train_split']}"),
        ("steps", f"{training['steps']:,}"),
        ("images seen", f"{training['images_seen']:,}"),
        ("minutes", f"{training['minutes']:,}"),
        ("device", f"{training['device']}, {training['num_processes']} process(es)"),
    ]
    shown = (
        "train_batch_size", "gradient_accumulation_steps", "learning_rate", "lr_scheduler", "mixed_precision",
        "use_ema", "ema_decay", "perceptual_weight", "adversarial_weight", "prediction_type", "conditioning", "seed",
    )  # fmt: skip
    rows += [(f"`{name}`", str(config[name])) for name in shown if name in config]
    return f"## Training\n\n{_table(('', ''), rows)}\n\nEvery setting: [{TRAINING_NAME}]({TRAINING_NAME})."


def results_section(evaluation: dict | None) -> str:
    if evaluation is None:
        return "## Results\n\nNot measured yet: `feat2img compare` measures, `feat2img card --results` writes it here."
    metrics = {metric["type"]: metric for row in evaluation["rows"] for metric in row["metrics"]}
    arrows = {True: " ↑", False: " ↓", None: ""}
    head, columns = ["metric"], []
    for row in evaluation["rows"]:
        head.append(steps_text(row["num_inference_steps"]) or "value [95 % interval]")
        columns.append({metric["type"]: _with_interval(metric) for metric in row["metrics"]})
    rows = [
        [metric["name"] + arrows[metric["higher_is_better"]], *(column.get(name, "-") for column in columns)]
        for name, metric in metrics.items()
    ]
    count = evaluation["rows"][0]["num_images"]
    where = _public(evaluation["dataset"]) + (f", split {evaluation['split']}" if evaluation["split"] else "")
    judge = f" The verifier is `{evaluation['verifier']}`." if evaluation.get("verifier") else ""
    return (
        f"## Results\n\n{_table(head, rows)}\n\nMeans over {count:,} photos of {where}; brackets are 95 % bootstrap "
        f"intervals.{judge}"
    )


def limits_section(pipeline: "Feat2ImgPipeline", training: dict | None) -> str:
    lines = [
        "- What the features do not hold is made up: a reconstruction is no evidence of what a photograph showed.",
        "- Photographs unlike those of the training come back less well.",
        "- Features are not anonymous: whoever has them and such a decoder sees much of the photograph.",
        "- It takes the features of its own encoder only, and refuses another one.",
    ]
    if ((training or {}).get("config") or {}).get("perceptual_weight"):
        lines.append("- The encoder itself took part in the loss, so that feature cosine flatters this decoder.")
    return "## Limits\n\n" + "\n".join(lines)


def licence_section(pipeline: "Feat2ImgPipeline", training: dict | None, license: str | None) -> str:
    own = f"{license}." if license else "Whoever publishes this model has named no licence for it."
    encoder = ""
    untrained = ((training or {}).get("config") or {}).get("encoder_random_weights")
    if pipeline.encoder is not None and not untrained:
        name = pipeline.encoder.config.model_name
        cfg = timm.get_pretrained_cfg(name)
        terms = cfg.license if cfg is not None else None
        encoder = f" It holds weights of timm's `{name}`" + (f", which timm lists as {terms}." if terms else ".")
    return f"## Licence\n\n{own}{encoder}"


def is_hub_data_set(name: str) -> bool:
    return name.count("/") == 1 and not name.startswith((".", "/", "~")) and not Path(name).expanduser().exists()


def _public(data_set: str) -> str:
    if is_hub_data_set(data_set):
        return f"[{data_set}](https://huggingface.co/datasets/{data_set})"
    return f"`{Path(data_set).name}` (a folder)" if "/" in data_set else data_set


def _feature_shape(pipeline: "Feat2ImgPipeline") -> tuple[int, ...]:
    config = pipeline.projector.config
    return (config.feature_channels, *config.feature_size)


def steps_text(steps: int | None) -> str:
    return "" if steps is None else f"{steps} step{'s' * (steps != 1)}"


def _with_interval(metric: dict) -> str:
    digits = metric.get("digits", 3)
    value = f"{metric['value']:.{digits}f}"
    if metric.get("low") is None or metric.get("high") is None:
        return value
    return f"{value} [{metric['low']:.{digits}f}, {metric['high']:.{digits}f}]"


def _table(head, rows) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
