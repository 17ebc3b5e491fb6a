"""A saved face: files that open in other programs, upright and in the right size, or nothing at all."""

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
import trimesh
from little_face import little_model
from little_photo import BOXES, little_reconstructor, noisy_photo

from mofaface import reconstruction


@pytest.fixture(scope="module")
def face():
    return little_reconstructor(little_model(side=17).float()).from_boxes(noisy_photo(), BOXES[:1])[0]


def test_folder_holds_what_was_asked_for_and_nothing_else(tmp_path, face):
    def files(folder):
        return sorted(file.name for file in folder.iterdir())

    assert files(face.save(tmp_path)) == ["code.json", "face.glb", "overlay.png"]
    assert files(face.save(tmp_path, "all", ("json", "obj", "ply"))) == ["code.json", "face.obj", "face.ply"]
    assert files(tmp_path) == ["all", "holiday"]


def test_glb_is_upright_and_in_metres(tmp_path, face):
    mesh = trimesh.load(face.save(tmp_path) / "face.glb", force="mesh", process=False)
    np.testing.assert_allclose(mesh.vertices, face.vertices / 1000, atol=1e-6)
    assert 0.1 < np.ptp(mesh.vertices[:, 1]) < 0.3
    top = little_model(side=17).regions["top"].numpy()
    assert mesh.vertices[top, 1].mean() > mesh.vertices[:, 1].mean() + 0.03
    # Its outside looks towards +z, where a viewer stands.
    assert (mesh.face_normals * mesh.area_faces[:, None]).sum(0)[2] > 0


def test_code_json_holds_every_field_of_the_convention(tmp_path, face):
    plain = json.loads((face.save(tmp_path) / "code.json").read_text())
    assert plain["format"] == "mofaface-code" and plain["format_version"] == "1"
    assert set(plain["model"]) == {"name", "version", "digest"} and plain["weights"] == "oracle"
    shapes = {name: np.shape(value) for name, value in plain["code"].items()}
    expected = {
        "alpha": (5,),
        "delta": (4,),
        "beta": (3,),
        "rotation": (3,),
        "translation": (3,),
        "gamma": (9, 3),
    }
    assert shapes == expected
    for part, size in (("crop", [240, 240]), ("photo", [640, 480])):
        camera = plain["camera"][part]
        assert (
            np.shape(camera["K"]) == (3, 3)
            and np.shape(camera["R"]) == (3, 3)
            and np.shape(camera["t"]) == (3,)
        )
        assert camera["size"] == size
    assert np.shape(plain["landmarks_68"]) == (68, 2)
    assert 0 <= plain["quality"] <= 1 and plain["photometric_error"] > 0


def test_cameras_of_code_json_project_the_glb_onto_the_landmarks(tmp_path, face):
    folder = face.save(tmp_path)
    plain = json.loads((folder / "code.json").read_text())
    mesh = trimesh.load(folder / "face.glb", force="mesh", process=False)
    camera = {name: np.array(value) for name, value in plain["camera"]["photo"].items()}
    x = (1000 * mesh.vertices @ camera["R"].T + camera["t"]) @ camera["K"].T
    landmarks = little_model(side=17).landmarks_68.numpy()
    np.testing.assert_allclose((x[:, :2] / x[:, 2:])[landmarks], plain["landmarks_68"], atol=5e-3)


def test_overlay_has_the_photo_size_and_changes_only_the_face(tmp_path, face):
    picture = cv2.imread(str(face.save(tmp_path) / "overlay.png"))[..., ::-1]
    assert picture.shape == face.photo.pixels.shape
    changed = (picture != face.photo.pixels).any(-1)
    rows, columns = np.nonzero(changed)
    seen = face.camera_photo.project(torch.from_numpy(face.vertices).double()).numpy()
    assert abs(columns.mean() - seen[:, 0].mean()) < 15 and abs(rows.mean() - seen[:, 1].mean()) < 15
    assert columns.min() >= seen[:, 0].min() - 1 and columns.max() <= seen[:, 0].max() + 1


def test_mesh_carries_reflectance_and_texture_coordinates(face):
    assert face.mesh.colours is face.reflectance
    assert face.mesh.uv is not None and len(face.mesh.uv) == len(face.vertices)


def test_saving_again_replaces_the_folder_as_a_whole(tmp_path, face):
    face.save(tmp_path, outputs=("obj",))
    folder = face.save(tmp_path, outputs=("json",))
    assert [file.name for file in folder.iterdir()] == ["code.json"]


@pytest.mark.parametrize("other", ["notes.txt", "face.stl", "face.glb/deep.txt", "album/face.glb"])
def test_folder_with_other_files_is_left_as_it_is(tmp_path, face, other):
    folder = face.save(tmp_path, outputs=("json",))
    (folder / other).parent.mkdir(exist_ok=True)
    (folder / other).write_text("mine")
    before = sorted(folder.rglob("*"))
    with pytest.raises(ValueError, match="holiday holds other files; give another --out"):
        face.save(tmp_path)
    assert sorted(folder.rglob("*")) == before and (folder / other).read_text() == "mine"
    assert [file.name for file in tmp_path.iterdir()] == ["holiday"]


def test_file_that_comes_while_saving_is_kept(tmp_path, face, monkeypatch):
    folder = face.save(tmp_path, outputs=("json",))
    monkeypatch.setattr(reconstruction, "write_mesh", lambda *_: (folder / "notes.txt").write_text("mine"))
    with pytest.raises(ValueError, match="holds other files"):
        face.save(tmp_path, outputs=("glb",))
    assert sorted(file.name for file in folder.iterdir()) == ["code.json", "notes.txt"]


def test_link_or_file_in_the_place_of_the_folder_is_kept(tmp_path, face):
    elsewhere = face.save(tmp_path, "elsewhere", ("json",))
    (tmp_path / "linked").symlink_to(elsewhere)
    (tmp_path / "file").write_text("mine")
    for name in ("linked", "file"):
        with pytest.raises(ValueError, match=f"{name} is not a folder of results; give another --out"):
            face.save(tmp_path, name)
    assert [file.name for file in elsewhere.iterdir()] == ["code.json"]


@pytest.mark.parametrize(
    "name, folder", [("...jpg", "photo"), ("..", "photo"), ("./. .png", "photo"), (".a .jpg", "a")]
)
def test_name_of_dots_stays_below_the_folder_for_results(tmp_path, face, name, folder):
    odd = replace(face, photo=replace(face.photo, name=name))
    assert odd.save(tmp_path / "out", outputs=("json",)) == tmp_path / "out" / folder
    assert replace(odd, index=1).save(tmp_path / "out", outputs=("json",)).name == f"{folder}_2"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("trouble", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_failure_on_the_way_leaves_nothing_partial_and_the_old_result_alone(
    tmp_path, face, monkeypatch, trouble
):
    old = face.save(tmp_path, outputs=("obj",))

    def fail(path, mesh):
        path.write_bytes(b"half")
        raise trouble

    monkeypatch.setattr(reconstruction, "write_mesh", fail)
    with pytest.raises(type(trouble)):
        face.save(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["holiday"]
    assert [file.name for file in old.iterdir()] == ["face.obj"]


def test_code_that_is_no_number_is_never_written(tmp_path, face):
    broken = replace(face, code=replace(face.code, alpha=face.code.alpha * float("nan")))
    with pytest.raises(ValueError):
        broken.save(tmp_path, outputs=("json",))
    assert not list(tmp_path.iterdir())
