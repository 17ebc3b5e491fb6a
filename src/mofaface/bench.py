"""What the decoder and its loss cost, beside the floor that this machine's memory and arithmetic set.

Everything is measured in one run: times are the shortest of many repeats, the machine's bandwidth and arithmetic are
measured the same way, and ratios compare what ran minutes apart on the same cores.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mofaface.code import CodeLayout
from mofaface.decoder import Decoder
from mofaface.encoders import EncoderConfig, build_encoder
from mofaface.face_model import FaceModel
from mofaface.kernels import FusedTerms, PlainTerms, native_level
from mofaface.kernels.packing import Precision
from mofaface.kernels.terms import Terms, TermsWithGradients

CONTENDERS: tuple[str, ...] = ("autograd", "fused", "fused bfloat16", "fused int8", "fused dense")


@dataclass(frozen=True)
class Machine:
    """What the machine can do at best with torch's number of threads."""

    bandwidth: float
    """GB/s of reading memory that no cache holds."""
    arithmetic: float
    """GFLOP/s of a large product of matrices in float32."""
    threads: int


@dataclass(frozen=True)
class Row:
    """One line of the table: forward and backward pass of decoder and loss, all gradients by the code."""

    path: str
    batch: int
    vertices: int
    modes: int
    milliseconds: float
    megabytes: float
    """Read from the bases, at least: geometry twice, reflectance once; twice for the plain code."""
    floor: float
    """Milliseconds that the machine needs for that, and for the products with the bases, whichever is longer."""
    workspace: float
    """MB of memory beyond model and pictures; 0 where it was not measured."""


def measure_machine(megabytes: int = 512, size: int = 2048, repeats: int = 5) -> Machine:
    """Bandwidth by summing an array larger than the caches, arithmetic by a square product."""
    array = torch.ones(megabytes * 2**18)
    bandwidth = array.numel() * 4 / shortest(lambda: array.sum(), repeats) / 1e9
    A = torch.rand(size, size)
    return Machine(bandwidth, 2 * size**3 / shortest(lambda: A @ A, repeats) / 1e9, torch.get_num_threads())


def measure_terms(
    model: FaceModel, machine: Machine, batch: int, path: str, seconds: float = 1.0, turned: float = 0.0
) -> Row:
    """One path at one batch size, on random pictures; `turned` is every head's yaw in radians."""
    step = terms_step(model, batch, path, turned)
    once = shortest(step, 1)
    milliseconds = 1e3 * shortest(step, max(3, min(200, int(seconds / once))))
    # The compiled paths only: what torch takes in between is not ours to count.
    megabytes, flops = cost(model, batch, path)
    floor = max(megabytes / machine.bandwidth, flops / machine.arithmetic / 1e6)
    modes = sum(
        basis.shape[-1] for basis in (model.shape_basis, model.expression_basis, model.reflectance_basis)
    )
    return Row(
        path, batch, model.vertices, modes, milliseconds, megabytes, floor, workspace(model, batch, path)
    )


def terms_step(model: FaceModel, batch: int, path: str, turned: float = 0.0) -> Callable[[], object]:
    """A call that computes the terms of a path and their gradients once."""
    return step_of(contender(model, path), batch, turned)


def step_of(terms: PlainTerms | TermsWithGradients, batch: int, turned: float = 0.0) -> Callable[[], object]:
    """A call that computes terms and their gradients once, on random pictures on the model's device."""
    model = terms.decoder.model
    device = model.mean_shape.device
    x = random_codes(model, batch, turned).to(device).requires_grad_(True)
    random = torch.Generator().manual_seed(1)
    size = terms.decoder.camera.size
    image = torch.rand(batch, 3, size, size, generator=random).to(device)
    targets = (size * torch.rand(batch, len(terms.points), 2, generator=random)).to(device)
    confidence = torch.rand(batch, len(terms.points), generator=random).to(device)

    def step() -> object:
        found: Terms = terms(model.layout.unpack(x), image, targets, confidence)
        return torch.autograd.grad((1.92 * found.photo + found.land).sum(), x)

    return step


def random_codes(model: FaceModel, batch: int, turned: float = 0.0) -> Float[Tensor, "batch size"]:
    """Packed codes of random faces in plain light at the camera's distance, every head's yaw `turned` radians."""
    x = 0.3 * torch.randn(batch, model.layout.size, generator=torch.Generator().manual_seed(0))
    places = model.layout.slices()
    for part in ("rotation", "translation", "gamma"):
        x[:, places[part]] = 0
    x[:, places["rotation"].start + 1] = turned
    return x


def facing(model: FaceModel, batch: int, turned: float) -> float:
    """Which part of the vertices that the loss reads faces the camera, mean over the pictures of `terms_step`."""
    terms = contender(model, "autograd")
    size = terms.decoder.camera.size
    with torch.no_grad():
        found = terms(
            model.layout.unpack(random_codes(model, batch, turned)), torch.zeros(batch, 3, size, size)
        )
    return float(found.front.mean() / model.frontal.sum())


def contender(model: FaceModel, path: str) -> FusedTerms | PlainTerms:
    """The code behind a path's name."""
    points = torch.cat((model.landmarks_46, model.landmarks_68[:17]))
    if path == "autograd":
        return PlainTerms(Decoder(model), points)
    if path == "fused dense":
        model = FaceModel(model.arrays)
    precision: Precision = "float32"
    if path in ("fused bfloat16", "fused int8"):
        precision = "bfloat16" if path.endswith("16") else "int8"
    return FusedTerms(Decoder(model), points, precision)


def cost(model: FaceModel, batch: int, path: str) -> tuple[float, float]:
    """Megabytes of the bases and floating-point operations that no way of computing the path can avoid.

    Plain code reads both bases of every vertex twice. The kernel reads those of the vertices that count: geometry,
    which all gradients wait for, twice; reflectance once.
    """
    geometry = model.shape_basis.shape[-1] + model.expression_basis.shape[-1]
    reflectance = model.reflectance_basis.shape[-1]
    rows, colours = model.vertices, model.vertices
    reads, width = 2, 4
    if path != "autograd":
        packed = contender(model, path).packed  # type: ignore[union-attr]
        rows, colours = packed.geometry.mean.shape[0] * 16, packed.frontal
        reads, width = 1, packed.geometry.numbers.itemsize
    numbers = 3 * (2 * rows * geometry + reads * colours * reflectance)
    return numbers * width / 1e6, 4.0 * 3 * batch * (rows * geometry + colours * reflectance)


def workspace(model: FaceModel, batch: int, path: str) -> float:
    """MB that the kernel keeps for a batch; 0 for plain code."""
    terms = contender(model, path)
    return terms.workspace_bytes(batch) / 1e6 if isinstance(terms, FusedTerms) else 0.0


def measure_growth(model: FaceModel, machine: Machine) -> Iterator[Row]:
    """The fused path with fewer vertices, fewer modes, and with less and less of the face towards the camera.

    Turned heads keep the floor of a frontal one: the bases are the same, though what nobody sees is not read.
    """
    yield measure_terms(model, machine, 5, "fused")
    yield measure_terms(model.coarse(), machine, 5, "fused")
    yield measure_terms(fewer_modes(model, 2), machine, 5, "fused")
    for batch in (5, 32):
        for degrees in (0, 40, 80, 126, 180):
            turned = math.radians(degrees)
            path = f"fused, turned by {degrees}°: {facing(model, batch, turned):.0%} facing"
            yield replace(measure_terms(model, machine, batch, "fused", turned=turned), path=path)


def fewer_modes(model: FaceModel, divisor: int) -> FaceModel:
    """The model with the first modes of each kind only."""
    a = model.stored
    first = (
        basis[..., : basis.shape[-1] // divisor]
        for basis in (a.shape_basis, a.expression_basis, a.reflectance_basis)
    )
    shape, expression, reflectance = (np.ascontiguousarray(basis) for basis in first)
    units = None if a.units_expression is None else a.units_expression[:, : expression.shape[-1]]
    return FaceModel(
        replace(
            a,
            shape_basis=shape,
            expression_basis=expression,
            reflectance_basis=reflectance,
            units_expression=units,
        )
    )


@dataclass(frozen=True)
class TrainingShare:
    """Where a training step's time goes, milliseconds."""

    encoder: float
    """Forward and backward pass of the network with a given gradient of the code."""
    terms: float
    """Decoder and loss, both directions, on the mesh that training uses."""

    @property
    def share(self) -> float:
        """The part of both that is decoder and loss."""
        return self.terms / (self.encoder + self.terms)


def measure_training_share(model: FaceModel, batch: int = 32, path: str = "fused") -> TrainingShare:
    """The default network and its decoder on the coarse mesh."""
    encoder = build_encoder(EncoderConfig(), model.layout, None).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    encoder.train()
    image = torch.rand(batch, 3, 240, 240)
    layout: CodeLayout = model.layout

    def network() -> None:
        encoder.zero_grad(set_to_none=True)
        layout.pack(encoder(image)).sum().backward()

    step = terms_step(model.coarse(), batch, path)
    return TrainingShare(1e3 * shortest(network, 4), 1e3 * shortest(step, 20))


def shortest(call: Callable[[], object], repeats: int) -> float:
    """Seconds of the fastest of some calls, after one that is not counted: other work on the machine only adds."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times[1:])


def paths() -> tuple[str, ...]:
    """The paths that this installation has."""
    return CONTENDERS if native_level() is not None else CONTENDERS[:1]
