"""Shared fixtures: little synthetic face models, and one thread so that tests run side by side."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from little_face import LITTLE, little_arrays, little_model, random_code, smooth_image

from mofaface.code import Code, CodeLayout
from mofaface.decoder import Decoder
from mofaface.encoders import build_encoder
from mofaface.face_models.container import read_face_model, write_face_model
from mofaface.pool import ray_cluster
from mofaface.weights import write_weights

torch.set_num_threads(1)
# Triton decides when it is imported whether its kernels run on the GPU or, slowly, in NumPy: what imports it, as the
# little corpus does, comes later.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")


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


@pytest.fixture(scope="session")
def model_path(tmp_path_factory) -> Path:
    """A container file of a little face model with a coarse mesh."""
    path = tmp_path_factory.mktemp("model") / "little.safetensors"
    write_face_model(path, little_arrays(side=17))
    return path


@pytest.fixture(scope="session")
def corpus_path(tmp_path_factory) -> Path:
    """A corpus folder of twenty rendered faces, and four held out."""
    from little_corpus import write_corpus

    return write_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="session")
def weights_path(tmp_path_factory, model_path) -> Path:
    """Weights of an untrained little encoder for the model of `model_path`."""
    from little_corpus import TINY

    model = read_face_model(model_path)
    torch.manual_seed(0)
    encoder = build_encoder(TINY, model.layout)
    path = tmp_path_factory.mktemp("weights") / "untrained.safetensors"
    write_weights(path, encoder.state_dict(), TINY, Decoder(model), {"iteration": 0})
    return path


@pytest.fixture(scope="session")
def local_ray() -> Iterator[Any]:
    """A Ray of two cores on this machine, started as commands start it, once for all tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        # Its processes import the tests' own functions, and the package that is tested.
        patch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
        with ray_cluster(workers=2) as ray:
            yield ray
