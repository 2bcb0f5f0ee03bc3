"""Softmax and cross-entropy in one. See ``kernels/reference/loss.py`` for the formulas.

A row is the work of a few neighbouring threads, of a warp or of a block, by the number of classes.
"""

from __future__ import annotations

import cupy
import numpy as np

from ._capture import fault, faults_are_looked_for, is_capturing
from ._compiler import FLOATS, THREADS, Kernel, blocks, c_type, on_device, struct

__all__ = ["check_labels", "cross_entropy_backward", "cross_entropy_forward"]

TEAMS = {4: 16, 32: 1024, THREADS: None}  # threads of a row: up to how many classes

_forward = Kernel("loss.cu", "cross_entropy", [(t, team) for t in FLOATS for team in TEAMS])
_backward = Kernel("loss.cu", "cross_entropy_backward", [(t, team) for t in FLOATS for team in TEAMS])
_find_wrong_label = Kernel("loss.cu", "find_wrong_label", [()])


@on_device
def cross_entropy_forward(
    logits: cupy.ndarray, target: cupy.ndarray, weight: cupy.ndarray | None, ignore_index: int, label_smoothing: float
) -> tuple[cupy.ndarray, cupy.ndarray]:
    """See reference. A target that is no class has the loss NaN."""
    logits = cupy.ascontiguousarray(logits)
    m, k = logits.shape
    losses, logsumexp = cupy.empty(m, logits.dtype), cupy.empty(m, np.float64)
    arrays = logits, _labels(target), _weight(weight, logits), losses, logsumexp
    _launch(_forward, arrays, m, k, ignore_index, label_smoothing)
    return losses, logsumexp


@on_device
def cross_entropy_backward(
    glosses: cupy.ndarray,
    logits: cupy.ndarray,
    logsumexp: cupy.ndarray,
    target: cupy.ndarray,
    weight: cupy.ndarray | None,
    ignore_index: int,
    label_smoothing: float,
) -> cupy.ndarray:
    """See reference. A target that is no class has a gradient of NaN."""
    glosses, logits, logsumexp = (cupy.ascontiguousarray(a) for a in (glosses, logits, logsumexp))
    glogits = cupy.empty(logits.shape, logits.dtype)
    arrays = glosses, logits, logsumexp, _labels(target), _weight(weight, logits), glogits
    _launch(_backward, arrays, *logits.shape, ignore_index, label_smoothing)
    return glogits


@on_device
def check_labels(target: cupy.ndarray, classes: int, ignore_index: int) -> bool:
    """See reference. The host waits for one number. While a graph is captured it cannot: the graph's flag says it later."""
    if not target.size or (not is_capturing() and cupy.cuda.get_current_stream().is_capturing()):
        return True  # a capture that is not ours has no flag
    wrong = fault() if is_capturing() else cupy.zeros(1, np.int32)
    values = _labels(target), wrong, np.int64(target.size), np.int64(classes), np.int64(ignore_index)
    _find_wrong_label((), min(blocks(target.size), 1024), THREADS, values)
    if is_capturing():
        faults_are_looked_for()
        return True
    return not wrong.item()


def _launch(kernel: Kernel, arrays: tuple, m: int, k: int, ignore_index: int, smoothing: float) -> None:
    team = next(team for team, most in TEAMS.items() if most is None or k <= most)
    values = (*arrays, struct(m, k), np.int64(ignore_index), np.float64(smoothing))
    kernel((c_type(arrays[0].dtype), team), blocks(m * team), THREADS, values)


def _labels(target: cupy.ndarray) -> cupy.ndarray:
    return cupy.ascontiguousarray(target, np.int64)


def _weight(weight: cupy.ndarray | None, logits: cupy.ndarray) -> cupy.ndarray | None:
    return None if weight is None else cupy.ascontiguousarray(weight, logits.dtype)
