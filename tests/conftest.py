"""Shared fixtures: little synthetic face models, and one thread so that tests run side by side."""

import pytest
import torch
from little_face import LITTLE, little_model, random_code, smooth_image

from mofaface.code import Code, CodeLayout
from mofaface.decoder import Decoder

torch.set_num_threads(1)


@pytest.fixture
def decoder() -> Decoder:
    """A decoder of 81 vertices and 5/4/3 modes, float64."""
    return Decoder(little_model())


@pytest.fixture(scope="session")
def full_decoder() -> Decoder:
    """A decoder of 289 vertices with the default model's 80/64/80 modes, float64."""
    return Decoder(little_model(side=17, layout=CodeLayout()))


@pytest.fixture
def code() -> Code:
    """Two ordinary codes for `decoder`."""
    return random_code(LITTLE, batch=2)


@pytest.fixture
def image() -> torch.Tensor:
    """A smooth picture, (1, 3, 240, 240)."""
    return smooth_image()
