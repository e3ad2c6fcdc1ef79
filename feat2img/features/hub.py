"""Whether timm's weights can be had, told at once: without a network the Hub's client tries again for a minute."""

import urllib.error
import urllib.request

import huggingface_hub
import timm
from huggingface_hub import constants

CONNECT_SECONDS = 5
WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")


def check_weights_within_reach(model_name: str) -> None:
    """Raises ConnectionError when timm's weights of a network are not in the cache and the Hub does not answer."""
    cfg = timm.get_pretrained_cfg(model_name)
    if cfg is None or not cfg.hf_hub_id or constants.HF_HUB_OFFLINE:
        return
    if any(isinstance(huggingface_hub.try_to_load_from_cache(cfg.hf_hub_id, name), str) for name in WEIGHT_FILES):
        return
    try:
        request = urllib.request.Request(constants.ENDPOINT, method="HEAD")
        with urllib.request.urlopen(request, timeout=CONNECT_SECONDS):
            return
    except urllib.error.HTTPError:
        return  # an answer
    except OSError as error:
        reason = getattr(error, "reason", error)
        raise ConnectionError(f"{constants.ENDPOINT} does not answer: {reason}") from error
