"""The graph picture and the backpropagation stepper."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

import minigrad as mg
import minigrad.nn.functional as F
from minigrad import nn, viz
from minigrad.ops._base import REGISTRY
from minigrad.viz.layout import Box, layered_layout
from minigrad.viz.rules import RULES

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def shared():
    """A loss whose leaf w is used twice and whose result h three times."""
    x = mg.tensor([[1.0, 2.0, 3.0], [-1.0, 0.5, 2.0]])
    w = mg.tensor([[0.2, 0.3, -1.0]], requires_grad=True)
    b = mg.tensor([0.1], requires_grad=True)
    h = F.relu(x * w + b)
    return (h * h + h * w).sum(), w, b


def boxes_of(svg: str) -> list:
    root = ElementTree.fromstring(svg)
    return [group for group in root.iter(f"{SVG}g") if group.get("id")]


def test_graph_is_a_valid_svg_with_a_box_for_every_op_and_leaf(shared, tmp_path):
    loss, w, b = shared
    path = viz.graph(loss, {"w": w, "b": b}).save(tmp_path / "graph.svg")
    texts = ["".join(group.itertext()) for group in boxes_of(path.read_text(encoding="utf-8"))]
    assert len(texts) == 9  # mul add relu mul mul add sum, w, b
    for name in ("w1 x 3", "b1", "relu", "sum"):
        assert any(name in text for text in texts), (name, texts)


def test_boxes_do_not_overlap_and_edges_point_down():
    model = mg.models.create("cifar_resnet14")
    loss = model(mg.randn(2, 3, 32, 32)).sum()
    found = viz.graph(loss, model)
    rectangles = []
    for group in boxes_of(found.svg):
        r = group.find(f"{SVG}rect")
        x, y, w, h = (float(r.get(k)) for k in ("x", "y", "width", "height"))
        rectangles.append((x, y, x + w, y + h))
    assert len(rectangles) > 60
    for i, a in enumerate(rectangles):
        for b in rectangles[:i]:
            assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1], (a, b)
    assert "layer3.1.conv2.weight" in found.svg


def test_layout_of_long_edges_leaves_only_real_boxes():
    boxes = {k: Box(40, 20) for k in "abcd"}
    edges = [("a", "b"), ("b", "c"), ("c", "d"), ("a", "d")]
    _, _, points = layered_layout(boxes, edges)
    assert set(boxes) == set("abcd")
    assert [boxes[k].layer for k in "abcd"] == [0, 1, 2, 3]
    assert len(points[("a", "d")]) == 2
    assert len(points[("a", "b")]) == 0


def test_steps_follow_the_backward_pass_and_end_with_its_gradients(shared):
    loss, w, b = shared
    steps = viz.backprop(loss, {"w": w, "b": b})
    assert [frame.op for frame in steps] == ["sum", "add", "mul", "mul", "relu", "add", "mul"]
    assert w.grad is None  # nothing was stored, and the graph is still whole
    totals = {flow.name: flow.total for frame in steps for flow in frame.inputs if not flow.constant}
    loss.backward()
    np.testing.assert_allclose(totals["w"], w.grad.numpy(), rtol=1e-6)
    np.testing.assert_allclose(totals["b"], b.grad.numpy(), rtol=1e-6)


def test_steps_show_where_paths_meet(shared):
    loss, w, b = shared
    steps = viz.backprop(loss, {"w": w, "b": b})
    relu = next(frame for frame in steps if frame.op == "relu")
    assert relu.paths == 3  # h * h counts twice
    counts = [(flow.arrived, flow.expected) for frame in steps for flow in frame.inputs if flow.name == "w"]
    assert counts == [(1, 2), (2, 2)]


def test_every_step_agrees_with_a_finite_difference(shared):
    loss, *_ = shared
    for frame in viz.backprop(loss):
        assert frame.error is not None, frame.unchecked
        assert frame.error < 1e-5, frame.op


def test_a_wrong_gradient_shows_in_the_check():
    x = mg.tensor([1.0, 2.0], requires_grad=True)
    y = (x * 3).sum()
    node = y.grad_fn.edges[0][0]
    node.backward = lambda gy: (gy * 4, None)
    wrong = viz.backprop(y)[1]
    assert wrong.error == pytest.approx(0.25, rel=1e-3)


def test_a_small_network_can_be_stepped_through():
    mg.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(2, 3))
    loss = F.cross_entropy(net(mg.randn(3, 1, 4, 4)), mg.tensor([0, 2, 1]))
    steps = viz.backprop(loss, net)
    assert steps[0].op == "cross_entropy"
    assert {"conv2d", "batch_norm", "linear"} <= {frame.op for frame in steps}
    for frame in steps:
        assert frame.error is None or frame.error < 1e-4, (frame.op, frame.error)
    names = {flow.name for frame in steps for flow in frame.inputs}
    assert {"0.weight", "1.bias", "5.weight"} <= names


def test_large_arrays_are_named_but_not_shown():
    x = mg.randn(20, 20, requires_grad=True)
    steps = viz.backprop((x * 2).sum())
    assert steps[1].value is None
    assert "too large" in steps[1].unchecked
    assert "(large)" in steps.text()


def test_the_page_is_self_contained(shared, tmp_path):
    loss, *_ = shared
    steps = viz.backprop(loss)
    page = steps.save(tmp_path / "steps.html").read_text(encoding="utf-8")
    assert page.count("<section") == len(steps)
    assert not re.search(r'(src|href)="', page)
    assert "{{" not in page
    for frame in steps:
        assert f'id="node-{frame.node.index}"' in page
    bundle = steps._repr_mimebundle_()
    assert bundle["text/html"].startswith("<iframe srcdoc=")
    assert bundle["text/plain"] == str(steps)


def test_every_op_with_a_gradient_has_a_rule():
    aliases = {"batch_norm_training": "batch_norm", "batch_norm_inference": "batch_norm"}
    aliases |= {"instance_norm_training": "instance_norm", "local_response_norm_paper": "local_response_norm"}
    names = {aliases.get(name, name) for name, op in REGISTRY.items() if not getattr(op, "no_gradient", False)}
    assert sorted(names - set(RULES)) == []


def test_errors_say_what_to_do():
    x = mg.tensor([1.0, 2.0], requires_grad=True)
    with pytest.raises(ValueError, match="no graph"):
        viz.graph(mg.tensor(1.0))
    with pytest.raises(TypeError, match="Tensor"):
        viz.backprop([x])
    with pytest.raises(ValueError, match="reduce it first"):
        viz.backprop(x * 2)
    y = (x * 2).sum()
    y.backward()
    with pytest.raises(ValueError, match="retain_graph=True"):
        viz.backprop(y)
