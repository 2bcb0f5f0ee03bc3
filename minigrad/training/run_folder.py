"""The folder of a run: what it was, how it went, and where it can be continued.

config.json        the options, versions and machine
metrics.jsonl      one line of JSON for each epoch
curves.png         loss and accuracy
best.safetensors   the weights with the best test accuracy
last.safetensors   everything that is needed to continue: weights, optimizer, schedule, random numbers, place in the data
"""

from __future__ import annotations

import contextlib
import json
import math
import os
from pathlib import Path
from typing import Any

from minigrad.training.curves import draw_curves
from minigrad.training.environment import environment
from minigrad.weights import CheckpointError, load, save
from minigrad.weights.atomic import remove_leftovers, write_atomically

__all__ = ["RunFolder"]


class RunFolder:
    """The files of one run under ``path``. Each is replaced in one step, so that it is whole whenever the run ends."""

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)
        self.config: dict[str, Any] = {}

    @property
    def last(self) -> Path:
        return self.path / "last.safetensors"

    @property
    def best(self) -> Path:
        return self.path / "best.safetensors"

    @property
    def curves(self) -> Path:
        return self.path / "curves.png"

    @classmethod
    def create(cls, path: str | os.PathLike, config: dict[str, Any], state: dict[str, Any]) -> RunFolder:
        """A new folder with ``config.json``, the checkpoint ``state`` and no metrics.

        Raises FileExistsError if there is something at ``path``, OSError if it cannot be written, TypeError or ValueError if
        ``config`` or ``state`` holds what cannot be saved; nothing is left behind then.
        """
        run = cls(path)
        if run.path.exists() and not run.path.is_dir():
            raise FileExistsError(f"{run.path} is a file: choose another folder for the run")
        if run.path.is_dir() and any(run.path.iterdir()):
            raise FileExistsError(
                f"the folder {run.path} is not empty: choose another one, or continue the run in it with resume"
            )
        run.config = config
        text = _config_text(config)
        missing = [folder for folder in (run.path, *run.path.parents) if not folder.exists()]
        try:
            run.path.mkdir(parents=True, exist_ok=True)
            write_atomically(run.path / "config.json", text.encode())
            run.write_metrics([])
            run.save_last(state)  # at last: where it is, the run can be continued
        except BaseException as error:
            run._remove(missing)
            if isinstance(error, OSError):
                reason = os.strerror(error.errno or 0)
                raise OSError(error.errno, f"cannot write to the folder {run.path}: {reason}") from None
            raise
        return run

    def _remove(self, folders: list[Path]) -> None:
        """Take back ``create``, which has made ``folders``."""
        for name in ("config.json", "metrics.jsonl", "last.safetensors"):
            with contextlib.suppress(OSError):
                (self.path / name).unlink()
        for folder in folders:
            with contextlib.suppress(OSError):
                folder.rmdir()

    @classmethod
    def open(cls, path: str | os.PathLike) -> RunFolder:
        """The folder of an earlier run. Raises FileNotFoundError or CheckpointError if it is none."""
        run = cls(path)
        if not run.path.is_dir():
            raise FileNotFoundError(f"there is no folder {run.path}")
        try:
            config = json.loads((run.path / "config.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise CheckpointError(f"{run.path} is not the folder of a run: it has no config.json") from None
        except ValueError:
            raise CheckpointError(f"{run.path / 'config.json'} is damaged: it is not JSON") from None
        if not isinstance(config, dict) or not run.last.is_file():
            raise CheckpointError(f"{run.path} is not the folder of a run that can be continued: it has no last.safetensors")
        config.pop("environment", None)
        run.config = config
        remove_leftovers(run.path)
        return run

    def load_last(self) -> dict[str, Any]:
        """The state that ``save_last`` wrote. Raises CheckpointError if it is damaged or something else."""
        state = load(self.last)
        if not isinstance(state, dict) or not {"model", "optimizer", "scheduler", "rng", "progress"} <= state.keys():
            raise CheckpointError(f"{self.last} is a file of weights, not a checkpoint of a run")
        return state

    def save_last(self, state: dict[str, Any]) -> None:
        """Replace the checkpoint of the whole run."""
        save(state, self.last, {"config": self.config})

    def save_best(self, weights: dict[str, Any], line: dict[str, Any]) -> None:
        """Replace the best weights; ``line``: the metrics of their epoch."""
        save(weights, self.best, {"config": self.config, "metrics": line})

    def write_metrics(self, history: list[dict[str, Any]]) -> None:
        """Make ``metrics.jsonl`` hold exactly the lines of ``history``."""
        write_atomically(self.path / "metrics.jsonl", "".join(map(_json_line, history)).encode())

    def add_metrics(self, line: dict[str, Any]) -> None:
        """One more line of ``metrics.jsonl``, on its way to the disk when this returns."""
        with open(self.path / "metrics.jsonl", "a", encoding="utf-8") as file:
            file.write(_json_line(line))

    def draw(self, history: list[dict[str, Any]]) -> bool:
        """Draw ``curves.png``; False if matplotlib is not installed."""
        return draw_curves(history, self.curves, self.config.get("title", ""))


def _config_text(config: dict[str, Any]) -> str:
    try:
        return json.dumps({**config, "environment": environment()}, indent=2, allow_nan=False) + "\n"
    except (TypeError, ValueError) as error:
        raise type(error)(f"config must be a dictionary of what JSON can hold: {error}") from None


def _json_line(line: dict[str, Any]) -> str:
    """One line of strict JSON, which has no NaN and no infinity: they become null."""
    plain = {key: None if isinstance(v, float) and not math.isfinite(v) else v for key, v in line.items()}
    return json.dumps(plain, allow_nan=False) + "\n"
