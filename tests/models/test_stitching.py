import torch

from feat2img.features.regression import RELATIVE_PENALTY
from feat2img.models import Stitching

COARSE = torch.rand(80, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
PIXELS = torch.nn.functional.interpolate(COARSE, (32, 32), mode="nearest")


def test_another_size_of_photo_and_of_grid(make_gan, make_encoder):
    """The known network sees the photo at its own size; what it gives is brought to the new grid."""
    given = make_gan(make_encoder(image_size=32))
    encoder = make_encoder(layers=("layer1",), image_size=32)
    own = make_gan(encoder).projector
    assert own.config.feature_size != given.projector.config.feature_size
    stitching = Stitching(given.encoder, given.projector, own)
    pixels = torch.nn.functional.interpolate(PIXELS, (64, 64), mode="nearest")
    stitching.update(encoder(PIXELS).detach(), pixels)
    stitching.finish()
    with torch.no_grad():
        inputs = encoder(PIXELS)
        seen = torch.nn.functional.interpolate(pixels, (32, 32), mode="bilinear", antialias=True)
        hidden = given.projector.stem(given.projector.normalize(given.encoder(seen)))
        found = own.stem(own.normalize(inputs))
    targets = torch.nn.functional.interpolate(hidden, inputs.shape[2:], mode="bilinear")
    x, y, found = (cells.permute(0, 2, 3, 1).flatten(0, 2).double() for cells in (inputs, targets, found))
    centred = x - x.mean(0)
    penalty = RELATIVE_PENALTY * centred.square().sum(0).mean() * torch.eye(x.shape[1])
    solution = torch.linalg.solve(centred.T @ centred + penalty, centred.T @ (y - y.mean(0)))
    torch.testing.assert_close(found, y.mean(0) + centred @ solution, atol=1e-4, rtol=1e-3)
