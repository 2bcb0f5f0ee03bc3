"""The names of NumPy's functions and methods that the stand-in has; CuPy 14 has each of them."""

from __future__ import annotations

__all__ = ["CREATION", "FUNCTIONS", "METHODS", "OPERATORS", "SAME", "VIEWING", "VIEWS"]


def _words(text: str) -> list[str]:
    return text.split()


# The functions that minigrad may call on arrays.
FUNCTIONS = _words("""
abs absolute add all allclose any arange arccos arccosh arcsin arcsinh arctan arctan2 arctanh argmax argmin argsort around
array_equal atleast_1d bincount bitwise_and bitwise_or bitwise_xor broadcast_arrays broadcast_to cbrt ceil clip concatenate
copysign cos cosh count_nonzero cumprod cumsum diag diagonal diff divide dot einsum equal exp exp2 expand_dims expm1 flip floor
floor_divide fmax fmin fmod greater greater_equal hypot isfinite isinf isnan isclose kron less less_equal linspace log log10
log1p log2 logaddexp logical_and logical_not logical_or logical_xor matmul max maximum mean median min minimum mod moveaxis
multiply nan_to_num negative nonzero not_equal pad percentile positive power prod quantile reciprocal remainder repeat
roll rint searchsorted sign signbit sin sinh sort split sqrt square squeeze stack std subtract sum swapaxes take
take_along_axis tan tanh tensordot tile trace transpose tril triu true_divide trunc unique var vdot where invert left_shift
right_shift outer heaviside ldexp round
""")
CREATION = _words("zeros ones full eye identity zeros_like ones_like full_like")
SAME = _words("newaxis pi e inf nan float16 float32 float64 int8 int16 int32 int64 uint8 uint16 uint32 uint64 bool_ dtype")
SAME += _words("can_cast promote_types finfo iinfo errstate")

# Those of them whose results are views of their first argument.
VIEWS = _words("broadcast_arrays broadcast_to diagonal expand_dims flip moveaxis split squeeze swapaxes transpose atleast_1d")

METHODS = _words("""
all any argmax argmin argsort astype clip copy cumprod cumsum diagonal dot fill flatten max mean min nonzero prod ravel repeat
reshape round searchsorted sort squeeze std sum swapaxes take trace transpose var view
""")
VIEWING = _words("diagonal ravel reshape squeeze swapaxes transpose view")  # whose results may be views
OPERATORS = _words("""
add sub mul truediv floordiv mod pow matmul and or xor lshift rshift radd rsub rmul rtruediv rfloordiv rmod rpow rmatmul rand ror
rxor lt le gt ge eq ne neg pos abs invert iadd isub imul itruediv ifloordiv imod ipow iand ior ixor
""")
