"""The example photos of the repository, for tests that need a real face."""

from pathlib import Path

import numpy as np
import pytest

from mofaface.photo import Photo, read_photo

EXAMPLES = Path(__file__).parent.parent / "examples"
needs_examples = pytest.mark.skipif(not any(EXAMPLES.glob("*.jpg")), reason="the example photos are not here")


def example(name: str = "congress_C001072.jpg") -> Photo:
    """One example photo."""
    return read_photo(EXAMPLES / name)


def noise_photo(height: int = 200, width: int = 300) -> Photo:
    """A photo without a face."""
    return Photo(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))
