"""The life of a graph: what it shows, when it is freed, how deep it may be, and what it keeps in memory."""

from __future__ import annotations

import gc
import weakref

import pytest

import minigrad as mg
from tests.autograd.helpers import leaf

# ---- freed graphs ------------------------------------------------------------------------------------------------------


def test_a_second_backward_says_what_to_do():
    x = leaf(1, 2)
    y = (x.exp() * 3).sum()
    y.backward()
    before = x.grad.tolist()
    with pytest.raises(RuntimeError, match=r"^sum: this part of the graph was freed.*retain_graph=True"):
        y.backward()
    assert x.grad.tolist() == before


def test_a_shared_part_that_was_freed_is_named():
    x = leaf(1, 2)
    shared = x.exp()
    one, two = shared.sum(), (shared * 2).sum()
    one.backward()
    before = x.grad.tolist()
    with pytest.raises(RuntimeError, match=r"^exp: this part of the graph was freed"):
        two.backward()
    assert x.grad.tolist() == before


def test_retain_graph():
    x = leaf(1, 2)
    y = (x * x).sum()
    for n in (1, 2):
        y.backward(retain_graph=True)
        assert x.grad.tolist() == [2 * n, 4 * n]
    y.backward()
    assert x.grad.tolist() == [6, 12]
    with pytest.raises(RuntimeError, match="freed"):
        y.backward()


def test_the_graph_can_be_inspected_until_it_is_freed():
    x = leaf(1, 2)
    y = (x * x).sum()
    assert y.grad_fn.name == "sum"
    [(node, slot)] = y.grad_fn.next_functions
    assert (node.name, slot) == ("mul", 0)
    assert repr(node).startswith("<mul node ")
    assert x.grad_fn is None
    assert x.is_leaf
    assert not y.is_leaf
    y.backward()
    assert y.grad_fn.next_functions == ()


# ---- depth and memory --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "walk"), [(1, True), (1, False), (300, False)], ids=["walked", "unwalked", "large"])
def test_a_chain_of_20000_nodes(size, walk):
    """Neither backward nor freeing the graph may recurse; the graph of small ops also remembers their calls."""
    x = mg.ones(size, requires_grad=True)
    y = x
    for _ in range(10_000):
        y = y * x + 0.0
    if walk:
        y.sum().backward()
        assert x.grad.tolist() == [10_001]
    node = weakref.ref(y.grad_fn)
    del y
    assert node() is None


@pytest.fixture
def no_collector():
    """Only counting references may free memory."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("walk", [False, True], ids=["unwalked", "walked"])
@pytest.mark.usefixtures("no_collector")
def test_the_graph_dies_with_its_last_tensor(walk):
    net = mg.nn.Sequential(mg.nn.Linear(4, 8), mg.nn.ReLU(), mg.nn.Linear(8, 3))
    hidden = net[0](mg.ones(1, 4))
    loss = net[1:](hidden).logsumexp(1).mean()
    watched = [weakref.ref(a) for a in (hidden, hidden.grad_fn, hidden.data, loss, loss.grad_fn)]
    if walk:
        loss.backward()
    del hidden, loss
    assert [w() for w in watched] == [None] * 5


@pytest.mark.usefixtures("no_collector")
def test_backward_frees_what_the_graph_held():
    x = mg.ones(1000, requires_grad=True)
    hidden = x.exp()
    array = weakref.ref(hidden.data)
    loss = hidden.sum()
    del hidden
    assert array() is not None  # exp's backward needs it
    loss.backward()
    assert array() is None
    assert loss.grad_fn is not None


@pytest.mark.usefixtures("no_collector")
def test_gradients_under_way_are_freed():
    x = mg.ones(1000, requires_grad=True)
    seen = []
    a = x * 2
    b = a * 3
    a.register_hook(lambda g: seen.append(weakref.ref(g.data)))
    b.register_hook(lambda g: seen.append(weakref.ref(g.data)))
    b.sum().backward()
    assert [w() for w in seen] == [None, None]
