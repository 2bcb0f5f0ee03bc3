"""Wrong calls: one exception of the right type whose message names the op and says what was wrong; nothing has changed."""

from __future__ import annotations

import re

import numpy as np
import pytest

from minigrad.autograd import is_grad_enabled
from minigrad.device import to_numpy
from minigrad.ops.arithmetic import mul
from minigrad.tensor import Tensor
from tests.ops.case import operation
from tests.ops.cases import ALL_ERRORS
from tests.ops.harness import prepare


@pytest.mark.parametrize("error", ALL_ERRORS, ids=lambda error: error.name)
def test_error(error):
    r = prepare(error, np.float32)
    args = r.args
    if error.inplace and isinstance(args[0], Tensor):
        args = (mul(args[0], 1), *args[1:])
    tensors = [*r.inputs, *(a for a in args if isinstance(a, Tensor))]
    before = [_state(t) for t in tensors]
    with pytest.raises(error.error) as caught:
        operation(error.op)(*args, **r.kwargs)
    message = str(caught.value)
    assert type(caught.value) is error.error, f"{type(caught.value).__name__}: {message}"
    assert message.startswith(f"{error.op}: "), f"the message should begin with the op's name: {message}"
    assert re.search(error.match, message), f"{message!r} does not match {error.match!r}"
    assert [_state(t) for t in tensors] == before
    assert is_grad_enabled()


def _state(t: Tensor) -> tuple:
    return to_numpy(t.data).tobytes(), t.shape, t.dtype, t.version[0], t.requires_grad, t.grad, t.origin
