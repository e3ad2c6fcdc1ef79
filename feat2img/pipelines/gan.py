"""Feature map => image in one forward pass of an adversarially trained generator."""

import torch
from PIL import Image

from ..features.encoder import TimmFeatureEncoder
from ..models.generator import FeatureGenerator
from ..models.projector import FeatureProjector
from .base import Feat2ImgPipeline, Feat2ImgPipelineOutput


class Feat2ImgGANPipeline(Feat2ImgPipeline):
    """Reconstruct images from features with a generator.

    Args:
        encoder: the network that the features come from; None for users who bring features.
        projector: features => spatial map.
        generator: spatial map => image.
        image_size, resize_size: centre crop and short side in pixels for `images=...`.
    """

    kind = "gan"
    model_cpu_offload_seq = "encoder->projector->generator"

    def __init__(
        self,
        encoder: TimmFeatureEncoder | None,
        projector: FeatureProjector,
        generator: FeatureGenerator,
        image_size: int = 224,
        resize_size: int = 256,
    ):
        super().__init__()
        self.check_encoder(encoder, projector)
        self.register_modules(encoder=encoder, projector=projector, generator=generator)
        self.register_to_config(image_size=image_size, resize_size=resize_size)

    @torch.no_grad()
    def __call__(
        self,
        images: Image.Image | list[Image.Image] | torch.Tensor | None = None,
        features: torch.Tensor | None = None,
        generator: torch.Generator | list[torch.Generator] | None = None,
        num_images_per_feature: int = 1,
        output_type: str = "pil",
        return_dict: bool = True,
    ) -> Feat2ImgPipelineOutput | tuple:
        """Reconstruct.

        Args:
            images: photos to encode and reconstruct, see `encode`.
            features: or the features themselves, (B, C, h, w).
            generator: taken for the interface's sake; this decoder draws no random numbers.
            num_images_per_feature: images per feature map, next to each other, at most 1,000; here they are equal.
            output_type: "pil", "np" or "pt".
            return_dict: False returns a plain tuple.
        """
        self.check_inputs(images, features, num_images_per_feature, output_type, generator)
        features = self.prepare_features(images, features)
        pixels = self.generator(self.projector(features).map)
        return self.output(pixels.repeat_interleave(num_images_per_feature, dim=0), output_type, return_dict)
