import json
from dataclasses import fields, replace

import numpy as np
import pytest
from little_face import little_arrays
from safetensors import safe_open
from safetensors.numpy import save_file
from test_face_model import sparse

from mofaface.face_models import load_face_model
from mofaface.face_models.container import ContainerError, read_arrays, read_face_model, write_face_model


@pytest.fixture
def path(tmp_path):
    write_face_model(tmp_path / "little.safetensors", little_arrays(side=17))
    return tmp_path / "little.safetensors"


def with_metadata(path, **changes):
    with safe_open(path, framework="numpy") as file:
        metadata, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    metadata = {name: text for name, text in (metadata | changes).items() if text is not None}
    save_file(tensors, path, metadata)


def test_what_is_written_is_read_to_the_stored_precision(path):
    before, (after, _) = little_arrays(side=17), read_arrays(path)
    coarse = {"shape_basis": 5e-3, "expression_basis": 5e-3, "reflectance_basis": 1e-3}
    for f in fields(before):
        a, b = getattr(before, f.name), getattr(after, f.name)
        if isinstance(a, np.ndarray):
            np.testing.assert_allclose(b, a, atol=coarse.get(f.name, 0), err_msg=f.name)
        elif f.name != "regions":
            assert a == b, f.name
    assert after.regions["top"].tolist() == before.regions["top"].tolist()


def test_writing_what_was_read_changes_nothing(path, tmp_path):
    arrays, digest = read_arrays(path)
    assert write_face_model(tmp_path / "again.safetensors", arrays) == digest


def test_a_subdivision_and_absent_arrays_come_back(tmp_path):
    a = little_arrays()
    cage = replace(
        a, subdivision=sparse(np.eye(81)), uv=None, mirror=None, units_expression=None, unit_names=()
    )
    write_face_model(tmp_path / "cage", cage)
    back, _ = read_arrays(tmp_path / "cage")
    assert back.uv is None and back.mirror is None and back.coarse_vertices is None and back.unit_names == ()
    np.testing.assert_array_equal(back.subdivided().mean_shape, a.mean_shape)


def test_the_digest_is_kept_with_the_model_and_depends_on_every_array(path, tmp_path):
    _, digest = read_arrays(path)
    assert read_face_model(path).digest == digest and len(digest) == 64
    a = little_arrays(side=17)
    other = replace(a, mirror=a.mirror[::-1].copy())
    assert write_face_model(tmp_path / "other", other) != digest


def test_load_face_model_reads_a_path(path):
    assert load_face_model(path).name == load_face_model(str(path)).name == "little"


@pytest.mark.parametrize("place", [0.3, 0.6, 0.99])
def test_damaged_bytes_are_noticed(path, place):
    data = bytearray(path.read_bytes())
    data[int(place * len(data))] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(ContainerError, match="damaged|not a readable"):
        read_face_model(path)


@pytest.mark.parametrize("length", [0, 3, 100, -1])
def test_a_truncated_file_is_refused(path, length):
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ContainerError, match="not a readable face model"):
        read_face_model(path)


@pytest.mark.parametrize("data", [b"hello", bytes(1000), json.dumps({"a": 1}).encode() * 50])
def test_a_file_of_another_kind_is_refused(path, data):
    path.write_bytes(data)
    with pytest.raises(ContainerError, match="not a readable face model"):
        read_face_model(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    for place in (tmp_path / "nothing", tmp_path):
        with pytest.raises(ContainerError, match="there is none at"):
            read_face_model(place)


def test_another_format_is_refused_by_name(path):
    with_metadata(path, format="weights")
    with pytest.raises(ContainerError, match="holds 'weights', not a face model"):
        read_face_model(path)


def test_a_safetensors_file_without_metadata_is_refused(path):
    save_file({"weight": np.zeros(3)}, path)
    with pytest.raises(ContainerError, match="not a face model"):
        read_face_model(path)


def test_a_newer_version_is_refused_with_both_versions(path):
    with_metadata(path, format_version="2")
    with pytest.raises(ContainerError, match="version 2; this mofaface reads version 1"):
        read_face_model(path)


def test_a_wrong_digest_is_refused(path):
    with_metadata(path, digest="0" * 64)
    with pytest.raises(ContainerError, match="damaged"):
        read_face_model(path)


def test_an_unfinished_write_leaves_nothing_behind(tmp_path):
    with pytest.raises((AttributeError, TypeError)):
        write_face_model(tmp_path / "model", replace(little_arrays(), name="a", notes=b"\xff"))
    assert list(tmp_path.iterdir()) == []
