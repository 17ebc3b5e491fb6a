"""What the Triton path costs on this machine's GPU, beside what its memory sets as the least.

python -m mofaface.bench_gpu
"""

import statistics
from collections.abc import Callable
from dataclasses import dataclass

import torch

from mofaface.bench import step_of
from mofaface.code import CodeLayout
from mofaface.decoder import Decoder
from mofaface.face_models import load_face_model
from mofaface.kernels.terms import PlainTerms
from mofaface.kernels.triton_model import TritonModel

REPLAYS, WARM_UP = 200, 3


@dataclass(frozen=True)
class Work:
    """What a call with gradients moves through the GPU's memory and computes, at least."""

    bases: float
    """MB of the bases: geometry, which all gradients wait for, twice, reflectance once."""
    rows: float
    """MB of what the kernels leave each other, written and read once each."""
    gigaflops: float
    """10⁹ floating-point operations of the products with the bases, with the empty lanes of a padded batch."""


def work(packed: TritonModel, layout: CodeLayout, width: int) -> Work:
    """The work for a batch that fills or is padded to `width` pictures."""
    g, r = packed.geometry, packed.reflectance
    tile = g.mean.shape[-1]
    # Places, their gradients and the normals'; then each tile's sums.
    places = 3 * 3 * tile * g.tiles
    sums = g.tiles * g.modes + r.tiles * (layout.size - g.modes + 3)
    numbers = 3 * tile * (g.tiles * len(g.scale) + r.tiles * len(r.scale))
    # Twice: decoded, and pulled back; a product and a sum each.
    return Work((2 * g.bytes + r.bytes) / 1e6, 8 * width * (places + sums) / 1e6, 4 * width * numbers / 1e9)


def graph_milliseconds(call: Callable[[], object]) -> float:
    """The median time of a call replayed as a CUDA graph."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP):
            call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    times = []
    for _ in range(REPLAYS):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        graph.replay()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end))
    return statistics.median(times)


def eager_milliseconds(call: Callable[[], object]) -> float:
    """The median time of a call that the host launches, kernel by kernel."""
    times = []
    for _ in range(WARM_UP + 20):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        call()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end))
    return statistics.median(times[WARM_UP:])


def main() -> None:
    """Print milliseconds for both meshes of the open model, each kind of basis and of product."""
    if not torch.cuda.is_available():
        raise SystemExit("this measures a GPU, and PyTorch finds none")
    from mofaface.kernels.triton_terms import TritonTerms

    print(torch.cuda.get_device_name())
    full = load_face_model("open").to("cuda")
    for mesh, model in (("full", full), ("coarse", full.coarse())):
        decoder = Decoder(model)
        points = torch.cat((model.landmarks_46, model.landmarks_68[:17]))
        for batch in (5, 32, 128):
            plain = eager_milliseconds(step_of(PlainTerms(decoder, points), batch))
            print(f"{mesh:7}{batch:4}  plain, launch by launch {plain:8.3f} ms")
            for precision in ("float32", "bfloat16", "int8"):
                for products in ("ieee", "tf32x3"):
                    terms = TritonTerms(decoder, points, precision, products)
                    took = graph_milliseconds(step_of(terms, batch))
                    least = work(terms.packed, model.layout, terms.width(batch))
                    megabytes = least.bases + least.rows
                    print(
                        f"{mesh:7}{batch:4}  {precision:9}{products:7} {took:8.3f} ms in a graph, {megabytes:6.1f} MB, "
                        f"{least.gigaflops:5.2f} GFLOP"
                    )


if __name__ == "__main__":
    main()
