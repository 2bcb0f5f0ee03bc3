"""The DataLoader: what a batch is, order and augmentation that depend on nothing but the seed, resuming, threads and errors."""

from __future__ import annotations

import json
import threading

import numpy as np
import pytest

from minigrad import random
from minigrad.data import DataLoader, Dataset, Digits, ImageDataset, Subset, TensorDataset, standard_transforms, transforms
from minigrad.kernels.layout import is_channels_last
from minigrad.tensor import Tensor


def noise(x, rng):
    """A transform that shows which random numbers it got."""
    return x.astype(np.float32) + rng.standard_normal(x.shape, np.float32)


def images(count=23, transform=noise):
    rng = np.random.default_rng(0)
    return ImageDataset(rng.integers(0, 256, (count, 3, 6, 5), np.uint8), np.arange(count), transform=transform)


def run(loader, epochs=1):
    """The batches of some epochs as bytes."""
    return [(x.numpy().tobytes(), y.tolist()) for _ in range(epochs) for x, y in loader]


def threads():
    return [t for t in threading.enumerate() if t.name.startswith("minigrad-data")]


# ---- what a batch is --------------------------------------------------------------------------------------------------


def test_batches_of_images():
    whole = images(transform=None)
    x, y = next(iter(DataLoader(whole, 4)))
    assert isinstance(x, Tensor)
    assert (x.shape, x.dtype, y.dtype) == ((4, 3, 6, 5), np.float32, np.int64)
    assert is_channels_last(x.data)
    assert not x.requires_grad
    np.testing.assert_array_equal(x.data, whole.images[:4] / np.float32(255))
    assert y.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(("drop_last", "sizes"), [(False, [10, 10, 3]), (True, [10, 10])])
def test_last_batch(drop_last, sizes):
    loader = DataLoader(images(), 10, drop_last=drop_last)
    assert len(loader) == len(sizes)
    assert [len(y) for _, y in loader] == sizes


def test_shuffling_gives_every_sample_once_and_a_new_order_each_epoch():
    loader = DataLoader(images(), 5, shuffle=True, seed=1)
    first, second = ([i for _, y in loader for i in y.tolist()] for _ in range(2))
    assert sorted(first) == sorted(second) == list(range(23))
    assert first != second
    assert first != list(range(23))
    assert DataLoader(images(), 5, shuffle=True, seed=1).order(1).tolist() == second


def test_the_transform_of_the_loader_replaces_that_of_the_data_set():
    whole = images()
    through_subset = next(iter(DataLoader(Subset(whole, range(4)), 4, seed=0)))[0].data
    assert not np.array_equal(through_subset, whole.images[:4] / np.float32(255))
    plain = next(iter(DataLoader(whole, 4, transform=transforms.ToTensor())))[0].data
    np.testing.assert_array_equal(plain, whole.images[:4] / np.float32(255))


def test_digits_with_their_standard_transform():
    digits = Digits()
    loader = DataLoader(digits, 64, shuffle=True, num_workers=2, transform=standard_transforms(digits))
    batches = list(loader)
    assert len(batches) == 23
    everything = np.concatenate([x.numpy() for x, _ in batches])
    assert abs(everything.mean()) < 0.2
    assert 0.8 < everything.std() < 1.1


def test_other_data_sets():
    class Pairs:
        """Neither a Dataset nor arrays: only a length and samples by index."""

        def __len__(self):
            return 5

        def __getitem__(self, index):
            return {"x": np.full(3, index, np.float64), "name": f"sample {index}", "y": index / 2}

    batch = next(iter(DataLoader(Pairs(), 2)))
    assert batch["x"].dtype == np.float64
    assert batch["y"].dtype == np.float32
    assert batch["name"] == ["sample 0", "sample 1"]
    x, y = next(iter(DataLoader([(1.5, 1), (2.5, 0)], 2)))
    assert (x.tolist(), y.tolist()) == ([1.5, 2.5], [1, 0])
    rows, targets = next(iter(DataLoader(TensorDataset(Tensor(np.ones((4, 2), np.float32)), np.arange(4)), 4)))
    assert (rows.shape, targets.dtype) == ((4, 2), np.int64)
    only = next(iter(DataLoader(list(np.zeros((3, 1, 2, 2), np.uint8)), 3)))
    assert only.dtype == np.float32


def test_float_images_keep_their_dtype_and_become_channels_last():
    x, _ = next(iter(DataLoader(TensorDataset(np.ones((4, 3, 5, 6)), np.arange(4)), 4)))
    assert x.dtype == np.float64
    assert is_channels_last(x.data)


# ---- reproducibility --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_threads_do_not_change_a_bit(workers):
    def batches(n):
        return run(DataLoader(images(), 4, shuffle=True, seed=7, num_workers=n), epochs=2)

    assert batches(workers) == batches(0)


def test_seed_decides():
    def batches(**options):
        return run(DataLoader(images(), 4, shuffle=True, **options))

    assert batches(seed=1) == batches(seed=1) != batches(seed=2)
    assert batches(generator=np.random.default_rng(1)) == batches(generator=np.random.default_rng(1))
    random.manual_seed(4)
    drawn = [batches(), batches()]
    random.manual_seed(4)
    assert [batches(), batches()] == drawn
    assert drawn[0] != drawn[1]


def test_augmentation_differs_between_batches_and_epochs():
    whole = ImageDataset(np.zeros((8, 1, 4, 4), np.uint8), np.zeros(8, int), transform=noise)
    loader = DataLoader(whole, 4, seed=0)
    seen = {x for x, _ in run(loader, epochs=3)}
    assert len(seen) == 6


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("stop", range(7))
def test_resume_at_every_batch(workers, stop):
    def make():
        return DataLoader(images(), 4, shuffle=True, seed=5, num_workers=workers)

    whole = run(make(), epochs=3)
    loader, done, state = make(), [], None
    for epoch in range(2):
        for k, (x, y) in enumerate(loader):
            done.append((x.numpy().tobytes(), y.tolist()))
            if (epoch, k + 1) == (1, stop):
                state = json.loads(json.dumps(loader.state_dict()))
                break
        if epoch == 0 and stop == 0:
            state = loader.state_dict()  # between two epochs
            break
    resumed = make()
    resumed.load_state_dict(state)
    rest = run(resumed, epochs=3 - state["epoch"])
    assert done + rest == whole


def test_resume_does_not_compute_what_was_done():
    asked = []

    class Counting(Dataset):
        def __len__(self):
            return 12

        def __getitem__(self, index):
            asked.append(index)
            return index

    loader = DataLoader(Counting(), 3)
    loader.load_state_dict({**loader.state_dict(), "position": 3})
    assert [y.tolist() for y in loader] == [[9, 10, 11]]
    assert asked == [9, 10, 11]


def test_the_seed_is_part_of_the_state():
    first = DataLoader(images(), 4, shuffle=True, seed=1)
    second = DataLoader(images(), 4, shuffle=True, seed=2)
    second.load_state_dict(first.state_dict())
    assert run(second) == run(first)


@pytest.mark.parametrize(
    "change",
    [{"batch_size": 5}, {"shuffle": False}, {"drop_last": True}, {"samples": 24}, {"position": 7}, {"epoch": -1}, {"seed": "x"}],
)
def test_state_that_does_not_fit_changes_nothing(change):
    loader = DataLoader(images(), 4, shuffle=True, seed=1)
    before = loader.state_dict()
    with pytest.raises(ValueError, match=r"the state|not the state"):
        loader.load_state_dict({**before, **change})
    with pytest.raises(ValueError, match="not the state of a DataLoader"):
        loader.load_state_dict({key: value for key, value in before.items() if key not in change})
    assert loader.state_dict() == before


def test_set_epoch():
    loader = DataLoader(images(), 4, shuffle=True, seed=1)
    epochs = [run(loader) for _ in range(3)]
    loader.set_epoch(1)
    assert run(loader) == epochs[1]
    assert loader.epoch == 2
    loader.load_state_dict({**loader.state_dict(), "epoch": 1, "position": 2})
    loader.set_epoch(1)  # a loop over epochs says so too; the loaded position stays
    assert run(loader) == epochs[1][2:]
    next(iter(loader))
    loader.set_epoch(2)  # begins again although a batch of it was handed out
    assert run(loader) == epochs[2]
    with pytest.raises(ValueError, match="epoch must be an integer of at least 0"):
        loader.set_epoch(-1)


def test_an_abandoned_pass_is_not_continued():
    loader = DataLoader(images(), 4, shuffle=True, seed=1)
    epochs = [run(loader) for _ in range(3)]
    again = DataLoader(images(), 4, shuffle=True, seed=1)
    first, second = next(iter(again)), next(iter(again))
    assert first[0].numpy().tobytes() == epochs[0][0][0]
    assert second[0].numpy().tobytes() == epochs[1][0][0]


def test_two_passes_at_once():
    loader = DataLoader(images(), 4, shuffle=True, seed=1, num_workers=1)
    epochs = [run(loader) for _ in range(2)]
    loader.set_epoch(0)
    both = list(zip(loader, loader, strict=True))
    assert [x.numpy().tobytes() for (x, _), _ in both] == [x for x, _ in epochs[0]]
    assert [x.numpy().tobytes() for _, (x, _) in both] == [x for x, _ in epochs[1]]


# ---- threads and errors -----------------------------------------------------------------------------------------------


class Broken(Dataset):
    def __len__(self):
        return 100

    def __getitem__(self, index):
        if index == 42:
            raise RuntimeError(f"sample {index} is broken")
        return index


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_exception_reaches_the_caller_at_its_batch(workers):
    batches = iter(DataLoader(Broken(), 10, num_workers=workers))
    for k in range(4):
        assert next(batches).tolist() == list(range(10 * k, 10 * k + 10))
    with pytest.raises(RuntimeError, match=r"^sample 42 is broken$"):
        next(batches)
    assert threads() == []


def test_threads_end_with_the_pass():
    loader = DataLoader(images(), 4, num_workers=3)
    for _ in loader:
        assert 1 <= len(threads()) <= 3
    assert threads() == []


def test_threads_end_when_a_pass_is_abandoned():
    loader = DataLoader(images(), 4, num_workers=3)
    for _ in loader:
        break
    assert threads() == []
    batches = iter(loader)
    next(batches)
    batches.close()
    assert threads() == []
    with pytest.raises(KeyboardInterrupt):  # noqa: PT012
        for _ in loader:
            raise KeyboardInterrupt
    assert threads() == []


def test_batches_are_prepared_ahead_but_not_too_far():
    asked = []

    class Slow(Dataset):
        def __len__(self):
            return 100

        def __getitem__(self, index):
            asked.append(index)
            return index

    batches = iter(DataLoader(Slow(), 1, num_workers=2, prefetch_factor=3))
    next(batches)
    batches.close()
    assert max(asked) <= 6


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"batch_size": 0}, ValueError, "batch_size must be at least 1, got 0"),
        ({"batch_size": 2.0}, TypeError, "batch_size must be an integer"),
        ({"batch_size": True}, TypeError, "batch_size must be an integer"),
        ({"num_workers": -1}, ValueError, "num_workers must be at least 0"),
        ({"prefetch_factor": 0}, ValueError, "prefetch_factor must be at least 1"),
        ({"seed": -1}, ValueError, "seed must be an integer of at least 0"),
        ({"seed": 1.5}, TypeError, "seed must be an integer"),
        ({"generator": 3}, TypeError, "generator must be a numpy.random.Generator, got int: or pass seed="),
        ({"seed": 1, "generator": np.random.default_rng(0)}, ValueError, "seed or generator, not both"),
        ({"transform": "flip"}, TypeError, "transform must be a function"),
        ({"batch_size": 24, "drop_last": True}, ValueError, "drop_last=True leaves no batch: 23 samples, batch_size 24"),
    ],
)
def test_wrong_arguments(options, error, match):
    with pytest.raises(error, match=match):
        DataLoader(images(), **options)


def test_what_is_no_data_set():
    with pytest.raises(TypeError, match="must have a length and samples by index, got generator"):
        DataLoader(i for i in range(3))
    with pytest.raises(ValueError, match="no samples"):
        DataLoader([])


def test_transform_that_loses_images():
    with pytest.raises(ValueError, match="the transform made 3 images of a batch of 4"):
        next(iter(DataLoader(images(), 4, transform=lambda x, rng: x[1:])))


def test_transform_of_a_dictionary():
    with pytest.raises(TypeError, match="transform needs samples that are images"):
        next(iter(DataLoader([{"x": 1}], transform=transforms.ToTensor())))
