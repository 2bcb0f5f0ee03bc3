"""What every test gets: fixed seeds, and a failure if it leaves a switch of the framework turned."""

from __future__ import annotations

import gc
import os
import random
import sys

os.environ.setdefault("MPLBACKEND", "Agg")  # no window, before anything imports matplotlib
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # idle threads leave the processor to other processes

import numpy as np
import pytest

import minigrad.random
from minigrad.autograd import state
from tests import beside, device_option


def pytest_addoption(parser):
    device_option.add_option(parser)


def pytest_configure(config):
    device_option.check(config)


def set_aside() -> None:
    """Tests and their reports are no garbage: let nobody look through all of them again and again."""
    gc.collect()
    gc.freeze()


# Hooks, not fixtures: a fixture for each of some thirty thousand tests takes longer than many of these tests.


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Every generator starts from the same place; PyTorch, where it was imported, computes on one thread."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - for tests of what reads NumPy's global generator
    minigrad.random.manual_seed(0)
    if "torch" in sys.modules:
        torch = sys.modules["torch"]
        torch.default_generator.manual_seed(0)  # torch.manual_seed keeps a list of all of its calls where there is no card
        if torch.get_num_threads() != 1:
            torch.set_num_threads(1)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item, nextitem):
    """Fails a test after which gradients are off, anomaly detection is on, or a module still counts as running."""
    try:
        result = yield
    finally:  # also where a fixture failed: the next test begins as it should
        left = (state.grad_enabled, state.anomaly, list(state.modules))
        state.grad_enabled, state.anomaly = True, False
        state.modules.clear()
        if nextitem is None or nextitem.path != item.path:
            set_aside()
    assert left == (True, False, []), f"the test left (grad_enabled, anomaly, modules) at {left}"
    return result


@pytest.fixture
def _on_device(request):
    """With ``--device cuda`` the tensors of the test lie on the card."""
    for marker in request.node.iter_markers("processor"):
        pytest.skip(*marker.args)
    with device_option.everything_on_the_card():
        yield


# ---- processes beside the tests ----------------------------------------------------------------------------------------


def _needed(item) -> set[str]:
    return {name for marker in item.iter_markers("beside") for name in marker.args}


def pytest_collection_modifyitems(items):
    """Tests that wait for processes come last; those that --device moves do so before any of their fixtures."""
    items.sort(key=lambda item: bool(_needed(item)))
    for item in filter(device_option.is_moved, items):
        item.fixturenames.insert(0, "_on_device")


def pytest_collection_finish(session):
    set_aside()
    if not session.config.option.collectonly:
        beside.begin(set().union(*map(_needed, session.items)))


def pytest_sessionfinish(session):
    beside.end()
