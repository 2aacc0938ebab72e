"""Random numbers in the formats in which the weights of LPIPS are published."""

from __future__ import annotations

from pathlib import Path

import torch

_WIDTHS = {0: (64, 3, 11), 3: (192, 64, 5), 6: (384, 192, 3), 8: (256, 384, 3), 10: (256, 256, 3)}


def write_lpips(folder: Path) -> tuple[Path, Path]:
    """The files of torchvision's AlexNet and of the lpips package's heads."""
    generator = torch.Generator().manual_seed(0)
    backbone, heads = {"classifier.6.bias": torch.zeros(3)}, {}
    for number, (place, (out, inside, kernel)) in enumerate(_WIDTHS.items()):
        scale = (2 / (inside * kernel**2)) ** 0.5
        backbone[f"features.{place}.weight"] = scale * torch.randn(out, inside, kernel, kernel, generator=generator)
        backbone[f"features.{place}.bias"] = 0.1 * torch.randn(out, generator=generator)
        heads[f"lin{number}.model.1.weight"] = torch.rand(1, out, 1, 1, generator=generator)
    torch.save(backbone, folder / "alexnet.pth")
    torch.save(heads, folder / "alex.pth")
    return folder / "alexnet.pth", folder / "alex.pth"
