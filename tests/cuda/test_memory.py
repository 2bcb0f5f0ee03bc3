"""The memory of a card: what is counted, and what happens when it ends in the middle of a step of training."""

from __future__ import annotations

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn, optim

pytestmark = pytest.mark.usefixtures("card")

OPTIMIZERS = {
    "SGD": lambda p: optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=1e-3),
    "Adam": lambda p: optim.Adam(p, lr=1e-2),
    "RMSprop": lambda p: optim.RMSprop(p, lr=1e-2, momentum=0.5, centered=True),
}


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.conv2, self.bn2 = nn.Conv2d(4, 4, 3, padding=1, stride=2), nn.BatchNorm2d(4)
        self.fc = nn.Linear(4, 3)

    def forward(self, x):
        x = nn.functional.relu(self.bn1(self.conv1(x)))
        x = nn.functional.relu(self.bn2(self.conv2(x)), inplace=True)
        return self.fc(nn.functional.dropout(x, 0.1).mean((2, 3)))


class Training:
    """A net and its optimizer on the card, after two steps."""

    def __init__(self, optimizer: str):
        mg.manual_seed(3)
        self.net = Net().cuda()
        self.optimizer = OPTIMIZERS[optimizer](self.net.parameters())
        self.average = optim.ExponentialMovingAverage(self.net, buffers=False)
        for size in (6, 6):
            self.step(size)

    def step(self, size: int) -> float:
        rng = np.random.default_rng(size)
        x = mg.tensor(rng.standard_normal((size, 2, 6, 6)).astype(np.float32)).cuda()
        labels = mg.tensor(rng.integers(0, 3, size)).cuda()
        self.optimizer.zero_grad()
        loss = nn.functional.cross_entropy(self.net(x), labels)
        loss.backward()
        self.optimizer.step()
        self.average.update()
        return loss.item()

    def arrays(self) -> dict[str, list]:
        """Copies of what belongs together: all of a group changes, or nothing."""
        slots = [t for state in self.optimizer.state_dict()["state"].values() for t in state.values() if hasattr(t, "array")]
        groups = {"parameters": [*self.net.parameters(), *slots], "averages": list(self.average.averages.values())}
        groups |= {
            name: [m.running_mean, m.running_var, m.num_batches_tracked] for name, m in self.net.named_children() if "bn" in name
        }
        groups["gradients"] = [p.grad for p in self.net.parameters()]
        return {name: [None if t is None else t.detach().cpu().numpy().copy() for t in group] for name, group in groups.items()}


def failing_at(library, number: int) -> list[int]:
    """Let allocation ``number`` from now on, and all later ones, fail. The list counts them."""
    allocate, count = library.cuda.get_allocator(), [0]

    def failing(size):
        if size:
            count[0] += 1
        if count[0] > number:
            raise mg.cuda.OutOfMemoryError("CUDA out of memory")
        return allocate(size)

    library.cuda.set_allocator(failing)
    return count


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_no_memory_in_the_middle_of_a_step(card, optimizer):
    """Wherever in a step the memory ends: what belongs together stays together, and a smaller batch then gives what it should."""
    allocate = card.cuda.get_allocator()
    try:
        right = Training(optimizer)
        right.step(4)
        expected = right.arrays()
        counted = Training(optimizer)
        count = failing_at(card, 1 << 60)
        counted.step(8)
        allocations = count[0]
        assert allocations > 50
        card.cuda.set_allocator(allocate)
        after = counted.arrays()
        for number in range(0, allocations, 5):
            training = Training(optimizer)
            before = training.arrays()
            failing_at(card, number)
            random_numbers = mg.get_rng_state()
            with pytest.raises(mg.cuda.OutOfMemoryError):
                training.step(8)
            card.cuda.set_allocator(allocate)
            for name, group in training.arrays().items():
                states = before[name], after[name], [None] * len(group)
                assert any(_equal(group, state) for state in states), f"{name} after allocation {number} of {allocations} failed"
            if _equal(training.arrays()["parameters"], before["parameters"]):
                mg.set_rng_state(random_numbers)  # so that dropout draws what it drew without the failure
                training.step(4)
                assert _equal(training.arrays()["parameters"], expected["parameters"]), number
    finally:
        card.cuda.set_allocator(allocate)


def _equal(arrays: list, others: list) -> bool:
    """Whether two lists of arrays are the same bit for bit."""
    return all(a is b or (a is not None and b is not None and np.array_equal(a, b)) for a, b in zip(arrays, others, strict=True))


def test_the_message_says_what_was_asked_and_what_helps(card):
    pool = card.get_default_memory_pool()
    pool.free_all_blocks()
    x = mg.zeros(1000, device="cuda")
    taken = mg.cuda.memory_allocated()
    pool.set_limit(size=pool.total_bytes() + 10000)
    try:
        with pytest.raises(mg.cuda.OutOfMemoryError) as caught:
            mg.exp(mg.zeros(1 << 20, device="cuda"))
        assert isinstance(caught.value, RuntimeError)
        assert caught.value.__context__ is None  # which would keep what failed alive
        for text in ("asked for 4.00 MiB on card 0", "smaller batches", "no_grad", "empty_cache", "arrays of this process take"):
            assert text in str(caught.value)
        assert mg.cuda.memory_allocated() == taken
        assert float((x + 1).sum()) == 1000  # life goes on
    finally:
        pool.set_limit(size=0)


def test_what_the_pool_keeps_is_given_back_first(card):
    pool = card.get_default_memory_pool()
    pool.free_all_blocks()
    mg.zeros(1 << 20, device="cuda")  # gone at once: the pool keeps its memory
    pool.set_limit(size=pool.total_bytes() + (1 << 20))
    try:
        assert mg.zeros(9 << 17, device="cuda").numel() == 9 << 17  # does not fit beside, nor into, what is kept
    finally:
        pool.set_limit(size=0)


def test_memory_is_counted():
    mg.cuda.empty_cache()
    before = mg.cuda.memory_allocated()
    mg.cuda.reset_peak_memory_stats()
    x = mg.zeros(1 << 18, device="cuda")
    for _ in range(3):
        y = x + 1
        del y
    assert mg.cuda.memory_allocated() - before == 1 << 20
    assert mg.cuda.max_memory_allocated() - before == 2 << 20
    assert mg.cuda.memory_reserved() >= mg.cuda.memory_allocated()
    mg.cuda.reset_peak_memory_stats()
    assert mg.cuda.max_memory_allocated() - before == 1 << 20
    del x
    mg.cuda.empty_cache()
    assert mg.cuda.memory_allocated() == before
    assert mg.cuda.max_memory_allocated() - before == 1 << 20
    free, total = mg.cuda.mem_get_info()
    assert 0 < free <= total == mg.cuda.get_device_properties().total_memory
