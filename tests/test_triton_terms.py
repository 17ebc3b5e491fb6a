"""The Triton kernels against the plain decoder and losses in float64.

Without a GPU they run in Triton's interpreter, where a call takes a second: models are little. With one, unless
TRITON_INTERPRET is set to 1, the same tests run on it.
"""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from little_face import grid_triangles, little_arrays, random_code
from test_kernels import CAMERA, assert_alike, measured, model_of, pictures
from torch.utils._python_dispatch import TorchDispatchMode

from mofaface.bench import step_of
from mofaface.bench_gpu import main, work
from mofaface.decoder import Decoder
from mofaface.face_model import FaceModel
from mofaface.kernels import PlainTerms, choose

if not choose.has_triton():
    pytest.skip("no triton is installed, or one that is too old", allow_module_level=True)

from mofaface.kernels import triton_terms
from mofaface.kernels.triton_model import TILE_VERTICES, padded_rings, tiled, triton_model
from mofaface.kernels.triton_terms import TritonTerms

INTERPRETED = triton_terms.INTERPRETED
DEVICE = torch.device("cpu" if INTERPRETED else "cuda")
on_a_gpu = pytest.mark.skipif(INTERPRETED, reason="no GPU is used")


def terms_of(model, points=None, **how):
    """The kernels' terms for a model, on the device."""
    points = model.landmarks_68[::3] if points is None else points
    return TritonTerms(Decoder(model.to(DEVICE), CAMERA), points.to(DEVICE), **how)


def on_device(terms, *inputs):
    """`measured` in float32 on the device, everything back on the CPU."""
    found, *gradients = measured(terms, *(t.float().to(DEVICE) for t in inputs))
    back = type(found)(**{name: tensor.cpu() for name, tensor in vars(found).items()})
    return back, *(gradient.cpu() for gradient in gradients)


def plain(model, *inputs):
    """The plain twin's results in float64."""
    exact = FaceModel(model.stored)
    exact.frontal.copy_(model.frontal)
    return measured(PlainTerms(Decoder(exact.double(), CAMERA), exact.landmarks_68[::3]), *inputs)


def inputs_of(model, batch, seed=0):
    """Random codes, pictures, targets and confidences, float64."""
    random = torch.Generator().manual_seed(seed)
    points = len(model.landmarks_68[::3])
    targets = 60 * torch.rand(batch, points, 2, dtype=torch.float64, generator=random)
    confidence = torch.rand(batch, points, dtype=torch.float64, generator=random)
    return (
        model.layout.pack(random_code(model.layout, seed, batch)), pictures(batch, seed=seed), targets, confidence
    )  # fmt: skip


@pytest.mark.parametrize(("batch", "seed"), [(1, 0), (3, 1), (17, 0), (40, 0)])
def test_every_batch_size_agrees_with_the_plain_twin(batch, seed):
    model = FaceModel(little_arrays(9))
    inputs = inputs_of(model, batch, seed)
    assert_alike(on_device(terms_of(model), *inputs), plain(model, *inputs))


@pytest.mark.parametrize("kind", ["cage", "coarse cage", "frontal part", "few modes", "many modes"])
def test_every_kind_of_model_agrees_with_the_plain_twin(kind):
    model = model_of(kind)
    inputs = inputs_of(model, 2)
    truth = plain(model, *inputs)
    assert truth[0].photo.min() > 0.01 and truth[0].front.min() > 10
    assert_alike(on_device(terms_of(model), *inputs), truth)


@pytest.mark.parametrize(("precision", "tolerance"), [("bfloat16", 0.02), ("int8", 0.06)])
def test_rounded_bases_are_near_and_exact_for_the_model_that_they_are(precision, tolerance):
    model = FaceModel(little_arrays(9))
    inputs = inputs_of(model, 2)
    found = on_device(terms_of(model, precision=precision), *inputs)
    truth = plain(model, *inputs)
    assert not torch.equal(found[0].photo.double(), truth[0].photo)
    torch.testing.assert_close(found[0].photo.double(), truth[0].photo, rtol=tolerance, atol=0)
    # Landmarks keep their own float32 basis.
    torch.testing.assert_close(found[0].land.double(), truth[0].land, rtol=1e-5, atol=0)
    rounded = {}
    for name in ("shape_basis", "expression_basis", "reflectance_basis"):
        basis = torch.from_numpy(getattr(model.arrays, name))
        scale = torch.ones(()) if precision == "bfloat16" else basis.abs().amax((0, 1)) / 127
        kept = basis.bfloat16().float() if precision == "bfloat16" else (basis / scale).round() * scale
        rounded[name] = kept.numpy()
    truth = plain(FaceModel(replace(model.arrays, **rounded)), *inputs)
    torch.testing.assert_close(found[0].photo.double(), truth[0].photo, rtol=1e-5, atol=0)
    torch.testing.assert_close(
        found[1].double(), truth[1], rtol=1e-3, atol=1e-3 * float(truth[1].abs().max())
    )


def test_a_face_partly_outside_the_picture_turned_away_behind_the_camera_or_turned_far():
    model = FaceModel(little_arrays(9))
    x, image, targets, confidence = inputs_of(model, 6, seed=3)
    places = model.layout.slices()
    x[0, places["translation"]] = torch.tensor([70.0, -60.0, 0.0])
    x[1, places["rotation"]] = torch.tensor([0.0, 3.0, 0.0])
    x[2, places["translation"]] = torch.tensor([0.0, 0.0, -880.0])  # nearer than the nearest place
    x[3, places["translation"]] = torch.tensor([4000.0, 0.0, 0.0])
    x[4, places["rotation"]] = torch.tensor([6.5, 0.4, -0.2])  # more than a whole turn
    x[5, places["rotation"]] = 0
    inputs = (x, image, targets, confidence)
    assert_alike(on_device(terms_of(model), *inputs), plain(model, *inputs), 3e-4)


def test_a_picture_that_is_no_number_spoils_only_itself():
    model = FaceModel(little_arrays(9))
    terms = terms_of(model)
    x, image, targets, confidence = inputs_of(model, 7)
    places = model.layout.slices()
    x[1, 0], x[2, 0], image[4] = float("nan"), 1e30, float("inf")
    # Light that no vertex of a face turned away shows.
    x[5, places["gamma"].stop - 1], x[5, places["rotation"]] = (
        float("nan"),
        torch.tensor([0.0, 3.1, 0.0]).double(),
    )
    x[6, places["beta"].start] = float("inf")
    with np.errstate(all="ignore"):
        found, gradient, _ = on_device(terms, x, image, targets, confidence)
        alone, own, _ = on_device(terms, x[3:4], image[3:4], targets[3:4], confidence[3:4])
    assert found.photo.isfinite().tolist() == [True, False, False, True, False, False, False]
    assert found.photo[[1, 2, 5, 6]].isnan().all()
    assert gradient[[1, 2, 4, 5, 6]].isnan().all() and gradient[[0, 3]].isfinite().all()
    assert torch.equal(found.photo[3:4], alone.photo) and torch.equal(gradient[3:4], own)


def test_a_perfect_picture_has_no_gradient_and_no_nan():
    model = FaceModel(little_arrays(9))
    flat = replace(
        model.arrays,
        mean_reflectance=np.full_like(model.arrays.mean_reflectance, 0.5),
        reflectance_basis=np.zeros_like(model.arrays.reflectance_basis),
    )
    model = FaceModel(flat)
    x = torch.zeros(2, model.layout.size)
    with torch.no_grad():
        colour = Decoder(model, CAMERA)(model.layout.unpack(x)).colour[0, 0]
    image = colour[:, None, None].expand(2, 3, 60, 60)
    points = len(model.landmarks_68[::3])
    found, gradient, _ = on_device(
        terms_of(model), x, image, torch.zeros(2, points, 2), torch.zeros(2, points)
    )
    assert found.photo.max() < 1e-6 and gradient.isfinite().all()


def test_a_triangle_without_area_gives_no_nan():
    arrays = little_arrays(9)
    folded = arrays.mean_shape.copy()
    folded[:3] = folded[0]
    none = {name: np.zeros_like(getattr(arrays, name)) for name in ("shape_basis", "expression_basis")}
    # Vertex 1 has no triangle with area, and so no normal.
    flat = np.array([[0, 1, 2]])
    triangles = np.concatenate([flat, arrays.triangles[(arrays.triangles != 1).all(1)]])
    model = FaceModel(replace(arrays, mean_shape=folded, triangles=triangles, **none))
    inputs = inputs_of(model, 2)
    assert_alike(on_device(terms_of(model), *inputs), plain(model, *inputs))


def test_memory_layout_does_not_matter_and_the_same_input_gives_the_same_bits():
    model = FaceModel(little_arrays(9))
    terms = terms_of(model)
    x, image, targets, confidence = inputs_of(model, 3)
    expected = on_device(terms, x, image, targets, confidence)
    again = on_device(terms, x, image, targets, confidence)
    strided = image.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    wide, broad = torch.stack((x, x), -1)[..., 0], torch.stack((targets, targets), 1)[:, 0]
    assert not strided.is_contiguous() and not wide.is_contiguous() and not broad.is_contiguous()
    other = on_device(terms, wide, strided, broad, confidence)
    for result in (again, other):
        assert torch.equal(result[0].photo, expected[0].photo)
        assert torch.equal(result[0].land, expected[0].land)
        assert torch.equal(result[1], expected[1]) and torch.equal(result[2], expected[2])


def test_without_gradients_and_without_landmarks_the_values_are_the_same():
    model = FaceModel(little_arrays(9))
    terms = terms_of(model)
    inputs = inputs_of(model, 3)
    expected, *_ = on_device(terms, *inputs)
    x, image, targets, confidence = (t.float().to(DEVICE) for t in inputs)
    code = model.layout.unpack(x)
    found = terms(code, image, targets, confidence)
    assert torch.equal(found.photo.cpu(), expected.photo) and torch.equal(found.land.cpu(), expected.land)
    found = terms(code, image)
    assert torch.equal(found.photo.cpu(), expected.photo) and torch.equal(found.land.cpu(), torch.zeros(3))
    assert torch.equal(found.places.cpu(), expected.places)


def test_no_pictures_and_no_landmarks_are_fine():
    model = FaceModel(little_arrays(9))
    found = terms_of(model)(model.layout.zero(0, device=DEVICE), torch.zeros(0, 3, 60, 60, device=DEVICE))
    assert found.photo.shape == (0,)
    terms = terms_of(model, torch.zeros(0, dtype=torch.int64))
    found = terms(model.layout.zero(1, device=DEVICE), pictures(1).float().to(DEVICE))
    assert found.photo.item() > 0 and found.places.shape == (1, 0, 2) and found.land.tolist() == [0]


def test_inputs_that_do_not_belong_together_are_told():
    model = FaceModel(little_arrays(9))
    terms, code = terms_of(model), model.layout.zero(1, device=DEVICE)
    with pytest.raises(ValueError, match="belong together"):
        terms(code, torch.zeros(1, 3, 60, 60, device=DEVICE), torch.zeros(1, 23, 2, device=DEVICE))
    with pytest.raises(ValueError, match="need pictures"):
        terms(code, torch.zeros(2, 3, 60, 60, device=DEVICE))


def test_a_model_on_the_cpu_needs_the_interpreter(monkeypatch):
    monkeypatch.setattr(triton_terms, "INTERPRETED", False)
    with pytest.raises(RuntimeError, match="need a CUDA device, and the face model is on cpu"):
        TritonTerms(Decoder(FaceModel(little_arrays(9))), torch.arange(3))


def test_a_call_waits_for_nothing_and_copies_nothing_from_the_host():
    """Otherwise no CUDA graph could hold it. The plain twin shows that such a thing is noticed."""
    model = FaceModel(little_arrays(9))
    x, *rest = (t.float().to(DEVICE) for t in inputs_of(model, 1))

    class Noticed(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            name = function.overloadpacket.__name__
            if name in ("_local_scalar_dense", "lift_fresh", "nonzero", "is_nonzero", "_to_copy"):
                found.append(name)
            return function(*args, **(kwargs or {}))

    noticed = {}
    for terms in (terms_of(model), PlainTerms(Decoder(model, CAMERA), model.landmarks_68[::3])):
        found = noticed[type(terms)] = []
        with Noticed():
            measured(terms, x, *rest)
    assert noticed[TritonTerms] == [] and "lift_fresh" in noticed[PlainTerms]


@on_a_gpu
@pytest.mark.parametrize("products", ["ieee", "tf32x3"])
def test_a_cuda_graph_holds_a_call(products):
    model = FaceModel(little_arrays(9))
    terms = terms_of(model, products=products)
    first, second = inputs_of(model, 5), inputs_of(model, 5, seed=1)
    kept = [t.float().to(DEVICE) for t in first]
    kept[0].requires_grad_(True)

    def call():
        found = terms(model.layout.unpack(kept[0]), *kept[1:])
        return found.photo, found.land, torch.autograd.grad((found.photo + found.land).sum(), kept[0])[0]

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = call()
    with torch.no_grad():
        for tensor, value in zip(kept, second, strict=True):
            tensor.copy_(value)
    graph.replay()
    truth, by_photo, by_land = plain(model, *second)
    assert_close = torch.testing.assert_close
    assert_close(results[0].cpu().double(), truth.photo, rtol=1e-4, atol=1e-9)
    assert_close(results[1].cpu().double(), truth.land, rtol=1e-4, atol=1e-9)
    gradient = (by_photo + by_land).double()
    assert_close(results[2].cpu().double(), gradient, rtol=1e-4, atol=1e-4 * float(gradient.abs().max()))


@on_a_gpu
def test_they_are_used_on_cuda_for_float32_only():
    model = FaceModel(little_arrays(9)).to(DEVICE)
    assert isinstance(choose.loss_terms(Decoder(model), model.landmarks_46), TritonTerms)
    assert isinstance(choose.loss_terms(Decoder(model.double()), model.landmarks_46), PlainTerms)


def test_the_kernels_compile_for_a_gpu_that_is_not_there(tmp_path):
    script = Path(__file__).with_name("triton_compile.py")
    environment = os.environ | {"TRITON_CACHE_DIR": str(tmp_path), "TRITON_INTERPRET": "0"}
    output = subprocess.run(
        [sys.executable, script, "float32", "ieee", "5", "gradient"], env=environment, capture_output=True, check=True
    )  # fmt: skip
    kernels = {kernel["name"]: kernel for kernel in json.loads(output.stdout)}
    assert kernels.keys() == {
        "geometry_kernel", "terms_kernel", "pull_geometry_kernel", "finish_kernel", "landmarks_kernel",
        "adadelta_kernel"
    }  # fmt: skip
    for kernel in kernels.values():
        # No sum depends on an order, and float32 is multiplied as float32.
        assert not kernel["atomics"] and not kernel["tensor_cores"]
        # What every GPU since Volta has for a program without asking.
        assert kernel["shared"] <= 48 * 1024


def test_tiles_hold_the_basis():
    random = torch.Generator().manual_seed(0)
    mean, basis = torch.rand(70, 3, generator=random), torch.rand(70, 3, 18, generator=random)
    tiles = tiled(mean, basis, "float32")
    assert tiles.numbers.shape == (3, 2, 3, TILE_VERTICES, 16) and tiles.modes == 18
    again = tiles.numbers.permute(0, 3, 2, 1, 4).reshape(96, 3, 32)
    assert torch.equal(again[:70, :, :18], basis)
    assert not again[70:].any() and not again[:, :, 18:].any()
    assert torch.equal(tiles.mean.mT.reshape(96, 3)[:70], mean)
    int8 = tiled(mean, basis, "int8")
    worth = int8.numbers.float().permute(0, 3, 2, 1, 4).reshape(96, 3, 32) * int8.scale
    torch.testing.assert_close(worth[:70, :, :18], basis, rtol=0, atol=float(basis.max()) / 254 * 1.01)


def test_padded_rings_hold_each_triangle_at_each_corner_and_else_the_vertex_itself():
    triangles, order = grid_triangles(9), np.random.default_rng(0).permutation(81)
    ring, degree = padded_rings(triangles, order, 81)
    assert ring.shape == (12, 96) and degree.tolist() == [6, 6, 6]
    local = np.argsort(order)
    corners = {
        (int(local[t[k]]), int(local[t[k - 2]]), int(local[t[k - 1]])) for t in triangles for k in range(3)
    }
    found = {(v, int(ring[2 * k, v]), int(ring[2 * k + 1, v])) for k in range(6) for v in range(96)}
    assert corners == {(v, p, q) for v, p, q in found if not v == p == q}
    assert (ring[:, 81:] == np.arange(81, 96)).all()


def test_the_model_keeps_the_frontal_vertices_and_their_neighbours():
    model = model_of("frontal part")
    packed = triton_model(model, model.landmarks_46)
    triangles = model.triangles.numpy()
    kept = np.unique(triangles[model.frontal.numpy()[triangles].any(1)])
    assert packed.frontal == int(model.frontal.sum()) < len(kept) < model.vertices
    assert packed.geometry.tiles == -(-len(kept) // TILE_VERTICES)
    assert packed.reflectance.tiles == -(-packed.frontal // TILE_VERTICES)


def test_the_work_is_what_the_bases_hold():
    model = FaceModel(little_arrays(9))
    terms = terms_of(model)
    least = work(terms.packed, model.layout, terms.width(5))
    # 81 vertices are 96 in tiles; 9 and 3 modes are 16 each.
    assert least.bases * 1e6 == 3 * 4 * 96 * 3 * 16
    assert least.gigaflops * 1e9 == 2 * 2 * 8 * 96 * 3 * (16 + 16)
    assert terms.width(8) == 8 and terms.width(9) == 16 and terms.width(40) == 48
    half = work(terms_of(model, precision="bfloat16").packed, model.layout, 8)
    assert half.bases == least.bases / 2 and half.rows == least.rows


def test_measuring_says_that_it_needs_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match="finds none"):
        main()


def test_what_is_measured_gives_finite_gradients():
    model = FaceModel(little_arrays(9)).to(DEVICE)
    terms = TritonTerms(Decoder(model), model.landmarks_46)
    (gradient,) = step_of(terms, 2)()
    assert gradient.isfinite().all() and gradient.abs().max() > 0
