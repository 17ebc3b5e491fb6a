"""What people's faces are like, in terms of the open model's own material: a mean and a covariance.

The file holds numbers about combinations of MakeHuman's CC0 targets and about smooth random fields, measured on the
identity space of ICT-FaceKit; it holds no shape of that space. measure_population.py measures it again.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from mofaface.face_models.gaussian_process import SmoothBasis
from mofaface.face_models.open_model.identities import CarriedIdentities, least_squares
from mofaface.face_models.open_model.sources import SourceError
from mofaface.files import written_whole

POPULATION = Path(__file__).parents[2] / "assets" / "open_face_population.npz"
# Ridges in mm: how far a target's weight goes from the drawn people's, in their spread, to win one such residual.
MEAN_RIDGE, COVARIANCE_RIDGE = 0.3, 0.02
SMALLEST_SPREAD = 0.02
# The residual's spectrum is told for bands of this many fields.
BAND = 16


@dataclass(frozen=True)
class Population:
    """Statistics of target weights, and the spectrum of what the targets cannot show."""

    mean: Float[np.ndarray, "targets"]
    """Mean weight of every target, added to that of the drawn people."""
    covariance: Float[np.ndarray, "targets targets"]
    spectrum: Float[np.ndarray, "bands 2 3"]
    """Standard deviation, mm, of a smooth field of unit mean square: by band, parity (even, odd) and axis x, y, z."""


def measure_population(
    carried: CarriedIdentities,
    template: Float[np.ndarray, "template 3"],
    targets: Float[np.ndarray, "template 3 targets"],
    spread: Float[np.ndarray, "targets"],
    basis: SmoothBasis,
) -> Population:
    """Target weights of mean and modes by ridge regression, and the band-wise spectrum of the modes' residual.

    `targets` must be without rigid motion like the carried modes; `spread` are the weights' standard deviations in
    drawn people.
    """
    prior = 1 / np.maximum(spread, SMALLEST_SPREAD) ** 2
    offset = (carried.mean - template)[..., None]
    mean = least_squares(targets, offset, carried.weight, MEAN_RIDGE**2 * prior)[:, 0]
    weights = least_squares(targets, carried.modes, carried.weight, COVARIANCE_RIDGE**2 * prior)
    residual = carried.modes - targets @ weights
    return Population(mean, weights @ weights.T, _spectrum(residual, basis, carried.weight))


def _spectrum(
    residual: Float[np.ndarray, "template 3 modes"], basis: SmoothBasis, weight: Float[np.ndarray, "template"]
) -> Float[np.ndarray, "bands 2 3"]:
    """Mean square coefficient of the fields of each band and parity, summed over the modes; square roots."""
    fields = basis.fields
    gram = fields.T @ (weight[:, None] * fields) + 1e-3 * np.eye(fields.shape[1])
    moments = np.einsum("nf,n,nxk->fxk", fields, weight, residual, optimize=True)
    found = np.linalg.solve(gram, moments.reshape(len(gram), -1)).reshape(moments.shape)
    variance = (found**2).sum(axis=-1)
    bands = np.arange(len(variance)) // BAND
    spectrum = np.zeros((bands[-1] + 1, 2, 3))
    for band in range(len(spectrum)):
        for i, parity in enumerate((1, -1)):
            chosen = variance[(bands == band) & (basis.parity == parity)]
            spectrum[band, i] = chosen.mean(axis=0) if len(chosen) else 0.0
    return np.sqrt(spectrum)


def write_population(path: Path, population: Population) -> None:
    """Write the statistics as an npz of three float32 arrays; of the covariance its upper triangle."""
    upper = np.triu_indices(len(population.mean))
    with written_whole(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(
            file,
            mean=population.mean.astype(np.float32),
            covariance=population.covariance[upper].astype(np.float32),
            spectrum=population.spectrum.astype(np.float32),
        )


def read_population(path: Path = POPULATION) -> Population:
    """The statistics of a file; raises SourceError where it is none."""
    try:
        with np.load(path, allow_pickle=False) as file:
            mean, entries, spectrum = (file[n].astype(np.float64) for n in ("mean", "covariance", "spectrum"))
        covariance = np.zeros((len(mean), len(mean)))
        covariance[np.triu_indices(len(mean))] = entries
    except (OSError, KeyError, ValueError) as error:
        raise SourceError(
            f"{path} must hold the population's mean, covariance and spectrum: {error}"
        ) from error
    return Population(mean, covariance + np.triu(covariance, 1).T, spectrum)
