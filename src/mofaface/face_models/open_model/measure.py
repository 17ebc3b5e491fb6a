"""python -m mofaface.face_models.open_model.measure [FILE]: the figures of the model card."""

import sys
import time
from pathlib import Path

from mofaface.face_models import OPEN_MODEL, load_face_model
from mofaface.model_report import basis_figures, share_outside


def main() -> None:
    """Print every figure of the model card that can be measured on the file alone."""
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else OPEN_MODEL
    start = time.perf_counter()
    model = load_face_model(path)
    print(f"load time: {time.perf_counter() - start:.2f} s, file: {path.stat().st_size / 2**20:.1f} MiB")
    print(f"vertices: {model.vertices}, triangles: {len(model.triangles)}, digest: {model.digest}")
    for name in ("shape", "expression", "reflectance"):
        print(name, basis_figures(getattr(model, f"{name}_basis").numpy()))
    print(f"reflectance values outside [0, 1]: {100 * share_outside(model):.1f} %")


if __name__ == "__main__":
    main()
