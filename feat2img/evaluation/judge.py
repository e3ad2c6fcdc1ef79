"""Everything that judges: the metrics, the verifier, and the network whose features describe sets of images."""

import torch
from torch import Tensor

from .scorer import ImageScorer
from .verifier import Opinion, Verifier, VerifierUnavailable, agreement

VERIFIER_METRICS = ("verifier_top1", "verifier_top5")
SET_METRICS = ("kid", "frechet")


class Judge:
    """Scores reconstructions alike for all contenders; what cannot be measured is in `left_out`.

    Args:
        class_names: of the data set, in the order of its labels; empty where there are none.
        verifier: timm classifier; None leaves its metrics out.
        verifier_weights: local safetensors file.
        set_network: timm network whose features describe sets; None takes the verifier.
    """

    def __init__(
        self,
        device: torch.device,
        class_names: list[str],
        verifier: str | None = None,
        verifier_weights: str | None = None,
        set_network: str | None = None,
    ):
        self.scorer = ImageScorer(device)
        self.left_out = self.scorer.left_out
        self.verifier = self.set_network = None
        if verifier is not None:
            self.verifier = self._load(verifier, verifier_weights, device, VERIFIER_METRICS)
        if set_network in (None, verifier):
            self.set_network = self.verifier
        else:
            self.set_network = self._load(set_network, None, device, SET_METRICS)
        self.class_indices = self.verifier.class_indices(class_names) if self.verifier else None

    def _load(self, name: str, weights: str | None, device: torch.device, metrics: tuple[str, ...]) -> Verifier | None:
        try:
            return Verifier(name, weights, device)
        except VerifierUnavailable as error:
            self.left_out |= {metric: str(error) for metric in metrics}
            return None

    def opinions(self, images: Tensor) -> dict[str, Opinion]:
        """What the networks see in uint8 images (B, 3, H, W): "verifier" and "sets", where there are such networks."""
        opinions = {}
        if self.verifier is not None:
            opinions["verifier"] = self.verifier(images)
        if self.set_network is not None:
            same = self.set_network is self.verifier
            opinions["sets"] = opinions["verifier"] if same else self.set_network(images)
        return opinions

    def true_label(self, opinions: dict[str, Opinion], labels: Tensor) -> dict[str, Tensor]:
        """Whether the verifier's best class is the photo's own: float (B,), where the classes are known to it."""
        if self.class_indices is None or (labels < 0).any():
            return {}
        best = opinions["verifier"].classes[:, 0].cpu()
        return {"true_label_top1": (best == torch.tensor(self.class_indices)[labels]).float()}

    def __call__(self, images: Tensor, features: Tensor, batch) -> tuple[dict[str, Tensor], Tensor | None]:
        """Scores of a batch's reconstructions, (B,) each, and their pooled features (B, D) for comparing sets.

        Args:
            images: uint8 (B, 3, H, W).
            features: the encoder's features of them.
            batch: the originals, see `contender.Batch`.
        """
        scores = self.scorer(images, batch.targets, features, batch.features)
        opinions = self.opinions(images)
        if "verifier" in opinions:
            scores |= agreement(opinions["verifier"], batch.opinions["verifier"])
            scores |= self.true_label(opinions, batch.labels)
        return scores, opinions["sets"].features if "sets" in opinions else None

    def describe(self) -> dict:
        """What decides the scores beside the images, as plain JSON."""
        networks = {"verifier": self.verifier, "sets": self.set_network}
        return {
            "networks": {key: net and [net.name, net.weights_hash()] for key, net in networks.items()},
            "class_indices": self.class_indices,
            "lpips": self.scorer.lpips_network is not None,
            "dists": self.scorer.dists_network is not None,
        }
