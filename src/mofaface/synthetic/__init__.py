"""Synthetic faces: rendered pictures whose codes are known exactly, in a corpus like any other."""

from mofaface.synthetic.build import build_synthetic
from mofaface.synthetic.codes import codes_of_corpus, read_codes, write_codes
from mofaface.synthetic.config import (
    MASK_ONLY,
    PERFECT,
    Degradation,
    Light,
    People,
    Pose,
    Surroundings,
    SynthConfig,
)

__all__ = [
    "MASK_ONLY",
    "PERFECT",
    "Degradation",
    "Light",
    "People",
    "Pose",
    "Surroundings",
    "SynthConfig",
    "build_synthetic",
    "codes_of_corpus",
    "read_codes",
    "write_codes",
]
