"""`mofaface bench`: speed beside the floor that this machine sets."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from mofaface.face_model import FaceModel
from mofaface.files import write_text_whole
from mofaface.terminal import console
from mofaface.weights import DEFAULT_WEIGHTS

if TYPE_CHECKING:
    from mofaface import bench


@dataclass(frozen=True)
class Bench:
    """Measure decoder and loss (forward and backward pass) beside plain autograd and the machine's own limits."""

    model: str = "open"
    """Face model: the shipped one or a file."""
    batch: tuple[int, ...] = (1, 5, 32, 128)
    """Batch sizes; plain autograd is measured up to 32."""
    threads: int = 0
    """Threads of torch and of the kernel; 0 keeps torch's choice."""
    seconds: float = 1.0
    """Time for each line, at least three repeats."""
    fit: tuple[str, ...] = ()
    """Photos to fit as well, with all vertices in each step and with samples of them."""
    alexnet: bool = False
    """Measure the paper's network and its optimiser as well."""
    inference: tuple[str, ...] = ()
    """Photos with a face each, whose way to the mesh is measured stage by stage, and as a folder."""
    weights: str = DEFAULT_WEIGHTS
    """Trained weights for --inference."""
    out: Path | None = None
    """JSON file for the figures."""

    def run(self) -> int:
        """Measure, print the tables, and return the exit code."""
        import torch

        from mofaface import bench
        from mofaface.face_models import load_face_model
        from mofaface.kernels import native_level

        if self.threads:
            torch.set_num_threads(self.threads)
        model, machine = load_face_model(self.model), bench.measure_machine()
        level = native_level()
        console.print(
            f"{machine.threads} threads: memory {machine.bandwidth:.0f} GB/s, arithmetic {machine.arithmetic:.0f} GFLOP/s; "
            f"compiled kernel: {level or 'none, everything runs through plain torch'}"
        )
        rows = self._measure_terms(model, machine, growth=bool(level))
        share = bench.measure_training_share(model, path="fused" if level else "autograd")
        console.print(
            f"training step of the default network, batch 32: network {share.encoder:.0f} ms, decoder and loss "
            f"{share.terms:.1f} ms, {100 * share.share:.1f} % of both"
        )
        uses = self._measure_uses(model)
        if self.out is not None:
            values = uses | {"machine": asdict(machine), "kernel": level, "training": asdict(share)}
            write_text_whole(self.out, json.dumps(values | {"rows": [asdict(row) for row in rows]}, indent=1))
        return 0

    def _measure_terms(self, model: FaceModel, machine: "bench.Machine", growth: bool) -> "list[bench.Row]":
        """Measure and print the table of decoder and loss, with its growth where the kernel is there."""
        from mofaface import bench

        headings = ("path", "batch", "ms", "MB", "floor ms", "× floor", "× faster", "workspace MB")
        table = Table(*headings, box=None, pad_edge=False)
        rows: list[bench.Row] = []
        for batch in self.batch:
            plain = None
            for path in bench.paths():
                if path == "autograd" and batch > 32:
                    continue
                row = bench.measure_terms(model, machine, batch, path, self.seconds)
                plain = row.milliseconds if path == "autograd" else plain
                rows.append(row)
                table.add_row(*_cells(row, row.path, plain))
        for row in bench.measure_growth(model, machine) if growth else ():
            rows.append(row)
            table.add_row(*_cells(row, f"{row.path}, {row.vertices} vertices, {row.modes} modes", None))
        console.print(table)
        return rows

    def _measure_uses(self, model: FaceModel) -> dict[str, object]:
        from mofaface import bench_uses

        found: dict[str, object] = {}
        if self.fit:
            rows = bench_uses.measure_fits(model, self.fit)
            for row in rows:
                console.print(
                    f"fit, matrix from {row.sample or 'all'} vertices: 50 steps {row.seconds:.2f} s, "
                    f"energy {row.mean:.3f} (worst {row.worst:.3f}) of that with all"
                )
            found["fits"] = [asdict(row) for row in rows]
        if self.alexnet:
            times = bench_uses.measure_alexnet(model)
            console.print(
                f"AlexNet, batch 5: network {times.network:.0f} ms, AdaDelta {times.adadelta:.0f} ms "
                f"(torch's {times.torch_adadelta:.0f} ms)"
            )
            found["alexnet"] = asdict(times)
        return found | (self._measure_inference() if self.inference else {})

    def _measure_inference(self) -> dict[str, object]:
        from mofaface import bench_inference

        stages = list(bench_inference.measure_inference(self.inference, self.weights, self.model))
        for stage in stages:
            name = ", ".join(part for part in (stage.stage, stage.engine) if part)
            console.print(f"{name}, batch {stage.batch}: {stage.milliseconds:.2f} ms a photo")
        folders = list(bench_inference.measure_folder(self.inference, self.weights, self.model))
        for folder in folders:
            console.print(
                f"folder of {folder.photos} photos, {folder.engine}: {folder.per_second:.0f} a second"
            )
        return {"inference": [asdict(row) for row in stages], "folders": [asdict(row) for row in folders]}


def _cells(row: "bench.Row", path: str, plain: float | None) -> tuple[str, ...]:
    """A line of the table; `plain` is what autograd takes, ms."""
    return (
        path,
        str(row.batch),
        f"{row.milliseconds:.2f}",
        f"{row.megabytes:.1f}",
        f"{row.floor:.2f}",
        f"{row.milliseconds / row.floor:.1f}",
        "" if plain is None else f"{plain / row.milliseconds:.1f}",
        f"{row.workspace:.1f}" if row.workspace else "",
    )
