"""Whether CuPy itself, where it is installed, takes what minigrad gives it: tried without a card (see ``driverless.py``)."""

from __future__ import annotations

import pytest

pytest.importorskip("cupy")

from tests import beside
from tests.cuda.driverless import PROGRAMS
from tests.cuda.on_device import has_card

RUN = beside.add("CuPy without a driver", "-m", "tests.cuda.driverless")


@RUN
@pytest.mark.skipif(has_card(), reason="the other tests run on the card")
@pytest.mark.parametrize("name", PROGRAMS)
def test_cupy_takes_it(name):
    error = beside.result("CuPy without a driver")[name]
    assert not error, error
