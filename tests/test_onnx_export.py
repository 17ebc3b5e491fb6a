"""The exported networks give torch's numbers in ONNX Runtime, and say what they are."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from little_face import little_model, random_code
from test_onnx_encoder import learned

from mofaface.autoencoder import Autoencoder
from mofaface.camera import Camera
from mofaface.code import Code
from mofaface.decoder import Decoder
from mofaface.encoders import EncoderConfig, build_encoder
from mofaface.mesh import vertex_normals
from mofaface.onnx_export import CODE, MESH, export_onnx, onnx_paths, resize_matrix, triangles_of_vertices

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
onnxruntime = pytest.importorskip("onnxruntime")

CAMERA = Camera(raised=8.0)


@pytest.fixture(scope="module")
def autoencoder():
    model = little_model(side=17).float()
    encoder = learned(build_encoder(EncoderConfig(input_size=64), model.layout))
    return Autoencoder(encoder, Decoder(model, CAMERA)).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def files(tmp_path_factory, autoencoder):
    return export_onnx(autoencoder, tmp_path_factory.mktemp("onnx") / "face", "little")


@pytest.mark.parametrize("batch", [1, 3])
def test_the_encoder_gives_the_codes_of_torch(files, autoencoder, batch):
    image = torch.rand(batch, 3, 240, 240, generator=torch.Generator().manual_seed(batch))
    expected = autoencoder.encoder(image)
    found = onnxruntime.InferenceSession(files[0]).run(list(CODE), {"image": image.numpy()})
    assert np.abs(found[0]).max() > 1e-3
    for name, values in zip(CODE, found, strict=True):
        np.testing.assert_allclose(values, getattr(expected, name).numpy(), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("batch", [1, 3])
def test_the_decoder_gives_the_face_of_torch(files, autoencoder, batch):
    model = autoencoder.decoder.model
    code = Code(**{k: v.float() for k, v in vars(random_code(model.layout, batch, batch)).items()})
    face = autoencoder.decoder(code)
    feed = {name: getattr(code, name).numpy() for name in CODE}
    found = dict(zip(MESH, onnxruntime.InferenceSession(files[1]).run(list(MESH), feed), strict=True))
    close = dict(atol=1e-4, rtol=1e-4)
    np.testing.assert_allclose(found["vertices"], model.geometry(code.alpha, code.delta).numpy(), **close)
    np.testing.assert_allclose(found["reflectance"], face.reflectance.numpy(), **close)
    np.testing.assert_allclose(found["colour"], face.colour.numpy(), **close)
    np.testing.assert_allclose(found["places"], face.uv_crop.numpy(), **close)
    R, t = found["R"], found["t"]
    x_camera = found["vertices"] @ R.transpose(0, 2, 1) + t[:, None]
    np.testing.assert_allclose(x_camera, face.x_camera.numpy(), atol=1e-3)
    np.testing.assert_allclose(found["normals"] @ R.transpose(0, 2, 1), face.n_camera.numpy(), **close)
    assert np.array_equal(found["triangles"], model.triangles.numpy())


def test_both_files_say_what_they_are(files, autoencoder):
    for path in files:
        about = {prop.key: prop.value for prop in onnx.load(path).metadata_props}
        assert about["format"] == "mofaface-onnx" and about["format_version"] == "1"
        assert "mm, radians" in about["convention"] and about["weights"] == "little"
        assert json.loads(about["model"])["digest"] == autoencoder.decoder.model.digest
        assert json.loads(about["camera"])["raised"] == 8.0
        session = onnxruntime.InferenceSession(path)
        assert all(place.name in about for place in (*session.get_inputs(), *session.get_outputs()))
        onnx.checker.check_model(path)


@pytest.mark.parametrize("before, after", [(240, 128), (240, 227), (24, 24), (20, 31)])
def test_the_filtered_resize_is_two_products_with_a_matrix(before, after):
    image = torch.rand(2, 3, before, before, generator=torch.Generator().manual_seed(0))
    expected = torch.nn.functional.interpolate(
        image, size=(after, after), mode="bilinear", align_corners=False, antialias=True
    )
    M = resize_matrix(before, after)
    torch.testing.assert_close(M @ image @ M.mT, expected, atol=2e-6, rtol=0)


def test_gathered_triangles_give_the_normals_of_the_mesh():
    triangles = torch.tensor([[0, 1, 2], [0, 2, 3], [0, 3, 4]])
    ring = triangles_of_vertices(triangles, 6)
    assert ring.tolist() == [[0, 1, 2], [0, 3, 3], [0, 1, 3], [1, 2, 3], [2, 3, 3], [3, 3, 3]]
    model = little_model()
    normals = vertex_normals(model.mean_shape[None], model.triangles)[0]
    a, b, c = (model.mean_shape[model.triangles[:, k]] for k in range(3))
    f = torch.cat((torch.linalg.cross(b - a, c - a), torch.zeros(1, 3).double()))
    summed = f[triangles_of_vertices(model.triangles, model.vertices)].sum(1)
    torch.testing.assert_close(summed / summed.norm(dim=-1, keepdim=True), normals)


def test_batch_statistics_are_in_the_weights(files):
    nodes = onnx.load(files[0]).graph.node
    kinds = [node.op_type for node in nodes]
    convolutions = kinds.count("Conv")
    assert convolutions > 50 and "BatchNormalization" not in kinds
    # What is left of multiplications belongs to the last layer's units, not to the convolutions' weights.
    assert kinds.count("Mul") < 12


def test_a_path_is_a_folder_or_the_name_of_the_encoder():
    assert onnx_paths(Path("a/b")) == (Path("a/b/encoder.onnx"), Path("a/b/decoder.onnx"))
    assert onnx_paths(Path("a/face.onnx")) == (Path("a/face.onnx"), Path("a/face_decoder.onnx"))
