"""Errors against true codes: zero for the truth itself, known for known changes, Procrustes as SciPy's."""

from dataclasses import dataclass, fields, replace

import numpy as np
import pytest
import torch
from little_corpus import corpus_in_memory
from little_face import LITTLE, little_model, random_code
from little_photo import little_reconstructor
from scipy.spatial import procrustes
from scipy.spatial.transform import Rotation

from mofaface.corpus import CorpusSplit
from mofaface.decoder import Decoder, illuminate
from mofaface.evaluation.on_corpus import evaluate_corpus
from mofaface.evaluation.truth import errors_on_truth, posed, true_codes
from mofaface.face_models.container import read_face_model
from mofaface.geometry import landmark_places
from mofaface.metrics import aligned, light_error, point_distances, rotation_error


@dataclass(frozen=True)
class SyntheticSplit(CorpusSplit):
    """A split whose codes are known, as synthetic corpora give it."""

    codes: np.ndarray | None = None


def with_codes(split: CorpusSplit, codes: np.ndarray | None) -> SyntheticSplit:
    values = {f.name: getattr(split, f.name) for f in fields(split) if f.name != "codes"}
    return SyntheticSplit(**values, codes=codes)


@pytest.fixture
def packed(decoder):
    return LITTLE.pack(random_code(LITTLE, 0, 5)).float().numpy()


def test_the_truth_itself_has_no_error(decoder, packed):
    found = errors_on_truth(decoder, packed, packed)
    assert found.photographs.tolist() == [0, 1, 2, 3, 4]
    for name, values in found.errors.items():
        np.testing.assert_allclose(values, 0, atol=1e-5, err_msg=name)
    assert found.vertex_mm.shape == (decoder.model.vertices,)


def test_moved_and_enlarged_faces_have_no_geometric_error_but_turned_ones_have():
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 30, 3))) * 50
    moved = 1.3 * x + torch.tensor([5.0, -7.0, 100.0])
    np.testing.assert_allclose(point_distances(moved, x), 0, atol=1e-9)
    R = torch.from_numpy(Rotation.from_rotvec([0, 0, np.radians(10)]).as_matrix())
    turned = moved @ R.mT
    kept = point_distances(turned, x)
    # About a centre, a turn by 10° with the best scale cos 10° moves a point at distance r from the axis by r sin 10°.
    c = x - x.mean(1, keepdim=True)
    scale = (c[..., :2].norm(dim=-1).pow(2).sum(1) * np.cos(np.radians(10)) + c[..., 2].pow(2).sum(1)) / (
        c.pow(2).sum((1, 2))
    )
    expected = (scale[:, None, None] * c @ R.mT - c).norm(dim=-1)
    np.testing.assert_allclose(kept, expected, atol=1e-9)
    assert kept.mean() > 4
    np.testing.assert_allclose(point_distances(turned, x, turned=True), 0, atol=1e-9)


def test_alignment_is_the_procrustes_analysis_of_scipy():
    random = np.random.default_rng(1)
    truth = random.normal(size=(40, 3)) * [60, 80, 40]
    # Close to the truth but for a rotation, so that SciPy, which allows mirrors, needs none.
    estimate = 0.7 * truth @ Rotation.from_rotvec([0.4, -0.9, 0.3]).as_matrix() + random.normal(0, 9, (40, 3))
    _, second, disparity = procrustes(truth, estimate)
    ours = aligned(torch.from_numpy(estimate)[None], torch.from_numpy(truth)[None], turned=True)[0].numpy()
    size = np.linalg.norm(truth - truth.mean(0))
    np.testing.assert_allclose((ours - truth.mean(0)) / size, second, atol=1e-9)
    assert ((ours - truth) ** 2).sum() / size**2 == pytest.approx(disparity)


def test_a_mirrored_face_is_not_mirrored_back():
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(1, 30, 3)))
    assert point_distances(x * torch.tensor([-1.0, 1, 1]), x, turned=True).mean() > 0.3


def test_light_error_is_the_rms_of_the_shading_over_a_sphere():
    generator = torch.Generator().manual_seed(0)
    a, b = (0.2 * torch.randn(2, 9, 3, dtype=torch.float64, generator=generator) for _ in range(2))
    n = torch.nn.functional.normalize(
        torch.randn(1, 400_000, 3, dtype=torch.float64, generator=generator), dim=-1
    ).expand(2, -1, -1)
    sampled = ((illuminate(n, a) - illuminate(n, b)) ** 2).mean((1, 2)).sqrt()
    np.testing.assert_allclose(light_error(a, b), sampled, rtol=5e-3)


def test_rotation_error_is_the_angle_of_the_rotation_between():
    random = np.random.default_rng(0)
    a = Rotation.from_rotvec(random.normal(size=(20, 3)))
    angles = np.r_[0.0, 1e-7, np.pi, random.uniform(0, np.pi, 17)]
    axes = random.normal(size=(20, 3))
    b = Rotation.from_rotvec(angles[:, None] * axes / np.linalg.norm(axes, axis=1, keepdims=True)) * a
    found = rotation_error(torch.from_numpy(a.as_matrix()), torch.from_numpy(b.as_matrix()))
    np.testing.assert_allclose(found, np.degrees(angles), atol=1e-5)


def test_known_changes_of_a_code_give_known_errors(decoder, packed):
    slices = LITTLE.slices()
    changed = packed.copy()
    changed[:, slices["gamma"].start] += 0.3  # the first harmonic's red
    changed[:, slices["translation"].start + 2] += 40.0
    found = errors_on_truth(decoder, changed, packed).errors
    np.testing.assert_allclose(found["light_rms"], 0.3 / np.sqrt(3), rtol=1e-5)
    for name in ("geometry_mm", "geometry_turned_mm", "reflectance_rms", "rotation_deg"):
        np.testing.assert_allclose(found[name], 0, atol=1e-4, err_msg=name)
    assert (found["truth_landmark_px"] > 0.5).all()
    changed = packed.copy()
    changed[:, slices["beta"].start + 1] += 2.0
    basis = decoder.model.reflectance_basis[decoder.model.frontal, :, 1]
    found = errors_on_truth(decoder, changed, packed).errors
    np.testing.assert_allclose(found["reflectance_rms"], 2 * basis.pow(2).mean().sqrt().item(), rtol=1e-5)


def test_only_photographs_with_a_code_are_compared(decoder, packed):
    truth = packed.copy()
    truth[[0, 3]] = np.nan
    found = errors_on_truth(decoder, packed, truth)
    assert found.photographs.tolist() == [1, 2, 4] and len(found.errors["geometry_mm"]) == 3
    with pytest.raises(ValueError, match="evaluate with the model that the faces were made of"):
        errors_on_truth(decoder, packed, truth[:, :-1])


def test_a_split_tells_whether_it_has_codes(packed):
    split = corpus_in_memory(5)
    assert true_codes(split) is None and true_codes(with_codes(split, None)) is None
    assert true_codes(with_codes(split, np.full_like(packed, np.nan))) is None
    assert true_codes(with_codes(split, packed)) is packed


def test_the_short_ways_agree_with_the_decoder():
    decoder = Decoder(little_model(side=17))
    code = random_code(LITTLE, 2, 3)
    face = decoder(code)
    torch.testing.assert_close(posed(decoder, code), face.x_camera)
    torch.testing.assert_close(
        landmark_places(decoder.model, decoder.camera, code), face.uv_crop[:, decoder.model.landmarks_68]
    )


def test_a_synthetic_corpus_is_measured_beside_the_papers_figures(model_path, tmp_path):
    model = read_face_model(model_path)
    split = corpus_in_memory(6)
    # The codes that corpus_in_memory renders.
    codes = LITTLE.pack(random_code(LITTLE, 0, 6)).float().numpy()
    codes[2] = np.nan
    split = replace(
        with_codes(split, codes), sources=("synthetic", "synthetic", "real", "synthetic") + ("more",) * 2
    )
    result = evaluate_corpus(little_reconstructor(model).autoencoder, split)
    figures = result.figures
    assert figures["geometry_mm"]["count"] == 5 and figures["landmark_px"]["count"] == 6
    assert figures["truth_photometric"]["count"] == 5 and figures["published"]["geometry_mm"] == "21.6 → 4.5"
    assert figures["truth_landmark_px"]["mean"] > 1
    assert "21.6 → 4.5" in result.text() and "0.33 → 0.05" in result.text()
    by_source = figures["groups"]["source"]
    assert by_source["geometry_mm"].keys() == {"more", "synthetic"}
    assert by_source["landmark_px"].keys() == {"more", "real", "synthetic"}
    pytest.importorskip("matplotlib")
    written = {path.name for path in result.write_report(tmp_path / "report")}
    assert {
        "mesh_geometry.png",
        "mesh_shape.png",
        "cases_geometry_mm.png",
        "curve_geometry_mm.png",
    } <= written
    assert {path.name for path in (tmp_path / "report").iterdir()} == written
    rows = (tmp_path / "report" / "photographs.csv").read_text().splitlines()
    assert len(rows) == 7 and "geometry_mm" in rows[0]
