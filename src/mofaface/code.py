"""The code vector x of the autoencoder: every number that describes a face in a photograph."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mofaface import harmonics


@dataclass(frozen=True)
class Code:
    """One code, or a batch of codes, with its parts by name. Coefficients are in standard deviations."""

    alpha: Float[Tensor, "*batch shape"]
    """α, the person's shape."""
    delta: Float[Tensor, "*batch expression"]
    """δ, the expression; zero is the neutral face."""
    beta: Float[Tensor, "*batch reflectance"]
    """β, the skin's reflectance."""
    rotation: Float[Tensor, "*batch 3"]
    """Rotation vector of T, the camera's orientation in model space, in radians."""
    translation: Float[Tensor, "*batch 3"]
    """The head's origin in camera axes, in mm, relative to its place for the zero code."""
    gamma: Float[Tensor, "*batch 9 3"]
    """γ, light in camera space: nine harmonics × RGB, relative to the ambient offset."""


@dataclass(frozen=True)
class CodeLayout:
    """Where each part of a code lies in a vector. Nothing else knows an order or an offset."""

    shape: int = 80
    expression: int = 64
    reflectance: int = 80

    @property
    def sizes(self) -> dict[str, int]:
        """The number of values of each part, in the order of the vector."""
        return {
            "alpha": self.shape,
            "delta": self.expression,
            "beta": self.reflectance,
            "rotation": 3,
            "translation": 3,
            "gamma": harmonics.COUNT * 3,
        }

    @property
    def size(self) -> int:
        """The length of the vector: 257 for the default model."""
        return sum(self.sizes.values())

    def slices(self) -> dict[str, slice]:
        """The place of each part in the vector."""
        slices, start = {}, 0
        for name, size in self.sizes.items():
            slices[name] = slice(start, start + size)
            start += size
        return slices

    def pack(self, code: Code) -> Float[Tensor, "*batch size"]:
        """The vector of a code."""
        return torch.cat(
            (code.alpha, code.delta, code.beta, code.rotation, code.translation, code.gamma.flatten(-2)), -1
        )

    def unpack(self, x: Float[Tensor, "*batch size"]) -> Code:
        """The code of a vector; raises ValueError when the vector has another length."""
        if x.shape[-1] != self.size:
            raise ValueError(f"this face model's code has {self.size} values, got {x.shape[-1]}")
        parts = dict(zip(self.sizes, x.split(list(self.sizes.values()), -1), strict=True))
        parts["gamma"] = parts["gamma"].unflatten(-1, (harmonics.COUNT, 3))
        return Code(**parts)

    def zero(
        self, batch: int = 1, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
    ) -> Code:
        """The average face, centred, under ambient light, `batch` times."""
        return self.unpack(torch.zeros(batch, self.size, dtype=dtype, device=device))
