"""Scans: known similarities are undone, known displacements are found, and a slid face is caught."""

import numpy as np
import pytest
from little_face import little_arrays, little_model, random_code
from little_photo import BOXES, little_reconstructor, noisy_photo
from scipy.spatial.transform import Rotation

from mofaface.code import CodeLayout
from mofaface.evaluation.on_scans import evaluate_scans, read_landmarks
from mofaface.evaluation.scan import ScanConfig, scan_errors, statistics, vertex_areas
from mofaface.export import Mesh, write_mesh
from mofaface.face_model import FaceModel
from mofaface.face_models.surface import Surface, vertex_normals

SIDE = 41
R = Rotation.from_rotvec([0.3, -0.5, 0.2]).as_matrix()


@pytest.fixture(scope="module")
def face():
    """A face of the little model with 1,681 vertices, and the vertices of its 51 inner landmarks spread over it."""
    layout = CodeLayout(5, 4, 3)
    model = little_model(SIDE, layout)
    code = random_code(layout, 3)
    x = model.geometry(code.alpha, code.delta)[0].numpy()
    u, v = np.meshgrid(np.linspace(5, SIDE - 6, 9).astype(int), np.linspace(5, SIDE - 6, 8).astype(int))
    marks = (v * SIDE + u).ravel()[:68]
    marks[30] = (SIDE * SIDE) // 2
    return Surface(x, model.triangles.numpy()), marks


def measured(estimate: Surface, marks: np.ndarray, scan: Surface, places: np.ndarray, **options):
    rows = np.arange(len(estimate.positions))
    config = ScanConfig(**({"radius": 70.0} | options))
    return scan_errors(estimate, rows, estimate.triangles, marks, scan, places, config)


def test_a_moved_turned_and_enlarged_copy_has_no_error_when_scaled(face):
    estimate, marks = face
    scan = Surface(1.08 * estimate.positions @ R.T + (30, -200, 900), estimate.triangles)
    found = measured(estimate, marks, scan, scan.positions[marks]).plain()
    assert found["surface_scaled"]["p90"] < 1e-3 and found["places_scaled"]["mean"] < 0.05
    assert found["surface_scaled"]["scale"] == pytest.approx(1.08, abs=1e-4)
    # Of metric size nothing is forgiven: 8 % too small at up to 70 mm.
    assert found["surface_rigid"]["mean"] > 0.3 and found["surface_rigid"]["scale"] == 1.0


def test_imprecise_landmarks_are_overcome_by_closest_points(face):
    estimate, marks = face
    scan = Surface(estimate.positions @ R.T, estimate.triangles)
    places = scan.positions[marks] + np.random.default_rng(0).normal(0, 4, (68, 3))
    assert measured(estimate, marks, scan, places).plain()["surface_rigid"]["mean"] < 0.01


@pytest.mark.parametrize("amplitude", [1.0, 2.0])
def test_known_waves_on_the_surface_are_measured(face, amplitude):
    estimate, marks = face
    x, y, _ = estimate.positions.T
    # Waves shorter than the face: no similarity can take them up.
    height = amplitude * np.sin(x / 4.5) * np.sin(y / 5.5)
    waved = estimate.positions + height[:, None] * vertex_normals(estimate)
    scan = Surface(waved @ R.T, estimate.triangles)
    result = measured(
        estimate,
        marks,
        scan,
        scan.positions[marks] - (height[marks, None] * vertex_normals(estimate)[marks]) @ R.T,
    )
    found, area = result.plain(), result.weight
    truth = statistics(np.abs(height)[result.face], area)
    for measure in ("surface_rigid", "surface_scaled"):
        # The nearest point is a little nearer than the foot of the displacement on slopes.
        for name in ("mean", "median", "p90"):
            assert 0.8 * truth[name] < found[measure][name] < 1.03 * truth[name], (measure, name)


def test_a_face_that_slid_over_the_surface_is_caught_by_places_and_not_by_nearest_points():
    side = np.arange(SIDE)
    u, v = ((a.ravel() - SIDE // 2) * 3.0 for a in np.meshgrid(side, side))
    triangles = little_model(SIDE, CodeLayout(5, 4, 3)).triangles.numpy()

    # A ball: the same surface wherever its vertices slide.
    def ball(u, v):
        return np.stack(
            [80 * np.sin(u / 80) * np.cos(v / 80), 80 * np.sin(v / 80), 80 * np.cos(u / 80) * np.cos(v / 80)],
            1,
        )

    slid = 5 * np.exp(-((u - 10) ** 2 + v**2) / 500)
    estimate, scan = Surface(ball(u + slid, v), triangles), Surface(ball(u, v), triangles)
    rows, columns = np.meshgrid(
        np.linspace(4, SIDE - 5, 8).astype(int), np.linspace(4, SIDE - 5, 9).astype(int)
    )
    marks = (rows * SIDE + columns).ravel()[:68]
    marks[30] = SIDE * SIDE // 2
    result = measured(estimate, marks, scan, scan.positions[marks], radius=50.0)
    found = result.plain()
    assert found["surface_rigid"]["mean"] < 0.05
    truth = slid[result.found].mean()
    assert truth > 0.9 and 0.8 * truth < found["places_rigid"]["mean"] < 1.05 * truth


def test_statistics_are_weighted_by_area():
    found = statistics(np.array([3.0, 1.0, 2.0]), np.array([1.0, 8.0, 1.0]))
    assert found == {"mean": pytest.approx(1.3), "median": 1.0, "p90": 2.0}
    square = Surface(
        np.array([[0.0, 0, 0], [2, 0, 0], [2, 2, 0], [0, 2, 0]]), np.array([[0, 1, 2], [0, 2, 3]])
    )
    np.testing.assert_allclose(vertex_areas(square), np.array([4, 2, 4, 2]) / 3)


def test_landmarks_of_unknown_number_and_wrong_units_are_sentences(face):
    estimate, marks = face
    with pytest.raises(ValueError, match="68, 51, 7 points; got 5"):
        measured(estimate, marks, estimate, np.zeros((5, 3)))
    with pytest.raises(ValueError, match="check its unit"):
        measured(
            estimate,
            marks,
            Surface(estimate.positions * 100, estimate.triangles),
            estimate.positions[marks] * 100,
        )


@pytest.fixture
def reconstructor():
    reconstructor = little_reconstructor(FaceModel(little_arrays(33)))
    reconstructor.detect = lambda photo: type("Found", (), {"faces": BOXES})()
    return reconstructor


def write_photo_and_scan(reconstructor, folder, shift=0.0):
    from PIL import Image

    Image.fromarray(noisy_photo().pixels).save(folder / "a.png")
    face = reconstructor(folder / "a.png")[0]
    places = face.vertices.astype(np.float64) + (shift, 0, 0)
    write_mesh(folder / "scan.ply", Mesh(places, face.triangles, face.reflectance))
    return places


def test_photos_and_scans_are_read_aligned_and_reported(reconstructor, tmp_path):
    places = write_photo_and_scan(reconstructor, tmp_path, shift=40.0)
    result = evaluate_scans(reconstructor, [tmp_path / "a.png"], [tmp_path / "scan.ply"])
    (errors,) = result.figures["scans"].values()
    assert errors["surface_rigid"]["mean"] < 0.01 and errors["places_rigid"]["mean"] < 0.1
    marks = reconstructor.autoencoder.decoder.model.landmarks_68.numpy()
    lines = [" ".join(map(str, row)) for row in places[marks[17:]]]
    (tmp_path / "scan.landmarks.txt").write_text("# inner points\n" + "\n".join(lines))
    again = evaluate_scans(reconstructor, [tmp_path / "a.png"], [tmp_path / "scan.ply"])
    assert again.figures["mean"]["surface_scaled"]["mean"] < 0.01
    pytest.importorskip("matplotlib")
    names = {path.name for path in again.write_report(tmp_path / "report")}
    assert {"scans.png", "curve_scans.png", "mesh_places.png", "figures.json"} <= names


def test_scans_that_do_not_fit_the_photos_are_refused(reconstructor, tmp_path):
    write_photo_and_scan(reconstructor, tmp_path)
    with pytest.raises(ValueError, match="one for each photo"):
        evaluate_scans(reconstructor, [tmp_path / "a.png"], [tmp_path / "scan.ply"] * 2)
    (tmp_path / "other.obj").write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n")
    with pytest.raises(ValueError, match="other.landmarks.txt beside it"):
        evaluate_scans(reconstructor, [tmp_path / "a.png"], [tmp_path / "other.obj"])
    reconstructor.detect = lambda photo: type("Found", (), {"faces": ()})()
    with pytest.raises(ValueError, match="shows no face"):
        evaluate_scans(reconstructor, [tmp_path / "a.png"], [tmp_path / "scan.ply"])


def test_landmark_files_have_three_numbers_a_line(tmp_path):
    path = tmp_path / "l.txt"
    path.write_text("1, 2, 3\n" * 7)
    assert read_landmarks(path).shape == (7, 3)
    for text in ("1 2\n" * 7, "1 2 3\n" * 6, "1 2 three\n" * 7, "", "1 2 3\n1 2\n"):
        path.write_text(text)
        with pytest.raises(ValueError, match="must hold"):
            read_landmarks(path)
