"""An encoder that ONNX Runtime computes: several times as fast as torch for one crop on a CPU, with the same codes."""

import torch
from jaxtyping import Float
from torch import Tensor

from mofaface.code import Code
from mofaface.encoders.encoder import Encoder
from mofaface.encoders.onnx_graph import onnx_graph
from mofaface.encoders.preprocess import resize
from mofaface.engines import Session, one_thread


class OnnxEncoder:
    """Crops, RGB in [0, 1] → Code, as the encoder that it was made from answers at that moment."""

    def __init__(self, encoder: Encoder):
        """Raises UnknownOperation for a backbone that the graph has no words for."""
        self._layout, self._size = encoder.head.layout, encoder.backbone.preprocess.format.size

        W, b = (part.detach() for part in encoder.head.as_product())

        def network(resized: Tensor) -> Tensor:
            return torch.addmm(b, encoder.backbone(resized), W)

        self._graph = onnx_graph(network, torch.zeros(2, 3, self._size, self._size))
        self._sessions: dict[int, Session] = {}

    def __call__(self, images: Float[Tensor, "batch 3 240 240"]) -> Code:
        """The codes of a batch of crops, computed by torch's number of threads."""
        threads = torch.get_num_threads()
        # Resized by torch, as filtered resizing is slow in ONNX Runtime.
        with one_thread():
            resized = resize(images, self._size).contiguous().numpy()
        return self._layout.unpack(torch.from_numpy(self._session(threads)(resized)[0]))

    def _session(self, threads: int) -> Session:
        # One for each number of threads: a session cannot change its own, and one alone is best beside other work.
        if threads not in self._sessions:
            self._sessions[threads] = Session(self._graph, threads)
        return self._sessions[threads]
