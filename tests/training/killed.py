"""The tiny job as a process of its own, which can be killed: ``python -m tests.training.killed '{"run_dir": ..., ...}'``.

Prints "step 5" in the middle of each step, and at the end "done" with the digest of the state. The arguments, as JSON:

    run_dir, resume   as in ``fit``
    workers           threads of the loader
    wait              after this step, wait to be killed
    die               [file name, n, moment]: SIGKILL while the file is written for the n-th time, at the moment "half written",
                      "before the rename", "after the rename" (for metrics.jsonl, which grows line by line, "half a line")
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import signal
import sys
from pathlib import Path

from minigrad.optim.lr_scheduler import OneCycleLR
from minigrad.training.run_folder import RunFolder
from minigrad.weights import atomic
from tests.training.tiny import Job


def digest(job: Job) -> str:
    return hashlib.sha256(json.dumps(job.state()).encode()).hexdigest()


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Dying(io.FileIO):
    """A file that writes half of what it is given."""

    def write(self, data) -> int:
        super().write(data[: len(data) // 2])
        die()


def die_while_writing(name: str, number: int, moment: str) -> None:
    """Prepare to die in write ``number`` of the file ``name``."""
    left = number
    real_open, real_replace, real_add = open, os.replace, RunFolder.add_metrics

    def is_it(file: str) -> bool:
        nonlocal left
        left -= file == name
        return file == name and left == 0

    def open_(path, mode):
        file = Path(path).name.removeprefix(".").rsplit(".", 2)[0]
        return Dying(path, mode) if moment == "half written" and is_it(file) else real_open(path, mode)

    def replace(source, target):
        if moment == "before the rename" and is_it(Path(target).name):
            die()
        real_replace(source, target)
        if moment == "after the rename" and is_it(Path(target).name):
            die()

    def add_metrics(self, line):
        real_add(self, line)
        if moment == "half a line" and is_it("metrics.jsonl"):
            path = self.path / "metrics.jsonl"
            os.truncate(path, path.stat().st_size - 20)
            die()

    atomic.open, os.replace, RunFolder.add_metrics = open_, replace, add_metrics


def main() -> None:
    arguments = json.loads(sys.argv[1])
    RunFolder.draw = lambda self, history: True  # matplotlib takes longer than the training
    job = Job.make(workers=arguments["workers"])
    if "die" in arguments:
        die_while_writing(*arguments["die"])
    step = OneCycleLR.step

    def counted(scheduler):
        step(scheduler)
        print("step", scheduler.last_epoch, flush=True)
        if scheduler.last_epoch == arguments.get("wait"):
            signal.pause()

    OneCycleLR.step = counted
    job.fit(run_dir=arguments["run_dir"], resume=arguments["resume"], checkpoint_every=2)
    print("done", digest(job), flush=True)


if __name__ == "__main__":
    main()
