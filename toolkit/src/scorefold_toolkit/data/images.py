"""Image files as tensors."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from scorefold.errors import DataError
from scorefold.interfaces import DataSource
from scorefold_toolkit.libraries import library

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

_FORMATS = ("JPEG", "PNG", "PPM", "BMP", "TIFF", "WEBP")
"""Pillow's names of what may be decoded. A file's content chooses among these only: EPS would start Ghostscript."""


def read_image(
    path: Path,
    content: bytes | None = None,
    *,
    size: int | None,
    crop: bool,
    grey: bool,
    box: tuple[int, int, int, int] | None = None,
) -> Tensor:
    """An image file as uint8 (C, H, W), upright, with one channel if ``grey`` and three otherwise.

    ``content`` are its bytes where it is no file of its own; ``path`` is then its name in errors.
    ``size`` resizes to size x size by bicubic interpolation; with ``crop``, the largest centred square of the image is
    kept, otherwise the whole image is stretched. ``box`` (left, top, right, bottom), right and bottom left out, is what
    of an upright image counts at all. Raises ``DataError``, which names the file, for one that isn't a JPEG,
    PNG, PPM, BMP, TIFF or WebP image, is damaged, has more than 8 bits a channel, several frames, or pixels that can be
    seen through, for one that ends before the box, and ``ConfigError`` where Pillow is missing.
    """
    with library("an image file", "scorefold-toolkit[images]"):
        from PIL import Image, ImageOps, UnidentifiedImageError
        from torchvision.transforms.functional import pil_to_tensor
    try:
        with Image.open(path if content is None else BytesIO(content), formats=_FORMATS) as opened:
            _refuse_deep(opened, path)
            _refuse_frames(opened, path)
            image: Any = ImageOps.exif_transpose(_opaque(opened, path)).convert("L" if grey else "RGB")
    except UnidentifiedImageError as error:
        raise DataError(
            f"{path} can't be read as an image; expected a JPEG, PNG, PPM, BMP, TIFF or WebP file",
            hint="repair, convert or remove the file",
        ) from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{path} can't be read as an image: {error}", hint="repair or remove the file") from error
    if box is not None:
        if box[2] > image.width or box[3] > image.height:
            raise DataError(
                f"{path} has {image.width} x {image.height} pixels, and the box {list(box)} reaches beyond them",
                hint="give a box (left, top, right, bottom) that lies in every image, or leave it out",
            )
        image = image.crop(box)
    if size is not None:
        shape = (size, size)
        way = Image.Resampling.BICUBIC
        image = ImageOps.fit(image, shape, way) if crop else image.resize(shape, way)
    pixels: Tensor = pil_to_tensor(image)
    return pixels


def image_size(path: Path, content: bytes | None = None) -> tuple[int, int] | None:
    """Width and height of an image file from its first bytes, before it is turned upright; None where it can't be
    read."""
    from PIL import Image

    try:
        with Image.open(path if content is None else BytesIO(content), formats=_FORMATS) as opened:
            return opened.size
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None


def _refuse_deep(image: ImageFile, path: Path) -> None:
    """Raise ``DataError`` for more than 8 bits a channel; Pillow would cut colour images to 8 silently."""
    raw = image.tile[0][3] if image.tile else ""
    deep = raw[1] > 255 if isinstance(raw, tuple) and image.format == "PPM" else ";16" in str(raw)
    if deep or image.mode.startswith(("I", "F")):
        raise DataError(
            f"{path} has more than 8 bits a channel ({image.mode}); expected 8",
            hint="convert it to 8 bits, or read it as an array with data:array",
        )


def _refuse_frames(image: ImageFile, path: Path) -> None:
    """Raise ``DataError`` for an animation or several pages; Pillow would read the first silently.

    Cameras put a preview or a depth map behind the photograph in a JPEG (MPO), which is the first.
    """
    if image.format != "MPO" and (count := getattr(image, "n_frames", 1)) > 1:
        raise DataError(f"{path} holds {count} frames; expected one image a file", hint="save each frame as a file")


def _opaque(image: ImageFile, path: Path) -> Any:
    """An image without pixels that can be seen through, whose hidden colours Pillow would show. Raises ``DataError``
    where some can."""
    if not image.has_transparency_data:
        return image
    found: Any = image.convert("RGBA")
    if found.getchannel("A").getextrema()[0] < 255:
        raise DataError(
            f"{path} has pixels that can be seen through ({image.mode}), and what lies behind them is not known",
            hint="put it on a background first, for example with ImageMagick: mogrify -background white -flatten",
        )
    return found


FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
"""Folder of the four files in Debian's package dataset-fashion-mnist."""


def fashion_mnist(host: Any, **settings: Any) -> DataSource | None:
    """Fashion-MNIST as (1, 28, 28) in [0, 1], or by ``settings`` of ``data:fashion-mnist``; None where it is absent.

    The validation split is the same for all seeds.

    >>> from scorefold_registry import Host
    >>> source = fashion_mnist(Host.discover(), limit=10)
    >>> source is None or source.event_shape == (1, 28, 28)
    True
    """
    if not FASHION_MNIST.is_dir():
        return None
    made: DataSource = host.create("data:fashion-mnist", {"root": str(FASHION_MNIST), "seed": 0, **settings})
    return made
