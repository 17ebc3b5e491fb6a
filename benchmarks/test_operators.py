"""How long each operator takes on this machine: `make bench`. Nothing here passes or fails by its time."""

import pytest
import torch

from mofaface.bench import contender
from mofaface.camera import Camera, project
from mofaface.code import CodeLayout
from mofaface.decoder import Decoder, illuminate
from mofaface.encoders import EncoderConfig, build_encoder
from mofaface.face_models import load_face_model
from mofaface.fit_energy import Problem, Tools
from mofaface.losses import LossWeights, photometric
from mofaface.mesh import vertex_normals
from mofaface.rasterizer import rasterize
from mofaface.sampling import sample_bilinear

BATCH = 5


@pytest.fixture(scope="module")
def model():
    return load_face_model()


@pytest.fixture(scope="module")
def decoder(model):
    return Decoder(model)


@pytest.fixture(scope="module")
def code(model):
    random = torch.Generator().manual_seed(0)
    x = 0.3 * torch.randn(BATCH, model.layout.size, generator=random)
    places = model.layout.slices()
    x[:, places["rotation"].start : places["gamma"].stop] = 0
    return model.layout.unpack(x)


@pytest.fixture(scope="module")
def image():
    return torch.rand(BATCH, 3, 240, 240, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def face(decoder, code):
    with torch.no_grad():
        return decoder(code)


def test_geometry(benchmark, model, code):
    benchmark(model.geometry, code.alpha, code.delta)


def test_normals(benchmark, model, code):
    benchmark(vertex_normals, model.geometry(code.alpha, code.delta), model.triangles)


def test_projection(benchmark, face):
    benchmark(project, face.x_camera, Camera())


def test_shading(benchmark, face, code):
    benchmark(illuminate, face.n_camera, code.gamma)


def test_sampling(benchmark, face, image):
    benchmark(sample_bilinear, image, face.uv_crop)


def test_decoder(benchmark, decoder, code):
    benchmark(decoder, code)


def test_photometric_term(benchmark, face, image):
    benchmark(photometric, image, face)


@pytest.mark.parametrize("path", ["autograd", "fused", "fused dense"])
def test_terms_with_their_gradients(benchmark, model, image, code, path):
    terms = contender(model, path)
    x = model.layout.pack(code).requires_grad_(True)

    def step():
        return torch.autograd.grad(terms(model.layout.unpack(x), image).photo.sum(), x)

    benchmark(step)


def test_gauss_newton_matrix(benchmark, decoder, code, image):
    one = {name: part[:1] for name, part in vars(code).items()}
    x = decoder.model.layout.pack(type(code)(**one))[0]
    problem = Problem(image[:1], Tools(decoder), LossWeights(), sample=600)
    benchmark(problem.matrix, x)


def test_rasteriser(benchmark, model, face):
    places, depth = face.uv_crop[0].numpy(), face.x_camera[0, :, 2].numpy()
    benchmark(rasterize, places, depth, model.triangles.numpy(), 240, 240)


@pytest.mark.parametrize("batch", [1, 32])
def test_encoder(benchmark, batch):
    encoder = build_encoder(EncoderConfig(input_size=128, readout="narrow"), CodeLayout()).eval()
    images = torch.rand(batch, 3, 240, 240)
    with torch.inference_mode():
        benchmark(encoder, images)
