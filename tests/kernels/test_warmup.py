"""After a warm-up nothing is compiled any more."""

from __future__ import annotations

import json
import sys

import numpy as np

from minigrad.kernels import cpu
from tests.kernels.rules import all_kernels
from tests.kernels.small import finish, start

STEP = """
import json
import numpy as np
import minigrad as mg
import minigrad.nn.functional as F
from minigrad import models, optim
from minigrad.kernels import cpu

for name, shape in (("lenet5", (1, 32, 32)), ("cifar_resnet14", (3, 32, 32))):
    for batch in (1, 32):
        model = models.create(name)
        optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        x = mg.tensor(np.random.default_rng(0).standard_normal((batch, *shape)), dtype=mg.float32)
        F.cross_entropy(model(x), mg.zeros(batch, dtype=mg.int64)).backward()
        optimizer.step()
stats = cpu.compilation_stats()
print(json.dumps([stats.compiled, stats.loaded]))
"""


def test_a_training_step_compiles_nothing_after_it():
    """In the cache folder of all tests, so that what they have compiled need not be compiled again."""
    without_build, _ = finish(start("-m", "tests.kernels.test_warmup"), timeout=600)
    assert without_build == []
    compiled, loaded = finish(start("-c", STEP))[0]
    assert compiled == 0
    assert loaded > 30


def test_the_calls_are_counted():
    steps = list(cpu.warmup("float32"))
    total = steps[-1][1]
    assert [(done, of) for done, of, _ in steps] == [(k, total) for k in range(total + 1)]
    assert all(name for _, _, name in steps[:-1])
    assert np.unique([name for _, _, name in steps]).size > 15


if __name__ == "__main__":  # prints which kernels the warm-up has left out
    for _ in cpu.warmup():
        pass
    builds = [(f.__module__, f.__name__, which, getattr(f, which)) for f in all_kernels() for which in ("serial", "parallel")]
    json.dump([(module, name, which) for module, name, which, build in builds if not build.overloads], sys.stdout)
