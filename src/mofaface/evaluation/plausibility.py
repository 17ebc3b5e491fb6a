"""Whether a network's answers are likely under the face model: coefficients of people are N(0, 1) each."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Float32

from mofaface.code import CodeLayout
from mofaface.evaluation.bootstrap import Figure, figure

PARTS = {"alpha": "shape", "delta": "expression", "beta": "reflectance"}
FAR = 3.0
# The share of N(0, 1) beyond three standard deviations.
EXPECTED_FAR = 0.0027
EDGES = np.linspace(-5, 5, 81)


@dataclass(frozen=True)
class Plausibility:
    """The coefficients of one part of the code over photographs, in standard deviations of the model."""

    rms: Figure
    """Of a photograph's coefficients, |α| / √80; 1 is expected."""
    far: Figure
    """Share of a photograph's coefficients beyond 3; 0.0027 is expected."""
    each_rms: Float[np.ndarray, "modes"]
    """Of every coefficient over the photographs; 1 is expected."""
    each_mean: Float[np.ndarray, "modes"]
    """Mean of every coefficient; 0 is expected, and a network's habit shows here."""
    density: Float[np.ndarray, "bins"]
    """Histogram of all coefficients between EDGES, of area 1 with what lies outside."""
    sorted_rms: Float[np.ndarray, "photos"]
    """Sorted rms of the photographs."""

    def plain(self) -> dict[str, Any]:
        """The same for JSON, without the histograms."""
        return {
            "rms": self.rms.plain(),
            "beyond_3_sigma": self.far.plain() | {"expected": EXPECTED_FAR},
            "each_rms": self.each_rms.round(4).tolist(),
            "each_mean": self.each_mean.round(4).tolist(),
        }


def plausibility(
    codes: Float32[np.ndarray, "photos size"], layout: CodeLayout, people: tuple[str, ...]
) -> dict[str, Plausibility]:
    """Of α, δ and β; a part without coefficients is left out."""
    slices = layout.slices()
    return {
        name: _of(codes[:, slices[name]].astype(np.float64), people)
        for name in PARTS
        if slices[name].stop > slices[name].start
    }


def _of(values: Float[np.ndarray, "photos modes"], people: tuple[str, ...]) -> Plausibility:
    rms = np.sqrt((values**2).mean(1))
    inside = np.histogram(values, EDGES)[0]
    return Plausibility(
        rms=figure(rms, people),
        far=figure((np.abs(values) > FAR).mean(1), people),
        each_rms=np.sqrt((values**2).mean(0)),
        each_mean=values.mean(0),
        density=inside / (values.size * np.diff(EDGES)),
        sorted_rms=np.sort(rms),
    )
