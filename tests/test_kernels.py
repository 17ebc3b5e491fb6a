"""The compiled kernel against the plain decoder and losses in float64."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from little_face import little_arrays, random_code

from mofaface.bench import fewer_modes
from mofaface.camera import Camera
from mofaface.code import CodeLayout
from mofaface.decoder import Decoder
from mofaface.face_model import FaceModel, FaceModelArrays, SparseMatrix
from mofaface.kernels import FusedTerms, PlainTerms, loss_terms, native, native_level
from mofaface.kernels.packing import PackedModel, fans, nearby, one_rings
from mofaface.kernels.terms import check_inputs

compiled = pytest.mark.skipif(native_level() is None, reason="no compiled kernel is installed")
CAMERA = Camera(focal=500, size=60, distance=900)


def model_of(kind: str) -> FaceModel:
    """Little models: geometry on the vertices, on a cage, with a frontal part, with few modes, with many."""
    if kind == "few modes":
        return FaceModel(little_arrays(9, CodeLayout(1, 1, 1)))
    if kind == "many modes":
        return FaceModel(little_arrays(13, CodeLayout(33, 18, 41)))
    arrays = little_arrays(17)
    if kind == "frontal part":
        arrays = replace(arrays, regions={"frontal": np.flatnonzero(arrays.mean_shape[:, 1] > -20)})
    if kind in ("cage", "coarse cage"):
        arrays = on_a_cage(arrays)
    model = FaceModel(arrays)
    return model.coarse() if kind == "coarse cage" else model


def on_a_cage(arrays: FaceModelArrays) -> FaceModelArrays:
    """The mesh of 17² vertices as the bilinear subdivision of every second row and column."""
    fine, rough = 17, 9
    row, column = (k.ravel() for k in np.meshgrid(np.arange(fine), np.arange(fine), indexing="ij"))
    entries = []
    for r, c in zip(row, column, strict=True):
        rs, cs = sorted({r // 2, (r + 1) // 2}), sorted({c // 2, (c + 1) // 2})
        entries.append([(i * rough + j, 1 / (len(rs) * len(cs))) for i in rs for j in cs])
    S = SparseMatrix(
        np.cumsum([0] + [len(e) for e in entries]),
        np.array([k for e in entries for k, _ in e]),
        np.array([v for e in entries for _, v in e], np.float32),
        rough**2,
    )
    cage = little_arrays(rough)
    return replace(
        arrays,
        mean_shape=cage.mean_shape,
        shape_basis=cage.shape_basis,
        expression_basis=cage.expression_basis,
        subdivision=S,
    )


def pictures(batch: int, size: int = 60, seed: int = 0) -> torch.Tensor:
    """Smooth random pictures, float64."""
    noise = torch.rand(
        batch, 3, size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    )
    return torch.nn.functional.avg_pool2d(noise, 5, 1, 2)


def measured(terms, x, image, targets, confidence):
    """Terms and both gradients by the packed code."""
    x = x.clone().requires_grad_(True)
    found = terms(terms.decoder.model.layout.unpack(x), image, targets, confidence)
    by_photo = torch.autograd.grad(found.photo.sum(), x, retain_graph=True)[0]
    return found, by_photo, torch.autograd.grad(found.land.sum(), x)[0]


def both(model, batch, precision="float32", seed=0, size=1.0, image=None, camera=CAMERA):
    """The kernel's and the plain twin's results for random codes, the twin's in float64."""
    points = model.landmarks_68[::3]
    x = model.layout.pack(random_code(model.layout, seed, batch, size))
    image = pictures(batch) if image is None else image
    random = torch.Generator().manual_seed(seed)
    targets = 60 * torch.rand(batch, len(points), 2, dtype=torch.float64, generator=random)
    confidence = torch.rand(batch, len(points), dtype=torch.float64, generator=random)
    inputs = (x, image, targets, confidence)
    fused = measured(FusedTerms(Decoder(model, camera), points, precision), *(t.float() for t in inputs))
    plain = measured(PlainTerms(Decoder(FaceModel(model.stored).double(), camera), points), *inputs)
    return fused, plain


def assert_alike(fused, plain, tolerance=1e-4):
    """Values to the tolerance; each part of a gradient to the tolerance of its largest value in the picture."""
    (found, *gradients), (expected, *truths) = fused, plain
    assert found.front.tolist() == expected.front.tolist()
    torch.testing.assert_close(found.photo.double(), expected.photo, rtol=tolerance, atol=1e-9)
    torch.testing.assert_close(found.land.double(), expected.land, rtol=tolerance, atol=1e-9)
    torch.testing.assert_close(found.places.double(), expected.places, rtol=1e-5, atol=1e-3)
    for gradient, truth in zip(gradients, truths, strict=True):
        error = (gradient - truth).abs().max(-1).values
        assert (error <= tolerance * truth.abs().max(-1).values + 1e-12).all()


@compiled
@pytest.mark.parametrize(("batch", "seed"), [(1, 0), (3, 0), (5, 0), (8, 0), (9, 0), (17, 0), (40, 2)])
def test_every_batch_size_agrees_with_the_plain_twin(batch, seed):
    # Seeds for which no vertex lies so exactly on the outline that float32 and float64 see it from two sides.
    assert_alike(*both(model_of("cage"), batch, seed=seed))


@compiled
@pytest.mark.parametrize(
    "kind", ["vertices", "cage", "coarse cage", "frontal part", "few modes", "many modes"]
)
@pytest.mark.parametrize("seed", [0, 1])
def test_every_kind_of_model_agrees_with_the_plain_twin(kind, seed):
    fused, plain = both(model_of(kind), 5, seed=seed)
    assert plain[0].photo.min() > 0.01 and plain[0].front.min() > 10
    assert_alike(fused, plain)


@compiled
@pytest.mark.parametrize("level", ["avx512", "avx2", "baseline"])
def test_every_build_agrees_with_the_plain_twin(level, monkeypatch):
    monkeypatch.setenv(native.VARIABLE, level)
    try:
        assert native_level() == level
    except ValueError:
        pytest.skip(f"this installation or processor lacks {level}")
    for batch in (1, 6, 20):
        assert_alike(*both(model_of("many modes"), batch))


@compiled
@pytest.mark.parametrize(("precision", "tolerance"), [("bfloat16", 0.02), ("int8", 0.06)])
def test_rounded_bases_are_near(precision, tolerance):
    (found, *_), (expected, *_) = both(model_of("many modes"), 5, precision)
    assert not torch.equal(found.photo.double(), expected.photo)
    torch.testing.assert_close(found.photo.double(), expected.photo, rtol=tolerance, atol=0)
    # Landmarks keep their own float32 basis.
    torch.testing.assert_close(found.land.double(), expected.land, rtol=1e-5, atol=0)


@compiled
@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
def test_rounded_bases_are_exact_for_the_model_that_they_are(precision):
    model = model_of("many modes")
    rounded = {}
    for name in ("shape_basis", "expression_basis", "reflectance_basis"):
        basis = torch.from_numpy(getattr(model.arrays, name))
        scale = torch.ones(()) if precision == "bfloat16" else basis.abs().amax((0, 1)) / 127
        kept = basis.bfloat16().float() if precision == "bfloat16" else (basis / scale).round() * scale
        rounded[name] = kept.numpy()
    fused, _ = both(model, 5, precision)
    exact = FaceModel(replace(model.arrays, **rounded))
    _, plain = both(exact, 5)
    torch.testing.assert_close(fused[0].photo.double(), plain[0].photo, rtol=1e-5, atol=0)
    torch.testing.assert_close(
        fused[1].double(), plain[1], rtol=1e-3, atol=1e-3 * float(plain[1].abs().max())
    )


@compiled
def test_a_face_partly_outside_the_picture_or_turned_away():
    model = model_of("vertices")
    layout, points = model.layout, model.landmarks_68[::3]
    x = layout.pack(random_code(layout, 3, 4))
    places = layout.slices()
    x[0, places["translation"]] = torch.tensor([70.0, -60.0, 0.0])
    x[1, places["rotation"]] = torch.tensor([0.0, 3.0, 0.0])
    x[2, places["translation"]] = torch.tensor([0.0, 0.0, -880.0])  # nearer than the nearest place
    x[3, places["translation"]] = torch.tensor([4000.0, 0.0, 0.0])
    inputs = (x, pictures(4), torch.zeros(4, len(points), 2).double(), torch.ones(4, len(points)).double())
    fused = measured(FusedTerms(Decoder(model, CAMERA), points), *(t.float() for t in inputs))
    plain = measured(PlainTerms(Decoder(FaceModel(model.stored).double(), CAMERA), points), *inputs)
    assert_alike(fused, plain, 3e-4)


@compiled
@pytest.mark.parametrize("kind", ["vertices", "cage"])
@pytest.mark.parametrize("batch", [1, 2, 5, 20])
def test_heads_turned_to_all_sides(kind, batch):
    model = model_of(kind)
    layout, points = model.layout, model.landmarks_68[::3]
    x = layout.pack(random_code(layout, 1, batch))
    x[:, layout.slices()["rotation"].start + 1] = torch.linspace(-1.9, 1.7, batch).double()
    landmarks = torch.zeros(batch, len(points), 2).double(), torch.ones(batch, len(points)).double()
    inputs = (x, pictures(batch), *landmarks)
    fused = measured(FusedTerms(Decoder(model, CAMERA), points), *(t.float() for t in inputs))
    plain = measured(PlainTerms(Decoder(FaceModel(model.stored).double(), CAMERA), points), *inputs)
    assert plain[0].front.min() < 0.5 * model.vertices
    assert_alike(fused, plain, 3e-4)


@compiled
def test_memory_does_not_grow_with_modes_nor_with_pictures_times_vertices():
    model = model_of("cage")
    whole, half = (FusedTerms(Decoder(m, CAMERA), m.landmarks_46) for m in (model, fewer_modes(model, 2)))
    assert half.workspace_bytes(40) > 0.9 * whole.workspace_bytes(40)
    # Less for each further picture than the places of its vertices.
    assert whole.workspace_bytes(132) - whole.workspace_bytes(32) < 100 * 3 * 4 * model.vertices


@compiled
def test_a_picture_that_is_no_number_spoils_only_itself():
    model = model_of("cage")
    terms = FusedTerms(Decoder(model, CAMERA), model.landmarks_46)
    x = model.layout.pack(random_code(model.layout, 0, 4)).float()
    x[1, 0], x[2, 0] = float("nan"), 1e30
    image = pictures(4).float()
    targets, confidence = torch.zeros(4, 46, 2), torch.ones(4, 46)
    found, gradient, _ = measured(terms, x, image, targets, confidence)
    assert found.photo.isnan().tolist() == [False, True, True, False]
    assert gradient[1:3].isnan().all() and gradient[[0, 3]].isfinite().all()
    alone = terms(model.layout.unpack(x[3:]), image[3:], targets[3:], confidence[3:])
    torch.testing.assert_close(found.photo[3:], alone.photo, rtol=1e-6, atol=0)


@compiled
def test_a_perfect_picture_has_no_gradient_and_no_nan():
    model = model_of("vertices")
    flat = replace(
        model.arrays,
        mean_reflectance=np.full_like(model.arrays.mean_reflectance, 0.5),
        reflectance_basis=np.zeros_like(model.arrays.reflectance_basis),
    )
    decoder = Decoder(FaceModel(flat), CAMERA)
    x = torch.zeros(2, model.layout.size)
    with torch.no_grad():
        colour = decoder(model.layout.unpack(x)).colour[0, 0]
    image = colour[:, None, None].expand(2, 3, 60, 60)
    found, gradient, _ = measured(
        FusedTerms(decoder, model.landmarks_46), x, image, torch.zeros(2, 46, 2), torch.zeros(2, 46)
    )
    assert found.photo.max() < 1e-6 and gradient.isfinite().all()


@compiled
def test_memory_layout_and_threads_do_not_matter():
    model = model_of("cage")
    terms = FusedTerms(Decoder(model, CAMERA), model.landmarks_46)
    code, image = random_code(model.layout, 0, 5), pictures(5).float()
    x = model.layout.pack(code).float()
    expected = terms(model.layout.unpack(x), image)
    strided = image.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    wide = torch.stack((x, x), -1)[..., 0]
    assert not strided.is_contiguous() and not wide.is_contiguous()
    again = terms(model.layout.unpack(wide), strided)
    assert torch.equal(again.photo, expected.photo)
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 3, 7):
            torch.set_num_threads(threads)
            one, two = (terms(model.layout.unpack(x), image).photo for _ in range(2))
            assert torch.equal(one, two)
            torch.testing.assert_close(one, expected.photo, rtol=1e-5, atol=0)
    finally:
        torch.set_num_threads(before)


@compiled
def test_no_pictures_give_no_terms():
    model = model_of("vertices")
    terms = FusedTerms(Decoder(model, CAMERA), model.landmarks_46)
    assert terms(model.layout.zero(0), torch.zeros(0, 3, 60, 60)).photo.shape == (0,)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": torch.zeros(1, 5)}, "codes are batch"),
        ({"image": torch.zeros(2, 3, 60, 60)}, "need pictures"),
        ({"image": torch.zeros(1, 4, 60, 60)}, "need pictures"),
        ({"image": torch.zeros(1, 3, 60, 1)}, "need pictures"),
        ({"targets": torch.zeros(1, 7, 2)}, "targets of 46 points"),
        ({"confidence": torch.zeros(2, 46)}, "confidence of 46 points"),
        ({"confidence": None}, "belong together"),
    ],
)
def test_inputs_that_do_not_belong_together_are_told(change, message):
    layout = CodeLayout(5, 4, 3)
    inputs = {
        "x": torch.zeros(1, layout.size),
        "image": torch.zeros(1, 3, 60, 60),
        "targets": torch.zeros(1, 46, 2),
        "confidence": torch.ones(1, 46),
    }
    check_inputs(layout, 46, **inputs)
    with pytest.raises(ValueError, match=message):
        check_inputs(layout, 46, **(inputs | change))


@pytest.mark.parametrize("kind", [PlainTerms, pytest.param(FusedTerms, marks=compiled)])
def test_both_refuse_targets_without_confidence(kind):
    model = model_of("vertices")
    with pytest.raises(ValueError, match="belong together"):
        kind(Decoder(model, CAMERA), model.landmarks_46)(
            model.layout.zero(1), torch.zeros(1, 3, 60, 60), torch.zeros(1, 46, 2)
        )


def test_without_a_compiled_kernel_the_plain_twin_is_used(monkeypatch):
    model = model_of("vertices")
    monkeypatch.setenv(native.VARIABLE, "off")
    assert native_level() is None
    assert isinstance(loss_terms(Decoder(model), model.landmarks_46), PlainTerms)
    with pytest.raises(RuntimeError, match="PlainTerms"):
        FusedTerms(Decoder(model), model.landmarks_46)
    monkeypatch.setenv(native.VARIABLE, "sse")
    with pytest.raises(ValueError, match="avx512, avx2, baseline, the path"):
        native_level()


@compiled
def test_the_kernel_is_used_for_float32_only():
    model = model_of("vertices")
    assert isinstance(loss_terms(Decoder(model), model.landmarks_46), FusedTerms)
    assert isinstance(loss_terms(Decoder(model.double()), model.landmarks_46), PlainTerms)


def test_one_rings_hold_each_triangle_at_each_corner():
    triangles = np.array([[0, 1, 2], [2, 1, 3]])
    start, ring = one_rings(triangles, 4)
    pairs = [ring[a:b].reshape(-1, 2).tolist() for a, b in zip(start[:-1], start[1:], strict=True)]
    assert pairs == [[[1, 2]], [[2, 0], [3, 2]], [[0, 1], [1, 3]], [[2, 1]]]


def pairs_of_fans(start, entries, vertex):
    """The triangles around a vertex, as its next and previous corners, that its fans say."""
    pairs, last = [], None
    for entry in entries[start[vertex] : start[vertex + 1]]:
        corner = ~entry if entry < 0 else entry
        if entry >= 0:
            pairs.append((int(last), int(corner)))
        last = corner
    return sorted(pairs)


def random_triangles(kind):
    """Meshes of every kind: whole, with holes, with edges of three triangles, and with no order at all."""
    rng = np.random.default_rng(3)
    if kind == "noise":
        return rng.permuted(np.tile(np.arange(30), (80, 1)), axis=1)[:, :3], 30
    grid = little_arrays(9).triangles.astype(np.int64)
    if kind == "holes":
        grid = grid[rng.random(len(grid)) < 0.7]
    if kind == "doubled":
        grid = np.concatenate((grid, grid[::5], grid[::7, ::-1]))
    return grid, 81


@pytest.mark.parametrize("kind", ["grid", "holes", "doubled", "noise"])
def test_fans_say_the_same_triangles_as_one_rings(kind):
    triangles, vertices = random_triangles(kind)
    start, ring = one_rings(triangles, vertices)
    begin, entries = fans(triangles, vertices)
    for v in range(vertices):
        expected = sorted(map(tuple, ring[start[v] : start[v + 1]].reshape(-1, 2).tolist()))
        assert pairs_of_fans(begin, entries, v) == expected
    if kind == "grid":
        inner = np.bincount(triangles.ravel()) == 6
        assert (np.diff(begin)[inner] == 7).all()


def test_no_triangles_have_no_fans():
    start, entries = fans(np.zeros((0, 3), np.int64), 4)
    assert start.tolist() == [0] * 5 and len(entries) == 0


def test_neighbours_lie_together():
    random = np.random.default_rng(0)
    place = random.random((4000, 3)).astype(np.float32)
    order = nearby(np.arange(4000), place)
    assert sorted(order) == list(range(4000))
    step = np.linalg.norm(np.diff(place[order], axis=0), axis=1).mean()
    assert step < 0.25 * np.linalg.norm(np.diff(place, axis=0), axis=1).mean()


def test_packing_keeps_the_frontal_vertices_and_their_neighbours():
    model = model_of("frontal part")
    packed = PackedModel(model, model.landmarks_46)
    kept, frontal = set(packed.order), set(torch.nonzero(model.frontal)[:, 0].tolist())
    assert set(packed.order[: packed.frontal]) == frontal
    triangles = model.triangles.numpy()
    assert kept == set(triangles[model.frontal.numpy()[triangles].any(1)].ravel())
    assert len(kept) < model.vertices
