from __future__ import annotations
import numpy as np
from ..layout import nhwc
from . import _conv_columns
from ._sweep import forward_sweep, backward_sweeps, window_part

def _g(weight,g): 
    return weight.reshape(g.groups, g.o//g.groups, g.c//g.groups, g.kh, g.kw)

def conv2d_forward(x, weight, bias, g):
    y=np.empty((g.n,g.oh,g.ow,g.o),x.dtype)
    _conv_columns.sweep(nhwc(x), _g(weight,g).transpose(0,2,1,3,4), bias, y, forward_sweep(g))
    return y.transpose(0,3,1,2)
def conv2d_backward_input(gy, weight, g):
    gx=np.empty((g.n,g.h,g.w,g.c),gy.dtype)
    gyl=nhwc(gy)
    for s,rows,columns in backward_sweeps(g):
        _conv_columns.sweep(gyl, _g(weight,g)[:,:,:,rows][:,:,:,:,columns], None, gx, s)
    return gx.transpose(0,3,1,2)
def conv2d_backward_weight(gy, x, g):
    return _conv_columns.weight_gradient(nhwc(gy),nhwc(x),g.groups,forward_sweep(g))
