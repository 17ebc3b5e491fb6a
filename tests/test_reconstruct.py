"""Reconstruction in terms of the photo: cameras, landmarks, quality."""

import pickle

import numpy as np
import pytest
import torch
from face_photos import example, needs_examples
from little_face import LITTLE, little_model, random_code
from little_photo import BOXES, little_reconstructor, noisy_photo

import mofaface
from mofaface.autoencoder import Autoencoder
from mofaface.crop import crops_to_tensor, cut_crop
from mofaface.decoder import Decoder
from mofaface.detection import Detection
from mofaface.encoders import CodeHead, Encoder
from mofaface.encoders.alexnet import AlexNet
from mofaface.face_models.container import read_face_model
from mofaface.metrics import photometric_error
from mofaface.photo import PhotoError
from mofaface.reconstruct import Found, Reconstructor, crop_cameras, describe, load


@pytest.fixture(scope="module")
def faces():
    return little_reconstructor(little_model(side=17).float()).from_boxes(noisy_photo(), BOXES)


def vertices_at_landmarks(face):
    model = little_model(side=17)
    return torch.from_numpy(face.vertices[model.landmarks_68.numpy()]).double()


def test_photo_camera_sees_the_mesh_at_the_landmarks(faces):
    for face in faces:
        seen = face.camera_photo.project(vertices_at_landmarks(face)).numpy()
        np.testing.assert_allclose(seen, face.landmarks_68, atol=2e-3)


def test_crop_camera_sees_the_mesh_where_the_decoder_puts_it(faces):
    decoder = Decoder(little_model(side=17))
    code = random_code(LITTLE, 3)
    uv_crop = decoder(code).uv_crop[0].numpy()
    for face in faces:
        np.testing.assert_allclose(
            face.camera_crop.project(torch.from_numpy(face.vertices).double()), uv_crop, atol=2e-3
        )


def test_crop_and_photo_cameras_differ_by_the_similarity_of_the_crop(faces):
    for face in faces:
        x = vertices_at_landmarks(face)
        moved = face.crop.photo_from_crop.apply(face.camera_crop.project(x).numpy())
        np.testing.assert_allclose(moved, face.camera_photo.project(x), atol=1e-9)


def test_cameras_are_rotations_and_know_their_picture(faces):
    for face in faces:
        for camera, size in ((face.camera_crop, (240, 240)), (face.camera_photo, (640, 480))):
            assert camera.size == size
            torch.testing.assert_close(camera.R @ camera.R.mT, torch.eye(3, dtype=torch.float64))
            assert torch.linalg.det(camera.R) > 0 and camera.t[2] > 0


def test_crop_cameras_are_those_of_the_decoder():
    decoder = Decoder(little_model())
    code = random_code(LITTLE, 1, batch=3)
    x_model = decoder.model.geometry(code.alpha, code.delta)
    for camera, x, uv in zip(crop_cameras(decoder.camera, code), x_model, decoder(code).uv_crop, strict=True):
        torch.testing.assert_close(camera.project(x), uv)


def test_quality_is_one_for_a_perfect_face_and_zero_for_a_hopeless_one():
    decoder = Decoder(little_model())
    code = random_code(LITTLE, 1, batch=3)
    photo = noisy_photo()
    crops = [cut_crop(photo, BOXES[0])] * 3
    errors = torch.tensor([0.0, 0.125, 9.0])
    found = describe(decoder, photo, crops, code, errors, "w", ["a", "b", "c"])
    assert [face.quality for face in found] == [1.0, 0.5, 0.0]
    assert [face.note for face in found] == ["a", "b", "c"]
    assert [face.photometric_error for face in found] == pytest.approx([0.0, 0.125, 9.0])


def test_error_is_that_of_the_crop(faces):
    decoder = Decoder(little_model(side=17).float())
    code = random_code(LITTLE, 3)
    code = type(code)(**{k: v.float() for k, v in vars(code).items()})
    for face in faces:
        error = photometric_error(crops_to_tensor([face.crop]), decoder(code))
        assert face.photometric_error == pytest.approx(float(error), rel=1e-4)


def test_code_has_no_batch_and_colours_can_be_shown(faces):
    face = faces[0]
    assert face.code.alpha.shape == (5,) and face.code.gamma.shape == (9, 3)
    for colours in (face.reflectance, face.colour):
        assert colours.min() >= 0 and colours.max() <= 1
    assert face.weights == "oracle" and face.model["name"] == "little"


def test_largest_face_or_all_and_none_without_a_face(monkeypatch):
    reconstructor = little_reconstructor(little_model(side=17).float())
    photo = noisy_photo()
    monkeypatch.setattr("mofaface.reconstruct.detect_faces", lambda *_, **__: Detection(BOXES))
    assert len(reconstructor(photo)) == 1 and len(reconstructor(photo, "all")) == 2
    monkeypatch.setattr("mofaface.reconstruct.detect_faces", lambda *_, **__: Detection(()))
    assert reconstructor(photo, "all") == []


def test_array_and_file_that_cannot_be_photos_raise(tmp_path):
    reconstructor = little_reconstructor(little_model().float())
    with pytest.raises(PhotoError, match="does not exist"):
        reconstructor(tmp_path / "gone.jpg")
    with pytest.raises(PhotoError, match="an array of shape"):
        reconstructor(np.zeros((2, 2, 2, 2)))


def test_load_gives_a_reconstructor_with_the_weights_name(weights_path, model_path):
    reconstructor = load(weights_path, model_path)
    assert reconstructor.weights == "untrained"
    assert not reconstructor.autoencoder.training
    assert mofaface.load is load
    faces = reconstructor.from_boxes(noisy_photo(), BOXES)
    assert len(faces) == 2 and not any(face.code.alpha.any() for face in faces)


def test_load_takes_cuda_or_cpu_and_another_device_only_when_asked(weights_path, model_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)

    def device(**options):
        return next(load(weights_path, model_path, **options).autoencoder.parameters()).device.type

    assert device() == "cpu"
    assert device(device="meta") == "meta"
    moved = []
    monkeypatch.setattr(Autoencoder, "to", lambda self, device: moved.append(device) or self)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    device()
    device(device="mps")
    assert moved == ["cuda", "mps"]


def test_faces_of_several_photos_are_those_of_each_alone():
    reconstructor = little_reconstructor(little_model(side=17).float())
    photos = [noisy_photo(name="a.jpg"), noisy_photo(500, 700, "b.jpg"), noisy_photo(name="c.jpg")]
    boxes = [BOXES, (), BOXES[1:]]
    found = [Found(p, tuple(cut_crop(p, box) for box in own)) for p, own in zip(photos, boxes, strict=True)]
    together = reconstructor.from_crops(found)
    assert [len(faces) for faces in together] == [2, 0, 1]
    for photo, own, faces in zip(photos, boxes, together, strict=True):
        for face, alone in zip(faces, reconstructor.from_boxes(photo, own), strict=True):
            assert face.photo is photo and face.index == alone.index
            assert face.photometric_error == pytest.approx(alone.photometric_error, rel=1e-5)
            np.testing.assert_allclose(face.landmarks_68, alone.landmarks_68)
            np.testing.assert_allclose(face.vertices, alone.vertices)


def test_a_face_is_decoded_when_it_is_asked_for_and_once(faces, monkeypatch):
    calls = []
    forward = Decoder.forward
    monkeypatch.setattr(Decoder, "forward", lambda self, code: calls.append(1) or forward(self, code))
    face = little_reconstructor(little_model(side=17).float()).from_boxes(noisy_photo(), BOXES[:1])[0]
    before = len(calls)  # where no kernel was compiled the error needs the decoder
    face.to_json()
    assert len(calls) == before
    assert face.colour is face.colour and len(calls) == before + 1
    np.testing.assert_array_equal(face.colour, faces[0].colour)
    np.testing.assert_array_equal(face.reflectance, faces[0].reflectance)


def test_a_face_goes_to_another_process_decoded_and_without_the_model(faces):
    face = faces[0]
    text = pickle.dumps(face)
    read = pickle.loads(text)
    for name in ("vertices", "reflectance", "colour", "triangles", "uv"):
        np.testing.assert_array_equal(getattr(read, name), getattr(face, name))
    assert read.to_json() == face.to_json() and b"FaceModel" not in text


@needs_examples
def test_both_engines_give_the_same_face():
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    photo = example()
    fast, plain = (mofaface.load(engine=engine)(photo)[0] for engine in ("onnxruntime", "torch"))
    # Boxes differ by a ten-thousandth of a pixel, which changes single pixels of the crop by one step of 255.
    np.testing.assert_allclose(fast.landmarks_68, plain.landmarks_68, atol=0.05)
    np.testing.assert_allclose(fast.vertices, plain.vertices, atol=0.02)
    assert fast.photometric_error == pytest.approx(plain.photometric_error, abs=1e-4)


def test_an_encoder_without_a_graph_runs_in_torch_unless_the_engine_was_demanded(model_path):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from mofaface.encoders.onnx_graph import UnknownOperation

    model = read_face_model(model_path)
    alexnet = AlexNet(shrink=16)
    encoder = Encoder(alexnet, CodeHead(alexnet.out_features, model.layout)).eval().requires_grad_(False)
    autoencoder = Autoencoder(encoder, Decoder(model))
    assert len(Reconstructor(autoencoder, "yunet", "w", "auto").from_boxes(noisy_photo(), BOXES)) == 2
    with pytest.raises(UnknownOperation):
        Reconstructor(autoencoder, "yunet", "w", "onnxruntime").from_boxes(noisy_photo(), BOXES)
