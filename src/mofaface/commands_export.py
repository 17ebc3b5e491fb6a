"""`mofaface export`: the networks for other programs."""

from dataclasses import dataclass
from pathlib import Path

from mofaface.weights import DEFAULT_WEIGHTS


@dataclass(frozen=True)
class Export:
    """Write encoder and decoder as ONNX files that hold everything: weights, face model, conventions."""

    onnx: Path
    """Folder for encoder.onnx and decoder.onnx; or a name like face.onnx, for face.onnx and face_decoder.onnx."""
    weights: str = DEFAULT_WEIGHTS
    """Trained weights: a shipped name or a file."""
    model: str = "open"
    """Face model of the weights: "open" or a container file."""

    def run(self) -> int:
        """Export and return the exit code."""
        from mofaface.onnx_export import export_onnx
        from mofaface.reconstruct import load

        reconstructor = load(self.weights, self.model, device="cpu", engine="torch", refine=0)
        autoencoder = reconstructor.autoencoder
        for path in export_onnx(autoencoder, self.onnx, reconstructor.weights):
            print(f"wrote {path} ({path.stat().st_size / 1e6:.1f} MB)")
        if steps := autoencoder.refine:
            print(f"the {steps} steps that shall follow these weights in `reconstruct` are not in the files")
        return 0
