"""From features to a `Code`: the last layer, zero at the start, and the units of its outputs.

Section 5 of Tewari et al. 2017: "All weights in the last fully connected layer are initialized to zero.
This guarantees that the initial prediction is the average face placed in the middle of the screen and lit
by ambient light." The paper is silent about the units of the layer's outputs; here they are of order one,
times a fixed gain.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mofaface.code import Code, CodeLayout


@dataclass(frozen=True)
class CodeGains:
    """How much of each quantity one unit of the last layer's output means.

    With gains near the spread of each quantity over photographs, one learning rate suits all outputs. Gains
    of 1 everywhere give the plain layer, in the Code's own units.
    """

    alpha: float = 1.0
    "Shape, standard deviations."
    delta: float = 1.0
    "Expression, standard deviations."
    beta: float = 1.0
    "Reflectance, standard deviations."
    rotation: float = 0.3
    "Radians."
    translation_xy: float = 10.0
    "Millimetres across the picture."
    translation_z: float = 100.0
    "Millimetres along the optical axis: a head's size in the picture changes by 10 % in 100 mm at 1 m."
    gamma: float = 0.2
    "Light coefficients; the ambient offset is 0.7."


class CodeHead(nn.Module):
    """Features → Code; the zero code until the first step of learning."""

    def __init__(self, features: int, layout: CodeLayout, gains: CodeGains | None = None):
        super().__init__()
        self.layout = layout
        self.gains = gains or CodeGains()
        # Its output for the z-translation stays unused: only the layout knows where in the vector that is.
        self.every = nn.Linear(features, layout.size)
        # A layer of its own, because the paper gives the z-translation a learning rate of its own.
        self.z = nn.Linear(features, 1)
        for parameter in self.parameters():
            nn.init.zeros_(parameter)

    def forward(self, features: Float[Tensor, "batch features"]) -> Code:
        # Full precision also under autocast: half a millimetre at a metre is lost in bfloat16.
        with torch.autocast(features.device.type, enabled=False):
            features = features.to(self.z.weight.dtype)
            return self._scaled(self.layout.unpack(self.every(features)), self.z(features))

    def as_product(self) -> tuple[Float[Tensor, "features size"], Float[Tensor, "1 size"]]:
        """W and b, with which the packed code of features f is f W + b: scaling and sorting included."""
        W = self._scaled(self.layout.unpack(self.every.weight.mT), self.z.weight.mT)
        b = self._scaled(self.layout.unpack(self.every.bias[None]), self.z.bias[None])
        return self.layout.pack(W), self.layout.pack(b)

    def units(self) -> Float[Tensor, "size"]:
        """What one unit of every output means, in the order of the code's vector."""
        one = self.z.weight.new_ones(1, self.layout.size)
        return self.layout.pack(self._scaled(self.layout.unpack(one), one[:, :1]))[0]

    def _scaled(self, raw: Code, z: Float[Tensor, "batch 1"]) -> Code:
        """The raw outputs times their gains, with the z-translation taken from its own layer."""
        gains = self.gains
        xy = raw.translation[..., :2] * gains.translation_xy
        return replace(
            raw,
            alpha=raw.alpha * gains.alpha,
            delta=raw.delta * gains.delta,
            beta=raw.beta * gains.beta,
            rotation=raw.rotation * gains.rotation,
            translation=torch.cat([xy, z * gains.translation_z], dim=-1),
            gamma=raw.gamma * gains.gamma,
        )
