"""Compiles the Triton kernels for a GPU that need not be there, and prints what each would use of it as JSON.

Run as a script, with TRITON_INTERPRET unset: an interpreted kernel cannot be compiled in the same process.
"""

import json
import re
import sys

import torch
import triton
from little_face import little_model
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime.jit import JITFunction, mangle_type

from mofaface.code import CodeLayout
from mofaface.decoder import Decoder
from mofaface.kernels import triton_terms
from mofaface.kernels.triton_adadelta import adadelta_step

# The H100 and H200.
TARGET = GPUTarget("cuda", 90, 32)


def compiled(function: JITFunction, args: tuple, kwargs: dict):
    """A kernel compiled for the arguments of a launch, specialised as Triton would for them."""
    given = dict(zip(function.arg_names, args, strict=False)) | kwargs
    signature, constants, attributes = {}, {}, {}
    for i, parameter in enumerate(function.params):
        value = given[parameter.name]
        if parameter.is_constexpr or (isinstance(value, int) and value == 1):
            signature[parameter.name], constants[(i,)] = "constexpr", value
            continue
        signature[parameter.name] = mangle_type(value)
        if isinstance(value, torch.Tensor) or (isinstance(value, int) and value % 16 == 0):
            attributes[(i,)] = [["tt.divisibility", 16]]
    return triton.compile(ASTSource(function, signature, constants, attributes), target=TARGET)


def main(precision: str, products: str, batch: int, gradient: bool) -> list[dict]:
    """Compile what one call, and a step of AdaDelta, launch; nothing runs."""
    found = []

    def record(self: JITFunction, *args, grid, warmup, **kwargs):
        kernel = compiled(self, args, kwargs)
        ptx = kernel.asm["ptx"]
        found.append(
            {
                "name": self.__name__,
                "shared": kernel.metadata.shared,
                "atomics": re.search(r"\b(atom|red)\.", ptx) is not None,
                "tensor_cores": re.search(r"\bw?g?mma\.", ptx) is not None,
            }
        )
        return kernel

    JITFunction.run = record
    # Only lets the model stay where it is: the kernels were imported to be compiled.
    triton_terms.INTERPRETED = True
    model = little_model(9, CodeLayout()).float()
    terms = triton_terms.TritonTerms(Decoder(model), model.landmarks_46, precision, products)
    x = torch.zeros(batch, model.layout.size, requires_grad=gradient)
    landmarks = torch.zeros(batch, 46, 2), torch.ones(batch, 46)
    terms(model.layout.unpack(x), torch.zeros(batch, 3, 240, 240), *landmarks)
    one = torch.ones(1)
    adadelta_step(*(torch.zeros(4096) for _ in range(4)), one, one, 0.95, 1e-6)
    return found


if __name__ == "__main__":
    precision, products, batch, gradient = sys.argv[1:]
    json.dump(main(precision, products, int(batch), gradient == "gradient"), sys.stdout)
