"""Ten seconds that show whether the whole thing stands: a convolution learns, and its gradients are right."""

from __future__ import annotations

import minigrad as mg
from minigrad import data, nn, optim
from minigrad.nn import functional as F


def test_a_small_network_learns_the_digits():
    mg.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(72, 10))
    train, test = data.create("digits"), data.create("digits", train=False)
    optimizer = optim.SGD(model.parameters(), lr=0.2, momentum=0.9)
    for _ in range(3):
        for images, labels in data.DataLoader(train, batch_size=64, shuffle=True, seed=0):
            optimizer.zero_grad()
            F.cross_entropy(model(images), labels).backward()
            optimizer.step()
    images, labels = next(iter(data.DataLoader(test, batch_size=len(test))))
    with mg.no_grad():
        accuracy = (model(images).argmax(1) == labels).float().mean().item()
    assert accuracy > 0.9


def test_its_gradients_are_right():
    x, w = mg.randn(2, 3, 5, 5, requires_grad=True), mg.randn(4, 3, 3, 3, requires_grad=True)
    assert mg.gradcheck(lambda x, w: F.max_pool2d(mg.tanh(F.conv2d(x, w, padding=1)), 2), (x, w))
