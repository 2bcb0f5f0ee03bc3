"""The CUDA kernels: CuPy arrays, and CUDA C compiled at run time."""

from __future__ import annotations

from ._algorithms import algorithm as algorithm  # the controls: "as" exports a name that is not a kernel
from ._algorithms import allow_tf32 as allow_tf32
from ._capture import Capture as Capture
from ._capture import before_replay as before_replay
from ._capture import is_capturing as is_capturing
from ._capture import number_of_replay as number_of_replay
from ._capture import rehearsal as rehearsal
from ._capture import set_capture as set_capture
from ._memory import is_alone as is_alone
from .convolution import (
    col2im,
    conv2d_backward_bias,
    conv2d_backward_input,
    conv2d_backward_weight,
    conv2d_forward,
    conv_transpose2d_backward_input,
    conv_transpose2d_backward_weight,
    conv_transpose2d_forward,
    im2col,
)
from .dropout import dropout_noise
from .elementwise import (
    add,
    relu_backward,
    relu_forward,
)
from .gathering import sums_by_position
from .loss import (
    check_labels,
    cross_entropy_backward,
    cross_entropy_forward,
)
from .normalization import (
    local_response_norm_backward,
    local_response_norm_forward,
    moments,
    normalize_backward,
    normalize_forward,
)
from .optimizer import (
    sgd_momentum,
    sgd_momentum_all,
)
from .pooling import (
    adaptive_avg_pool2d_backward,
    adaptive_avg_pool2d_forward,
    adaptive_max_pool2d_backward,
    adaptive_max_pool2d_forward,
    avg_pool2d_backward,
    avg_pool2d_forward,
    max_pool2d_backward,
    max_pool2d_forward,
)
from .product import matmul
from .resize import (
    upsample_bilinear2d_backward,
    upsample_bilinear2d_forward,
    upsample_nearest2d_backward,
    upsample_nearest2d_forward,
)
from .scaling import scale_all
from .statistics import normalization_constants, update_running

__all__ = [
    "col2im",
    "conv2d_backward_bias",
    "conv2d_backward_input",
    "conv2d_backward_weight",
    "conv2d_forward",
    "conv_transpose2d_backward_input",
    "conv_transpose2d_backward_weight",
    "conv_transpose2d_forward",
    "im2col",
    "dropout_noise",
    "add",
    "relu_backward",
    "relu_forward",
    "sums_by_position",
    "check_labels",
    "cross_entropy_backward",
    "cross_entropy_forward",
    "local_response_norm_backward",
    "local_response_norm_forward",
    "moments",
    "normalize_backward",
    "normalize_forward",
    "sgd_momentum",
    "sgd_momentum_all",
    "adaptive_avg_pool2d_backward",
    "adaptive_avg_pool2d_forward",
    "adaptive_max_pool2d_backward",
    "adaptive_max_pool2d_forward",
    "avg_pool2d_backward",
    "avg_pool2d_forward",
    "max_pool2d_backward",
    "max_pool2d_forward",
    "matmul",
    "upsample_bilinear2d_backward",
    "upsample_bilinear2d_forward",
    "upsample_nearest2d_backward",
    "upsample_nearest2d_forward",
    "scale_all",
    "normalization_constants",
    "update_running",
]
