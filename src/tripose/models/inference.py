"""A copy of a model that is made for prediction only: the same function, several times faster."""

from __future__ import annotations

import copy
import re
from itertools import pairwise
from typing import TypeVar

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from tripose.models.weights import Model

_Model = TypeVar("_Model", bound=Model)
_CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d, nn.Conv3d, nn.ConvTranspose3d)
# Layers that keep their precision: a softmax sharpens their rounding errors, which differ from cell to cell. Those of
# earlier layers are smooth, and move a peak less.
# The first layers of MoveNet: see there.
_PRECISE = re.compile(
    r"(^|\.)(final_layer|keypoint_heatmap|wide_heatmap\.1|process_features|back_layers|output_layer|confidence|refiner"
    r"|pose_corrector|encoder\.(stem|stages\.0))(\.|$)"
)


def for_inference(model: _Model, dtype: torch.dtype | None = None) -> _Model:
    """Copy a model with batch norms folded, channels last, and networks in bfloat16 where the processor has it.

    Geometry, soft-argmax and the last layers of each network keep their precision.

    Args:
        model: any; not changed.
        dtype: of the networks; None: bfloat16 where the device computes in it, else float32.

    `torch.compile` is left to the caller: nearly all time is in convolutions, which it does not change, so that on a
    CPU it costs a minute and gains nothing. Never with inductor's ``freezing``: it gives wrong numbers for ResNets.
    """
    fast: _Model = copy.deepcopy(model)
    fast.eval().requires_grad_(False)
    for module in list(fast.modules()):
        _fold_children(module)
    if dtype is None:
        dtype = torch.bfloat16 if has_bfloat16(next(model.parameters()).device) else torch.float32
    for name, module in fast.named_modules():
        if isinstance(module, (*_CONVOLUTIONS, nn.Linear)):
            if not _PRECISE.search(name):
                module.to(dtype)
            if module.weight.ndim > 2:
                order = torch.channels_last if module.weight.ndim == 4 else torch.channels_last_3d
                module.weight.data = module.weight.data.contiguous(memory_format=order)
    return fast


def has_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies matrices in bfloat16, rather than imitating it."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _fold_children(module: nn.Module) -> None:
    """Fold every batch norm that directly follows a convolution among a module's children."""
    children = list(module.named_children())
    for (name, convolution), (next_name, norm) in pairwise(children):
        if isinstance(convolution, _CONVOLUTIONS) and isinstance(norm, nn.BatchNorm2d | nn.BatchNorm3d):
            transposed = isinstance(convolution, nn.ConvTranspose2d | nn.ConvTranspose3d)
            setattr(module, name, fuse_conv_bn_eval(convolution, norm, transpose=transposed))
            setattr(module, next_name, nn.Identity())
