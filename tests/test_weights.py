"""Weights files: what they hold comes back, and what they cannot be used for is said in a sentence."""

import json

import pytest
import torch
from little_corpus import TINY
from little_face import little_arrays
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from mofaface import weights
from mofaface.decoder import AMBIENT, Decoder
from mofaface.encoders import WeightsError, build_encoder
from mofaface.face_models.container import read_face_model, write_face_model
from mofaface.weights import find_weights, read_autoencoder, read_tensors, write_tensors, write_weights


@pytest.fixture
def model(model_path):
    return read_face_model(model_path)


@pytest.fixture
def encoder(model):
    torch.manual_seed(1)
    encoder = build_encoder(TINY, model.layout).eval()
    for parameter in encoder.head.parameters():
        torch.nn.init.normal_(parameter, std=0.01)
    return encoder


def metadata_of(path):
    with safe_open(path, framework="pt") as file:
        return file.metadata()


@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 0), (torch.float16, 2e-2)])
def test_network_that_was_written_and_read_answers_the_same(tmp_path, model, encoder, dtype, tolerance):
    path = tmp_path / "w.safetensors"
    write_weights(path, encoder.state_dict(), TINY, Decoder(model), {"iteration": 7}, dtype)
    image = torch.rand(2, 3, 240, 240)
    code, _ = read_autoencoder(path, model)(image)
    torch.testing.assert_close(
        model.layout.pack(code), model.layout.pack(encoder(image)), rtol=0, atol=tolerance
    )
    assert [file.name for file in tmp_path.iterdir()] == ["w.safetensors"]


def test_file_says_what_it_is_for_and_how_it_came_about(tmp_path, model, encoder):
    path = tmp_path / "w.safetensors"
    write_weights(path, encoder.state_dict(), TINY, Decoder(model), {"iteration": 7})
    said = metadata_of(path)
    assert said["format"] == "mofaface-weights" and said["format_version"] == "1"
    assert json.loads(said["face_model"])["digest"] == model.digest
    assert json.loads(said["encoder"])["input_size"] == TINY.input_size
    assert json.loads(said["camera"])["focal"] == 1000.0
    assert json.loads(said["training"]) == {"iteration": 7}


def test_statistic_too_large_for_float16_survives(tmp_path, model, encoder):
    path = tmp_path / "w.safetensors"
    state = encoder.state_dict()
    name = next(name for name in state if name.endswith("running_var"))
    state[name] = torch.full_like(state[name], 1e6)
    write_weights(path, state, TINY, Decoder(model), {})
    assert (read_autoencoder(path, model).encoder.state_dict()[name] == 1e6).all()


def test_first_prediction_is_the_average_face_centred_and_lit_by_ambient_light(weights_path, model):
    code, face = read_autoencoder(weights_path, model)(torch.rand(1, 3, 240, 240))
    assert not model.layout.pack(code).any()
    torch.testing.assert_close(
        face.x_camera[0] * torch.tensor([1.0, -1, -1]), model.mean_shape - torch.tensor([0, 0, 1000.0])
    )
    torch.testing.assert_close(face.shading, torch.full_like(face.shading, AMBIENT))
    torch.testing.assert_close(face.colour[0], AMBIENT * model.mean_reflectance)
    middle = (face.uv_crop[0].amin(0) + face.uv_crop[0].amax(0)) / 2
    assert (middle - 120).abs().max() < 5


def test_weights_of_another_face_model_are_refused_with_both_names(tmp_path, weights_path):
    other = tmp_path / "other.safetensors"
    write_face_model(other, little_arrays(side=17, seed=5))
    with pytest.raises(WeightsError, match="was trained for face model 'little' version 0.*give the model"):
        read_autoencoder(weights_path, read_face_model(other))


@pytest.mark.parametrize("keep", [0, 4, 100, 5000, -1])
def test_truncated_file_is_refused(tmp_path, weights_path, model, keep):
    path = tmp_path / "cut.safetensors"
    path.write_bytes(weights_path.read_bytes()[:keep])
    with pytest.raises(WeightsError, match="damaged or not a safetensors file.*copy it again"):
        read_autoencoder(path, model)


def test_text_file_and_face_model_are_refused(tmp_path, model, model_path):
    text = tmp_path / "note.safetensors"
    text.write_text("these are no weights" * 100)
    with pytest.raises(WeightsError, match="damaged or not a safetensors file"):
        read_autoencoder(text, model)
    with pytest.raises(WeightsError, match="holds 'mofaface-face-model', expected 'mofaface-weights'"):
        read_autoencoder(model_path, model)


def test_file_without_format_and_file_of_a_later_version_are_refused(tmp_path, model):
    path = tmp_path / "w.safetensors"
    save_file({"x": torch.zeros(1)}, path)
    with pytest.raises(WeightsError, match="holds 'something else'"):
        read_autoencoder(path, model)
    save_file({"x": torch.zeros(1)}, path, {"format": "mofaface-weights", "format_version": "9"})
    with pytest.raises(WeightsError, match="has version 9, this mofaface reads 1"):
        read_autoencoder(path, model)


def changed(weights_path, path, drop=(), **metadata):
    with safe_open(weights_path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys() if name not in drop}  # noqa: SIM118
        save_file(tensors, path, file.metadata() | metadata)
    return path


def test_missing_layer_unknown_encoder_and_missing_description_are_refused(tmp_path, weights_path, model):
    path = tmp_path / "w.safetensors"
    with pytest.raises(WeightsError, match="does not fit the encoder that it names"):
        read_autoencoder(changed(weights_path, path, drop=["head.z.bias"]), model)
    with pytest.raises(WeightsError, match="which encoder it needs"):
        read_autoencoder(changed(weights_path, path, encoder='{"depth": 9, "gains": {}}'), model)
    with pytest.raises(WeightsError, match="resnet"):
        read_autoencoder(changed(weights_path, path, encoder='{"backbone": "resnet", "gains": {}}'), model)
    with pytest.raises(WeightsError, match="which camera it needs"):
        read_autoencoder(changed(weights_path, path, camera="{"), model)
    with pytest.raises(WeightsError, match="which camera it needs"):
        read_autoencoder(changed(weights_path, path, camera='{"focus": 1}'), model)
    with pytest.raises(WeightsError, match="which face_model it needs"):
        read_autoencoder(changed(weights_path, path, face_model="{}"), model)


def test_unknown_name_lists_the_shipped_ones(monkeypatch, tmp_path, weights_path):
    (tmp_path / "fast.safetensors").touch()
    (tmp_path / "open_face_v1.safetensors").touch()
    monkeypatch.setattr(weights, "ASSETS", tmp_path)
    assert find_weights("fast") == tmp_path / "fast.safetensors"
    assert find_weights(weights_path) == weights_path
    with pytest.raises(WeightsError, match=r"shipped names \(fast\) or a file; 'slow' is neither"):
        find_weights("slow")
    with pytest.raises(WeightsError, match="'gone.safetensors' is neither"):
        find_weights("gone.safetensors")
    with pytest.raises(WeightsError, match="is neither"):
        find_weights(tmp_path)


def test_full_disk_is_a_sentence_and_leaves_the_old_file_alone(tmp_path, monkeypatch):
    def full(tensors, path, metadata):
        path.write_text("half of it")
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(weights, "save_file", full)
    path = tmp_path / "w.safetensors"
    path.write_text("the old file")
    with pytest.raises(OSError, match="could not be written.*No space left.*check"):
        write_tensors(path, {"x": torch.zeros(100_000)}, {"format": "f"})
    assert [file.name for file in tmp_path.iterdir()] == ["w.safetensors"]
    assert path.read_text() == "the old file"


def test_interrupted_writing_leaves_nothing(tmp_path, monkeypatch):
    def interrupted(tensors, path, metadata):
        path.write_text("half of it")
        raise KeyboardInterrupt

    monkeypatch.setattr(weights, "save_file", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_tensors(tmp_path / "w.safetensors", {}, {})
    assert not list(tmp_path.iterdir())


def test_missing_folder_is_a_sentence(tmp_path):
    with pytest.raises(OSError, match="could not be written.*check its folder"):
        write_tensors(tmp_path / "no" / "w.safetensors", {"x": torch.zeros(1)}, {"format": "f"})


def test_tensors_and_metadata_come_back(tmp_path):
    path = tmp_path / "t.safetensors"
    tensors = {"a": torch.rand(3), "b": torch.rand(4, 2).T, "n": torch.tensor(3)}
    write_tensors(path, tensors, {"format": "f", "format_version": "1", "values": {"x": [1, 2.5]}})
    back, metadata = read_tensors(path, "f")
    assert all(torch.equal(back[name], tensor) for name, tensor in tensors.items())
    assert json.loads(metadata["values"]) == {"x": [1, 2.5]}
