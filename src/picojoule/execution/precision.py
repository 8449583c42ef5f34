"""Which arithmetic is fast where."""

import torch


def fast_precision(device: torch.device) -> str:
    """ "bf16" where the device multiplies bfloat16 matrices in hardware (AMX on CPUs, bf16 on CUDA), else "fp32"."""
    if device.type == "cpu":
        return "bf16" if torch.cpu._is_amx_tile_supported() else "fp32"
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return "fp32"
