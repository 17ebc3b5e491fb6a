"""Photographs and rendered faces in one set of crops."""

from dataclasses import replace
from typing import Any

import numpy as np

from mofaface.corpus import CorpusSplit


def mixture(photographs: CorpusSplit, rendered: CorpusSplit | None, believe: bool) -> CorpusSplit:
    """The photographs, with no confidence in their landmarks unless we `believe` them, and then as many rendered faces
    as photographs at most.

    Their codes are left out: photographs have none.
    """
    if not believe:
        photographs = replace(photographs, confidence=np.zeros_like(photographs.confidence))
    if rendered is None:
        return photographs
    count = min(len(photographs), len(rendered))
    arrays: dict[str, Any] = {
        name: np.concatenate([getattr(photographs, name), getattr(rendered, name)[:count]])
        for name in ("landmarks", "confidence", "yaw")
    }
    tuples: dict[str, Any] = {
        name: getattr(photographs, name) + getattr(rendered, name)[:count]
        for name in ("jpegs", "keys", "names", "sources", "persons")
    }
    return replace(photographs, **arrays, **tuples, codes=None, code_model=None, cameras=None)
