"""Reading image files: what they become, and which are refused."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from scorefold.errors import DataError
from scorefold_toolkit.data.images import read_image


def save(path: Path, pixels: np.ndarray, kind: str = "PNG") -> Path:
    Image.fromarray(pixels).save(path, format=kind)
    return path


def deep_png(path: Path, pixels: np.ndarray) -> Path:
    """RGB pixels (H, W, 3) of 16 bits as a PNG, which Pillow reads and doesn't write."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    height, width = pixels.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    parts = (b"\x89PNG\r\n\x1a\n", chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b""))
    path.write_bytes(b"".join(parts))
    return path


def test_pixels_are_kept_to_the_byte(tmp_path: Path) -> None:
    pixels = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    image = read_image(save(tmp_path / "a.png", pixels), size=None, crop=False, grey=False)
    assert torch.equal(image, torch.from_numpy(pixels).permute(2, 0, 1))


def test_size_crops_or_stretches(tmp_path: Path) -> None:
    """An image whose outer thirds are white: a centred crop leaves black, stretching keeps a third of it."""
    pixels = np.full((10, 30), 255, dtype=np.uint8)
    pixels[:, 10:20] = 0
    path = save(tmp_path / "a.png", pixels)
    assert read_image(path, size=10, crop=True, grey=True).float().mean() < 1
    assert abs(read_image(path, size=10, crop=False, grey=True).float().mean() / 255 - 2 / 3) < 0.02


def test_a_jpeg_with_another_suffix_is_read(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", np.full((8, 8, 3), 100, dtype=np.uint8), "JPEG")
    assert abs(int(read_image(path, size=None, crop=False, grey=False)[0, 0, 0]) - 100) <= 2


def test_content_cannot_choose_ghostscript(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import EpsImagePlugin

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *_, **__: pytest.fail("Ghostscript was started"))
    path = save(tmp_path / "a.png", np.full((8, 8), 100, dtype=np.uint8), "EPS")
    with pytest.raises(DataError, match=r"a\.png can't be read as an image; expected a JPEG, PNG"):
        read_image(path, size=None, crop=False, grey=True)


def test_more_than_eight_bits_are_refused(tmp_path: Path) -> None:
    deep = np.full((4, 4), 30_000, dtype=np.uint16)
    binary = deep.repeat(3, axis=1).reshape(4, 4, 3)
    (tmp_path / "a.ppm").write_bytes(b"P6\n4 4\n65535\n" + binary.astype(">u2").tobytes())
    for path in (save(tmp_path / "grey.png", deep), deep_png(tmp_path / "colour.png", binary), tmp_path / "a.ppm"):
        with pytest.raises(DataError, match="more than 8 bits a channel"):
            read_image(path, size=None, crop=False, grey=False)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_animations_and_pages_are_refused(tmp_path: Path, kind: str) -> None:
    frames = [Image.fromarray(np.full((8, 8, 3), value, dtype=np.uint8)) for value in (0, 200)]
    path = tmp_path / "a.png"
    frames[0].save(path, format=kind, save_all=True, append_images=frames[1:])
    with pytest.raises(DataError, match=r"a\.png holds 2 frames; expected one image a file"):
        read_image(path, size=None, crop=False, grey=False)


@pytest.mark.parametrize("mode", ["LA", "RGBA", "P"])
def test_transparent_pixels_are_refused_and_opaque_ones_read(tmp_path: Path, mode: str) -> None:
    """Grey with alpha, colour with alpha, and a palette with a transparent entry."""
    path = tmp_path / "a.png"
    for opacity in (255, 0):
        image = Image.new("RGBA", (8, 8), (10, 10, 10, 255))
        image.putpixel((0, 0), (250, 250, 250, opacity))
        image.convert(mode).save(path, format="PNG")
        if opacity == 255:
            assert int(read_image(path, size=None, crop=False, grey=True).max()) == 250
            continue
        with pytest.raises(DataError, match="can be seen through") as refused:
            read_image(path, size=None, crop=False, grey=True)
        assert "-flatten" in str(refused.value)


def test_a_photograph_with_a_preview_is_read(tmp_path: Path) -> None:
    photograph, preview = (Image.fromarray(np.full((side, side, 3), side, dtype=np.uint8)) for side in (32, 8))
    photograph.save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=[preview])
    assert read_image(tmp_path / "a.jpg", size=None, crop=False, grey=False).shape == (3, 32, 32)
