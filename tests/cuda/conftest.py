"""What tests of the framework on a graphics card get."""

from __future__ import annotations

import pytest

from minigrad.device import cuda_is_available
from tests.cuda.on_device import as_cupy


@pytest.fixture
def card():
    """The framework can use "cuda": a card where there is one, else the stand-in for CuPy. The value is the library."""
    with as_cupy() as library:
        assert cuda_is_available()
        yield library
