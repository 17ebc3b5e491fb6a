"""A network that compares its answer with the picture and corrects it (iterative error feedback, Carreira et al. 2016).

One pass of a network cannot see how well its answer fits. Here the face model says at some thousand points of the face
what the picture has that the answer does not explain (evidence.py); a small network reads that, with what the
backbone's maps show at the same places, and corrects the answer. The same weights serve every round.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from mofaface.decoder import Decoder
from mofaface.encoders.backbone import Backbone, Maps
from mofaface.encoders.evidence import MOVE, TURN, FacePoints
from mofaface.encoders.head import CodeHead
from mofaface.sampling import sample_bilinear

# So many points are compared. Of these, the network reads the first SHOWN, and looks the first MAPPED up in the
# backbone's maps.
POINTS, SHOWN, MAPPED = 2048, 512, 128
# Channels that are kept of either map.
CHANNELS = 16
# How much of the evidence's steps the first correction takes, before anything is learned.
SHARES = {"alpha": 0.5, "delta": 0.5, "beta": 0.5, "rotation": 0.5, "translation": 0.5, "gamma": 0.3}
# What brings the parts of the evidence to order one.
RESIDUAL = 20.0
STEPS = {
    "alpha": 3.0,
    "delta": 3.0,
    "beta": 2.0,
    "rotation": 3.0 / TURN,
    "translation": 3.0 / MOVE,
    "gamma": 10.0,
}
# Share of a unit of the code that one unit of the output means.
GAIN = 0.3


class Feedback(nn.Module):
    """Picture, answer and maps → the corrected answer; before it has learned, by a part of the evidence's steps."""

    units: Tensor
    scales: Tensor

    def __init__(self, decoder: Decoder, backbone: Backbone, head: CodeHead, hidden: int):
        """Raises ValueError for a backbone without maps."""
        super().__init__()
        layout = decoder.model.layout
        self.layout = layout
        self.evidence = FacePoints(decoder, POINTS)
        # Little face models have fewer points to compare.
        points = len(self.evidence.points)
        self.shown, self.mapped = min(SHOWN, points), min(MAPPED, points)
        if backbone.map_channels is None:
            raise ValueError(f"feedback needs the backbone mobilenet or efficientnet, got {backbone.name}")
        self.strides, self.input_size = backbone.map_strides, backbone.preprocess.format.size
        self.fine, self.coarse = (nn.Linear(channels, CHANNELS) for channels in backbone.map_channels)
        seen = self.shown * 3 + 2 * layout.size + self.mapped * CHANNELS * 2
        self.first, self.second = nn.Linear(seen, hidden), nn.Linear(hidden, hidden)
        self.last = nn.Linear(hidden, layout.size)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)
        self.share = nn.Parameter(self._by_part(SHARES))
        self.register_buffer("units", head.units(), persistent=False)
        self.register_buffer("scales", self._by_part(STEPS), persistent=False)

    def _by_part(self, values: dict[str, float]) -> Float[Tensor, "size"]:
        sizes = self.layout.sizes
        return torch.cat([torch.full((size,), values[name]) for name, size in sizes.items()])

    def forward(
        self,
        readings: Float[Tensor, "batch 9 _ _"],
        code: Float[Tensor, "batch size"],
        maps: Maps,
    ) -> Float[Tensor, "batch size"]:
        """The corrected codes, packed. No gradient goes through the evidence or back to the answer.

        `readings` are `evidence.readings_of` the picture.
        """
        # Full precision also under autocast, as in the layer that makes the first answer.
        with torch.autocast(code.device.type, enabled=False):
            code = code.detach()
            found = self.evidence(readings, self.layout.unpack(code))
            step = self.layout.pack(found.step)
            fine, coarse = self._looked_up(found.places[:, : self.mapped], maps)
            residual = found.residual[:, : self.shown].flatten(1)
            parts = (residual * RESIDUAL, step * self.scales, code / self.units, coarse, fine)
            x = torch.cat(parts, 1)
            x = F.layer_norm(x, x.shape[1:])
            correction = self.last(F.relu(self.second(F.relu(self.first(x)))))
            return code + correction * GAIN * self.units + self.share * step

    def _looked_up(
        self, places: Float[Tensor, "batch mapped 2"], maps: Maps
    ) -> tuple[Float[Tensor, "batch seen"], Float[Tensor, "batch seen"]]:
        """What the maps show at places in the crop, pixels."""
        inside = places * (self.input_size / self.evidence.camera.size)
        fine, coarse = (
            layer(sample_bilinear(seen.float(), (inside - 0.5) / stride + 0.5)).flatten(1)
            for layer, seen, stride in zip((self.fine, self.coarse), maps, self.strides, strict=True)
        )
        return fine, coarse
