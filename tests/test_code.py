from dataclasses import fields

import pytest
import torch
from little_face import random_code

from mofaface.code import Code, CodeLayout

LAYOUT = CodeLayout()


def test_the_default_code_has_257_values():
    assert LAYOUT.size == 257
    assert LAYOUT.pack(LAYOUT.zero()).shape == (1, 257)


def test_unpack_undoes_pack():
    code = random_code(LAYOUT, batch=3)
    back = LAYOUT.unpack(LAYOUT.pack(code))
    for f in fields(Code):
        assert torch.equal(getattr(back, f.name), getattr(code, f.name))


def test_pack_undoes_unpack_for_any_batch_shape():
    for shape in ((), (2,), (4, 3)):
        x = torch.randn(*shape, LAYOUT.size)
        assert torch.equal(LAYOUT.pack(LAYOUT.unpack(x)), x)


def test_slices_are_where_unpack_takes_each_part_from():
    x = torch.arange(LAYOUT.size)
    code = LAYOUT.unpack(x.float())
    for name, place in LAYOUT.slices().items():
        assert torch.equal(getattr(code, name).flatten(), x[place].float())


def test_gamma_is_harmonic_major():
    gamma = LAYOUT.unpack(torch.arange(257.0)).gamma
    assert gamma[0].tolist() == [230, 231, 232] and gamma[8].tolist() == [254, 255, 256]


def test_a_vector_of_another_length_is_refused_with_both_lengths():
    with pytest.raises(ValueError, match=r"257 values, got 256"):
        LAYOUT.unpack(torch.zeros(256))


def test_zero_is_all_zero_in_the_asked_type():
    zero = LAYOUT.pack(LAYOUT.zero(5, dtype=torch.float64))
    assert zero.dtype == torch.float64 and zero.shape == (5, 257) and not zero.any()
