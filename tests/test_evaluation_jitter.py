"""Trembling: none for steady motion, √6 σ for noise, and crops of changing size do not count as motion."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from little_photo import BOXES, little_reconstructor, noisy_photo
from PIL import Image
from scipy.spatial.transform import Rotation

from mofaface.crop import Box
from mofaface.evaluation.jitter import Frame, clip_of, clips, frames, jitter, summarise
from mofaface.evaluation.on_clips import evaluate_clips
from mofaface.face_models.container import read_face_model

FOCAL = 1000.0


def clip(count: int = 400, noise: float = 0.0, crop_noise: float = 0.0, seed: int = 0) -> list[Frame]:
    """A head that moves and turns steadily, seen by a still camera of 2,000 pixels through crops of changing size."""
    random = np.random.default_rng(seed)
    shape = random.normal(size=(80, 3)) * 50
    result = []
    for i in range(count):
        R = Rotation.from_rotvec([0, 0.001 * i, 0]).as_matrix()
        t = np.array([0.2 * i, -0.1 * i, 1500.0 + 0.3 * i])
        scale = 2.0 * np.exp(crop_noise * random.normal())
        landmarks = np.stack([np.arange(68.0), np.arange(68.0)], 1) + 0.4 * i
        result.append(
            Frame(
                i,
                landmarks + noise * random.normal(size=(68, 2)),
                landmarks,
                shape @ R.T,
                2000.0 * t[:2] / t[2],
                t[2] * FOCAL * scale / 2000.0,
                shape + noise * random.normal(size=shape.shape),
                R,
                scale,
            )
        )
    return result


def test_steady_motion_does_not_tremble():
    found = jitter(clip(), FOCAL)
    assert len(found["landmarks_px"]) == 398
    for name in ("landmarks_px", "detector_px", "against_detector_px", "shape_mm", "rotation_deg"):
        assert found[name].max() < 1e-5, name
    # A steady turn bends the path of each vertex: its second difference is r ω², 1e-6 of some 50 mm.
    assert found["vertices_mm"].max() < 1e-3


def test_noise_gives_root_six_times_itself_over_the_points():
    found = jitter(clip(noise=0.5), FOCAL)
    # Two coordinates of a landmark, three of a vertex; a crop pixel is two photo pixels.
    assert found["landmarks_px"].mean() == pytest.approx(0.5 * np.sqrt(6 * 2) / 2, rel=0.02)
    assert found["against_detector_px"].mean() == pytest.approx(found["landmarks_px"].mean(), rel=1e-6)
    assert found["shape_mm"].mean() == pytest.approx(0.5 * np.sqrt(6 * 3), rel=0.02)
    assert found["detector_px"].max() < 1e-9


def test_crops_that_change_in_size_are_no_motion():
    assert jitter(clip(crop_noise=0.05), FOCAL)["vertices_mm"].max() < 1e-3


def test_a_head_that_turns_back_and_forth_trembles_by_twice_its_turn():
    still = clip(3)
    turned = replace(still[1], rotation=Rotation.from_rotvec([0, np.radians(2), 0]).as_matrix())
    same = [replace(f, rotation=np.eye(3)) for f in still]
    assert jitter([same[0], turned, same[2]], FOCAL)["rotation_deg"] == pytest.approx([4.0])


def test_missing_frames_break_the_sequence():
    some = clip(10)
    assert len(jitter(some[:4] + some[5:], FOCAL)["landmarks_px"]) == 5
    assert len(jitter(some[:2], FOCAL)["landmarks_px"]) == 0
    with pytest.raises(ValueError, match="three frames in a row"):
        summarise({"a": jitter(some[:2], FOCAL)})


def test_clips_are_folders_or_people_in_natural_order(tmp_path):
    for name in ("a/frame10.jpg", "a/frame9.jpg", "b/1.jpg", "Ann_Lee_02.jpg", "Ann_Lee_01.jpg", "Bo_01.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    found = {name: [item.name for item in items] for name, items in clips(tmp_path).items()}
    assert found == {
        "a": ["a/frame9.jpg", "a/frame10.jpg"],
        "b": ["b/1.jpg"],
        "Ann_Lee": ["Ann_Lee_01.jpg", "Ann_Lee_02.jpg"],
        "Bo": ["Bo_01.jpg"],
    }
    assert clip_of("000017.png") == "clip"


@pytest.fixture
def reconstructor(model_path, monkeypatch):
    reconstructor = little_reconstructor(read_face_model(model_path))
    places = iter(range(100))

    def detect(photo):
        i = next(places)
        box = Box(BOXES[0].x + 3 * i, BOXES[0].y + 2 * i, BOXES[0].width, BOXES[0].height)
        return type("Found", (), {"faces": (box,)})()

    reconstructor.detect = detect
    mesh = type("Mesh", (), {"landmarks_68": np.zeros((68, 2))})()
    monkeypatch.setattr("mofaface.evaluation.jitter.find_mesh", lambda photo, box: mesh)
    return reconstructor


def test_a_network_that_always_says_the_same_does_not_tremble_in_steady_boxes(reconstructor, tmp_path):
    for i in range(4):
        Image.fromarray(noisy_photo().pixels).save(tmp_path / f"{i}.png")
    found = list(frames(reconstructor, clips(tmp_path)["clip"]))
    again = reconstructor.from_boxes(noisy_photo(), (BOXES[0],))[0]
    np.testing.assert_allclose(found[0].landmarks, again.landmarks_68, atol=1e-3)
    x = torch.from_numpy(again.vertices.astype(np.float64)) @ again.camera_crop.R.mT
    np.testing.assert_allclose(found[0].vertices, x.numpy(), atol=1e-3)


def test_clips_are_summarised_and_drawn(reconstructor, tmp_path):
    for i in range(4):
        Image.fromarray(noisy_photo().pixels).save(tmp_path / f"{i}.png")
    result = evaluate_clips(reconstructor, tmp_path)
    assert result.figures["clips"] == {"clip": 2} and result.figures["landmarks_px"]["mean"] < 1e-3
    assert result.figures["vertices_mm"]["mean"] < 1e-3 and "jitter" in result.text()
    pytest.importorskip("matplotlib")
    names = {path.name for path in result.write_report(tmp_path / "report")}
    assert "curve_jitter.png" in names
