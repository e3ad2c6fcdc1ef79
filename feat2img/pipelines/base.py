"""What both pipelines share: loading by name, preprocessing, checks, post-processing."""

import math
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from diffusers import DiffusionPipeline
from diffusers.image_processor import VaeImageProcessor
from diffusers.utils import BaseOutput
from PIL import Image

from ..data import ImageTransform
from ..features import TimmFeatureEncoder, fingerprint_distance
from ..models import FeatureProjector
from .card import carry_documents, hide_places, write_card
from .checks import check_links, check_scheduler, check_sizes, check_weights, read_json
from .hub import (
    HUB_OPTIONS,
    INDEX_NAME,
    fetch_index,
    fetch_pipeline,
    first_line,
    is_hub_name,
    make_repository,
    upload,
)

MOST_IMAGES_PER_FEATURE = 1000
# The closed list of what an index may name. The module paths are the file format of saved pipelines: do not move them.
COMPONENTS = {
    "encoder": (("feat2img.features.encoder", "TimmFeatureEncoder"),),
    "projector": (("feat2img.models.projector", "FeatureProjector"),),
    "generator": (("feat2img.models.generator", "FeatureGenerator"),),
    "unet": (("diffusers", "UNet2DConditionModel"),),
    "guess_projector": (("feat2img.models.projector", "FeatureProjector"),),
    "guess_generator": (("feat2img.models.generator", "FeatureGenerator"),),
}
# bfloat16 moves features by up to 5 %, float16 by under 1 %; another network, even an untrained twin, by 20 % or more.
FINGERPRINT_TOLERANCE = 0.1


@dataclass
class Feat2ImgPipelineOutput(BaseOutput):
    """`images`: list of PIL images, float array (B, S, S, 3) or float tensor (B, 3, S, S), both in [0, 1]."""

    images: list[Image.Image] | np.ndarray | torch.Tensor


class Feat2ImgPipeline(DiffusionPipeline):
    """Base of the two decoders. `Feat2ImgPipeline.from_pretrained` returns the subclass that the folder holds."""

    kind: str
    if TYPE_CHECKING:  # the subclasses' own

        def __call__(self, *args: Any, **kwargs: Any) -> Any: ...

    encoder: TimmFeatureEncoder | None
    projector: FeatureProjector
    _optional_components = ["encoder"]

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **kwargs) -> "Feat2ImgPipeline":
        """Load a GAN or diffusion pipeline from a folder or from the Hub.

        Args:
            pretrained_model_name_or_path: a folder written by `save_pretrained`, or "user/name" on the Hub.
            kwargs: as for `DiffusionPipeline.from_pretrained`: `torch_dtype`, `revision`, `token`, `cache_dir`,
                `local_files_only`, ..., and components to put in place of saved ones (`encoder=None` leaves it out).

        Raises:
            ValueError: not a feat2img pipeline, a file is missing or damaged, the encoder is not the one that the
                decoder was trained with, or `cls` is the other kind of pipeline.
        """
        folder = Path(pretrained_model_name_or_path).expanduser()
        if not folder.is_dir():
            hub_options = {k: kwargs.pop(k) for k in list(kwargs) if k in HUB_OPTIONS}
            folder = Path(cls.download(str(pretrained_model_name_or_path), **hub_options))
        index = read_index(folder)
        pipeline_class = _pipeline_class(cls, index, folder)
        _check_components(index, folder, skip=set(kwargs))
        kwargs["use_safetensors"] = True
        try:
            return super(Feat2ImgPipeline, pipeline_class).from_pretrained(  # type: ignore[misc]
                str(folder), **kwargs
            )
        except (OSError, RuntimeError, KeyError, TypeError, AttributeError, ImportError) as error:
            raise ValueError(
                f"{folder} cannot be loaded, a file is damaged or does not fit the others: {first_line(error)}; "
                "copy or download it again"
            ) from error

    @classmethod
    def download(cls, pretrained_model_name: str, **kwargs) -> str:
        """Fetch a pipeline's JSON and safetensors files from the Hub and return the local folder.

        Args:
            pretrained_model_name: "user/name".
            kwargs: `revision`, `token`, `cache_dir`, `force_download`, `local_files_only`.

        Raises:
            ValueError: no such repository, no permission, no answer, or no feat2img pipeline; then nothing else of it
                is fetched.
        """
        name = str(pretrained_model_name)
        if not is_hub_name(name):
            raise ValueError(
                f"{name} is neither a folder nor a Hub repository; "
                "give a folder that `save_pretrained` wrote, or user/name"
            )
        options = {k: v for k, v in kwargs.items() if k in HUB_OPTIONS and v is not None}
        _pipeline_class(cls, read_index(fetch_index(name, **options).parent), name)
        return str(fetch_pipeline(name, **options))

    def save_pretrained(self, save_directory: str | Path, push_to_hub: bool = False, **kwargs) -> None:
        """Write components, `model_index.json` and a model card (README.md) to a folder.

        Args:
            save_directory: made if need be. What the folder that the pipeline was loaded from says of its training
                and its figures goes along.
            push_to_hub: upload as well; `repo_id` (default: the folder's name) and `push_to_hub`'s other options
                may follow.
            kwargs: as for `DiffusionPipeline.save_pretrained`: `max_shard_size`, `variant`.
        """
        if not kwargs.pop("safe_serialization", True):
            raise ValueError("feat2img writes and loads safetensors only; leave out safe_serialization=False")
        folder = Path(save_directory)
        hub_options = {name: kwargs.pop(name) for name in ("repo_id", *_PUSH_OPTIONS) if name in kwargs}
        super().save_pretrained(str(folder), **kwargs)
        carry_documents(Path(self.name_or_path) if self.name_or_path else None, folder)
        write_card(self, folder)
        if push_to_hub:
            self.push_to_hub(hub_options.pop("repo_id", folder.resolve().name), **hub_options)

    def push_to_hub(
        self,
        repo_id: str,
        commit_message: str | None = None,
        private: bool | None = None,
        token: str | None = None,
        create_pr: bool = False,
        revision: str | None = None,
        license: str | None = None,
    ) -> str:
        """Upload the pipeline with its model card in one commit, and return the commit's address.

        Args:
            repo_id: "user/name", or "name" under your own; made if need be.
            commit_message: default: "Upload Feat2Img...Pipeline".
            private: whether a repository that is made is private; None: as your account has it.
            token: default: the one that `hf auth login` stored, or HF_TOKEN.
            create_pr: open a pull request.
            revision: branch to commit to, made if need be.
            license: for the card, an identifier of the Hub such as "apache-2.0".

        Raises:
            ValueError: the Hub refuses, fails or does not answer.
        """
        repo_id = make_repository(repo_id, private, token)
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            hide_places(Path(folder))
            write_card(self, folder, repo_id, license)
            message = commit_message or f"Upload {type(self).__name__}"
            return upload(Path(folder), repo_id, message, revision, create_pr, token)

    @property
    def image_size(self) -> int:
        """Height and width of the images in pixels."""
        return self.config.image_size

    @property
    def resize_size(self) -> int:
        """Short side in pixels to which a photo is resized before its centre is cropped."""
        return self.config.resize_size

    @torch.no_grad()
    def encode(self, images: Image.Image | list[Image.Image] | torch.Tensor) -> torch.Tensor:
        """Features of images, as `pipe(features=...)` takes them.

        Args:
            images: PIL images of any size, or a float tensor (B, 3, S, S) in [-1, 1] of `image_size`.

        Returns:
            Tensor (B, C, h, w).
        """
        if self.encoder is None:
            raise ValueError("this pipeline was loaded without its encoder; load it with one or pass features=...")
        if isinstance(images, Image.Image):
            images = [images]
        if not isinstance(images, torch.Tensor | list | tuple):
            raise ValueError(
                f"images is a {type(images).__name__}; pass PIL images or a tensor (B, 3, S, S) in [-1, 1]"
            )
        if not isinstance(images, torch.Tensor):
            unknown = [type(image).__name__ for image in images if not isinstance(image, Image.Image)]
            if unknown or not len(images):
                found = unknown[0] if unknown else "an empty list"
                raise ValueError(f"images holds {found}; pass PIL images or a tensor (B, 3, S, S) in [-1, 1]")
            transform = ImageTransform(self.image_size, self.resize_size)
            images = torch.stack([transform(image) for image in images])
        if not images.is_floating_point():
            raise ValueError(f"images is a tensor of {images.dtype}; pass float pixels in [-1, 1]")
        return self.encoder(images.to(self._execution_device, self.encoder.dtype))

    def check_inputs(self, images, features, num_images_per_feature: int, output_type: str, generator) -> None:
        if (images is None) == (features is None):
            raise ValueError("pass either images=... or features=..., not both and not neither")
        if features is not None and not torch.is_tensor(features):
            raise ValueError(f"features is a {type(features).__name__}; expected a tensor (batch, channels, h, w)")
        if features is not None and not (features.is_floating_point() and features.ndim and len(features)):
            raise ValueError(
                f"features is a tensor of {features.dtype} and shape {tuple(features.shape)}; "
                "expected floats (batch, channels, h, w), at least one of them"
            )
        if features is not None and not torch.isfinite(features).all():
            raise ValueError("features hold NaN or infinity; check the network that they come from")
        if type(num_images_per_feature) is not int or not 1 <= num_images_per_feature <= MOST_IMAGES_PER_FEATURE:
            raise ValueError(
                f"num_images_per_feature is {num_images_per_feature}; expected a whole number from 1 to "
                f"{MOST_IMAGES_PER_FEATURE}, which are in memory together"
            )
        if output_type not in ("pil", "np", "pt"):
            raise ValueError(f"output_type is {output_type!r}; choose 'pil', 'np' or 'pt'")
        generators = generator if isinstance(generator, list) else [] if generator is None else [generator]
        if not all(isinstance(one, torch.Generator) for one in generators):
            raise ValueError(f"generator is {generator!r}; pass a torch.Generator, or a list with one for each image")
        given = images if features is None else features
        if isinstance(generator, list) and isinstance(given, Image.Image | list | tuple | torch.Tensor):
            expected = (1 if isinstance(given, Image.Image) else len(given)) * num_images_per_feature
            if len(generator) != expected:
                raise ValueError(f"{len(generator)} generators for {expected} images; pass one generator or one each")

    def prepare_features(self, images, features) -> torch.Tensor:
        features = self.encode(images) if features is None else features
        return features.to(self._execution_device, self.projector.dtype)

    def check_encoder(self, encoder: TimmFeatureEncoder | None, projector: FeatureProjector) -> None:
        """Refuse an encoder whose features are not those the decoder was trained with."""
        if encoder is None:
            return
        config = projector.config
        expected_shape = (config.feature_channels, *config.feature_size)
        name = f"{encoder.config.model_name} {'+'.join(encoder.config.layers)}"
        if tuple(encoder.feature_shape) != expected_shape:
            raise ValueError(
                f"encoder {name} gives features {tuple(encoder.feature_shape)}, the decoder was trained on "
                f"{expected_shape}; use the encoder it was trained with"
            )
        if config.encoder_fingerprint is None:
            return
        distance = fingerprint_distance(encoder.fingerprint(), config.encoder_fingerprint)
        if not math.isfinite(distance) or distance > FINGERPRINT_TOLERANCE:
            raise ValueError(
                f"encoder {name} gives other features than the one this decoder was trained with (relative distance "
                f"{distance:.2f} on a fixed image, at most {FINGERPRINT_TOLERANCE}): its weights or its normalisation "
                "differ; use the encoder it was trained with"
            )

    def output(self, pixels: torch.Tensor, output_type: str, return_dict: bool):
        """(B, 3, S, S) in [-1, 1] => the output class, values clamped to [0, 1]."""
        if not torch.isfinite(pixels).all():
            raise ValueError(
                f"the {self.kind} decoder gave images that are not finite in {self.projector.dtype}: use float32 "
                "(--dtype float32), and features as `encode` gives them"
            )
        images = VaeImageProcessor(do_resize=False).postprocess(pixels.float(), output_type=output_type)
        return Feat2ImgPipelineOutput(images=images) if return_dict else (images,)


_PUSH_OPTIONS = ("commit_message", "private", "token", "create_pr", "revision", "license")


def read_index(folder: Path) -> dict:
    """The parsed `model_index.json` of a pipeline folder."""
    path = folder / INDEX_NAME
    if not path.is_file():
        raise ValueError(f"{folder} has no {INDEX_NAME}; expected a folder that `save_pretrained` wrote")
    return read_json(path)


def _pipeline_class(cls, index: dict, folder: Path | str) -> type:
    classes = {subclass.__name__: subclass for subclass in Feat2ImgPipeline.__subclasses__()}
    name = str(index.get("_class_name"))
    if name not in classes:
        raise ValueError(f"{folder} holds a {name}, not a feat2img pipeline ({' or '.join(sorted(classes))})")
    if not issubclass(classes[name], cls):
        raise ValueError(f"{folder} holds a {name}, not a {cls.__name__}; use Feat2ImgPipeline.from_pretrained")
    return classes[name]


def _check_components(index: dict, folder: Path, skip: set[str]) -> None:
    check_links(folder)
    check_sizes(index, folder)
    for name, value in index.items():
        if not isinstance(value, list) or name in skip or value == [None, None]:
            continue
        known = COMPONENTS.get(name)
        is_scheduler = name == "scheduler" and value[:1] == ["diffusers"] and str(value[-1]).endswith("Scheduler")
        if not is_scheduler and (known is None or tuple(value) not in known):
            raise ValueError(f"{folder / INDEX_NAME} names {value} as {name}, which is no component of feat2img")
        component = folder / name
        needed = [component / "scheduler_config.json"] if is_scheduler else [component / "config.json"]
        missing = [str(path.relative_to(folder)) for path in needed if not path.is_file()]
        if not is_scheduler and not any(component.glob("*.safetensors")):
            missing.append(f"{name}/diffusion_pytorch_model.safetensors")
        if missing:
            raise ValueError(f"{folder} lacks {', '.join(missing)}; copy or download it again")
        if is_scheduler:
            check_scheduler(value[-1], needed[0])
        else:
            module, class_name = value
            check_weights(getattr(sys.modules[module], class_name), component)
