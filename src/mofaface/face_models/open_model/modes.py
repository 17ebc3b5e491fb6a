"""Principal modes in the metric of the full mesh, each exactly mirror symmetric or antisymmetric.

A sample and its mirror image are equally likely, so the second moment splits without loss into an even and an
odd half: a mirrored face has the same coefficients up to the signs in `parity`.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import sparray

GEOMETRY_MIRROR = (-1.0, 1.0, 1.0)
COLOUR_MIRROR = (1.0, 1.0, 1.0)
LISTED = (1, 5, 10, 20, 40, 64, 80)  # numbers of modes that reports give


@dataclass(frozen=True)
class Modes:
    """A basis that carries its standard deviations: E^T M E = diag(sigma^2), coefficients are N(0, 1)."""

    basis: Float[np.ndarray, "points 3 modes"]
    sigma: Float[np.ndarray, "modes"]
    parity: Int[np.ndarray, "modes"]
    cumulative: Float[np.ndarray, "modes"]  # share of the samples' second moment

    def scaled(self, factor: float) -> "Modes":
        """The same modes with all standard deviations multiplied by `factor`."""
        return Modes(self.basis * factor, self.sigma * factor, self.parity, self.cumulative)


def mirrored(samples: np.ndarray, mirror: np.ndarray, sign: tuple[float, float, float]) -> np.ndarray:
    """Mirror images of displacement or colour fields (..., points, 3)."""
    return samples[..., mirror, :] * np.asarray(sign, dtype=samples.dtype)


def principal_modes(
    samples: Float[np.ndarray, "samples points 3"],
    metric: sparray | None,
    mirror: Int[np.ndarray, "points"],
    sign: tuple[float, float, float],
    count: int,
) -> Modes:
    """The `count` strongest modes of the samples' second moment about zero; metric None is the identity."""
    opposite = mirrored(samples, mirror, sign)
    halves = [_half_modes(0.5 * (samples + parity * opposite), metric, count) for parity in (1.0, -1.0)]
    total = sum(half[2] for half in halves)
    basis = np.concatenate([half[0] for half in halves], axis=0)
    sigma = np.concatenate([half[1] for half in halves])
    parity = np.repeat([1, -1], [len(halves[0][1]), len(halves[1][1])])
    order = np.argsort(-sigma)[:count]
    cumulative = np.cumsum(sigma[order] ** 2) / total
    return Modes(np.moveaxis(basis[order], 0, -1), sigma[order], parity[order], cumulative)


def _half_modes(
    fields: np.ndarray, metric: sparray | None, count: int
) -> tuple[np.ndarray, np.ndarray, float]:
    """Modes (modes, points, 3), their standard deviations and the total second moment of one parity."""
    flat = fields.reshape(len(fields), -1)
    weighted = flat if metric is None else apply_metric(metric, fields).reshape(len(fields), -1)
    gram = (flat @ weighted.T).astype(np.float64) / len(fields)
    value, vector = np.linalg.eigh(0.5 * (gram + gram.T))
    value, vector = value[::-1][:count], vector[:, ::-1][:, :count]
    value, vector = value[value > 1e-12 * value[0]], vector[:, value > 1e-12 * value[0]]
    # X^T u / sqrt(n) has squared length `value` in the metric: it is the mode times its standard deviation.
    basis = (vector.T @ flat) / np.sqrt(len(fields))
    peak = np.take_along_axis(basis, np.abs(basis).argmax(axis=1)[:, None], axis=1)
    basis *= np.where(peak < 0, -1.0, 1.0)  # a mode's sign is free: make its largest entry positive
    return basis.reshape(-1, *fields.shape[1:]), np.sqrt(value), float(np.trace(gram))


def apply_metric(metric: sparray, fields: np.ndarray) -> np.ndarray:
    """The metric times each field (samples, points, 3)."""
    samples, points, _ = fields.shape
    columns = np.moveaxis(fields, 1, 0).reshape(points, -1)
    return np.moveaxis((metric @ columns).reshape(points, samples, 3), 0, 1)


def coefficients(
    modes: Modes, metric: sparray, fields: Float[np.ndarray, "samples points 3"]
) -> Float[np.ndarray, "samples modes"]:
    """Least-squares coefficients of fields in the full mesh's metric, in standard deviations."""
    weighted = apply_metric(metric, fields).reshape(len(fields), -1)
    return weighted @ modes.basis.reshape(-1, len(modes.sigma)) / modes.sigma**2


def spread(modes: Modes, points: int) -> float:
    """Root mean square distance of a vertex of a random face from the mean, in the basis' unit."""
    return float(np.sqrt((modes.sigma**2).sum() / points))


def describe(name: str, modes: Modes) -> str:
    """A line for reports: the share of the samples by number of modes, and how many are odd."""
    shares = [f"{n}: {modes.cumulative[n - 1]:.2%}" for n in LISTED if n <= len(modes.sigma)]
    return (
        f"{name}: the first modes hold {', '.join(shares)} of the samples; {(modes.parity < 0).sum()} are odd"
    )
