"""Settings of the data sources. No torch here."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from pydantic.config import JsonDict

from scorefold.config import Config
from scorefold_toolkit.config.common import FRACTIONS, FilePath, Fractions, KeptClasses, Points, Seed
from scorefold_toolkit.config.operators import BoxDownsampleConfig, OperatorConfig


def _interval(value: tuple[float, float]) -> tuple[float, float]:
    if not -math.inf < value[0] < value[1] < math.inf:
        raise ValueError(f"the range is {value}; expected finite (low, high) with low below high")
    return value


Scale = Annotated[
    Literal["none", "table", "columns", "robust"] | None,
    Field(
        description="table centres each column and divides all by one number, their common deviation; columns divides "
        "each column by its own deviation, robust by the deviation that its quartiles show, about its median; none "
        "leaves the units. "
        "Null is none that nobody chose: where the columns' deviations differ more than tenfold it gives a warning, "
        "and a dimension that hangs on units is withheld. Measured on the training split"
    ),
]

Limit = Annotated[int | None, Field(ge=1, description="Largest number of points, drawn by the seed; null for all")]
Range = Annotated[
    tuple[float, float],
    AfterValidator(_interval),
    Field(description="Values of the smallest and the largest raw value"),
]


def _inside(box: tuple[int, int, int, int] | None) -> tuple[int, int, int, int] | None:
    if box is not None and not (0 <= box[0] < box[2] and 0 <= box[1] < box[3]):
        raise ValueError(
            f"the box is {list(box)}; expected [left, top, right, bottom] from 0, right of left, below top"
        )
    return box


ImageBox = Annotated[
    tuple[int, int, int, int] | None,
    AfterValidator(_inside),
    Field(
        description="The part of every image that counts, before any resizing: [left, top, right, bottom] in pixels, "
        "right and bottom left out; null for all"
    ),
]
Memory = Annotated[
    float,
    Field(ge=0, description="Largest size in MiB that is kept in memory; larger data are decoded as they are read"),
]
Workers = Annotated[int, Field(ge=0, description="Threads that decode ahead when data are not kept in memory")]
ClassCondition = Annotated[
    Literal["label"] | None, Field(description="'label' makes the class the condition; null for no condition")
]
OwnValidation = Annotated[
    float, Field(ge=0, lt=1, description="Share of the published training split that is held out for validation")
]


Size = Annotated[
    int | None,
    Field(
        ge=1,
        description="Height and width in pixels, by bicubic interpolation that smooths when it shrinks (antialiased); "
        "null keeps the published size",
    ),
]


def _as_text(value: object) -> object:
    """A number as text, as it may stand in a file: YAML and Python read -999 as a number."""
    return str(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else value


Gap = Annotated[str, BeforeValidator(_as_text, json_schema_input_type=str | float)]


class DigitsConfig(Config):
    """scikit-learn's handwritten digits (1,797 images of 8 x 8 pixels with 17 grey levels)."""

    flatten: bool = Field(False, description="Events are vectors (64) instead of images (1, 8, 8)")
    range: Range = (0.0, 1.0)
    condition: ClassCondition = None
    digits: tuple[Annotated[int, Field(ge=0, le=9)], ...] | None = Field(
        None, description="Only these digits; null for all"
    )
    fractions: Fractions = FRACTIONS
    limit: Limit = None
    seed: Seed = None


_CSV: JsonDict = {"formats": [".csv", ".tsv"]}
_TABLES: JsonDict = {"formats": [".csv", ".tsv", ".parquet", "datasets"]}
_ARRAYS: JsonDict = {"formats": [".npz", "zarr"]}
_NAMED: JsonDict = {"formats": [".csv", ".tsv", ".parquet", "datasets", ".npz", "zarr"]}
"""The formats in which a setting means something: endings of files, and folders of Zarr and of Hugging Face."""


class TableConfig(Config):
    """Settings with which files of numbers are read, one row after the other."""

    path: FilePath = Field(
        description="A file (.npy, .npz, .csv, .parquet), npy or parquet files by a pattern (shards/*.npy, "
        "part-{000..011}.parquet), a Zarr folder, or a folder of Hugging Face's save_to_disk",
    )
    key: str | None = Field(
        None,
        description="npz and Zarr group: the array with the points; null if only one is left",
        json_schema_extra=_ARRAYS,
    )
    columns: tuple[str, ...] | None = Field(
        None,
        description="csv, parquet and saved datasets: the columns that are coordinates, or with a minus before each "
        "those that are not; null for all that have no other use",
        json_schema_extra=_TABLES,
    )
    header: bool | None = Field(
        None, description="csv: whether the first line names the columns; null looks at it", json_schema_extra=_CSV
    )
    delimiter: str | None = Field(
        None,
        min_length=1,
        max_length=1,
        description="csv: the delimiter of columns; null detects , ; tab or |",
        json_schema_extra=_CSV,
    )
    decimal: Literal[".", ","] | None = Field(
        None, description="csv: the decimal mark; null detects it in the first thousand lines", json_schema_extra=_CSV
    )
    thousands: Literal[",", ".", " "] | None = Field(
        None,
        description="csv: what is between thousands; null looks, and takes what can be nothing else (2,987.12)",
        json_schema_extra=_CSV,
    )
    gaps: tuple[Gap, ...] = Field(
        (),
        description="csv: cells that stand for a missing value, such as '<0.1', '-' or -999, a number however it is "
        "written (-999.0); 'n/a' and 'NA' always do",
        json_schema_extra=_CSV,
    )
    missing: Literal["refuse", "drop"] = Field(
        "refuse", description="Rows with an empty field, NaN or infinity: refuse the file, or drop these rows"
    )


class ArrayConfig(TableConfig):
    """Points in files, one a row: npy, npz, csv, parquet, a Zarr array or a folder saved by Hugging Face's datasets."""

    label: str | None = Field(
        None,
        description="The column (csv, parquet, saved dataset) or array (npz, Zarr) with the class of each point",
        json_schema_extra=_NAMED,
    )
    condition: tuple[str, ...] = Field(
        (),
        description="Columns (csv, parquet, saved dataset) or one array (npz, Zarr) that are the condition",
        json_schema_extra=_NAMED,
    )
    names: str | None = Field(
        None,
        description="csv, parquet and saved datasets: the column that names the rows in answers; no coordinate",
        json_schema_extra=_TABLES,
    )
    event_shape: tuple[Annotated[int, Field(ge=1)], ...] | None = Field(
        None, min_length=1, description="Reshape every row to this, such as [1, 28, 28]; null keeps it as it is"
    )
    scale: Scale = None
    duplicates: Literal["keep", "drop"] = Field(
        "keep",
        description="Rows that repeat an earlier point and its condition: keep them with a warning, or drop them",
    )
    low: float | None = Field(
        None, allow_inf_nan=False, description="Smallest value that a coordinate can take, in the file's units"
    )
    high: float | None = Field(
        None, allow_inf_nan=False, description="Largest value that a coordinate can take, in the file's units"
    )
    levels: int | None = Field(
        None, ge=2, description="Number of values, equally spaced from low to high, of discrete data"
    )
    fractions: Fractions = FRACTIONS
    limit: Limit = None
    seed: Seed = None
    memory: Memory = 1024.0
    workers: Workers = 2

    @model_validator(mode="after")
    def _bounds(self) -> ArrayConfig:
        if self.scale in ("columns", "robust") and not (self.low is None and self.high is None):
            raise ValueError(
                f"scale is {self.scale}, which gives each column a unit of its own, and low and high bound all columns "
                "alike: take scale: table, or leave low and high out"
            )
        if self.scale in ("columns", "robust") and len(self.event_shape or (1,)) > 1:
            raise ValueError(f"scale is {self.scale}, which is for columns of vectors, and events have several axes")
        if self.low is not None and self.high is not None and not self.low < self.high:
            raise ValueError(f"low is {self.low} and high {self.high}; low must be below high")
        if self.levels is not None and (self.low is None or self.high is None):
            raise ValueError("levels needs low and high")
        return self


class ImagesConfig(Config):
    """Images in a folder or one sub-folder a class, in tar files, or in a folder saved by Hugging Face's datasets."""

    root: FilePath = Field(
        description="The folder with the images, or with one sub-folder a class; tar files of images (and .cls files "
        "with their classes), by a pattern such as shards/*.tar or part-{000..011}.tar; or the folder of a dataset "
        "that was saved by save_to_disk",
    )
    size: int | None = Field(None, ge=1, description="Height and width in pixels; null where all images have one size")
    crop: bool = Field(True, description="Keep the centre square when resizing; false squeezes the whole image")
    box: ImageBox = None
    grey: bool = Field(False, description="One grey channel instead of three colours")
    damaged: Literal["refuse", "skip"] = Field(
        "refuse",
        description="Images that can't be read: name all of them in an error, or leave them out with a warning",
    )
    classes: KeptClasses = None
    range: Range = (0.0, 1.0)
    condition: ClassCondition = None
    fractions: Fractions = FRACTIONS
    limit: Limit = None
    seed: Seed = None
    memory: Memory = 1024.0
    workers: Workers = 2


class ImagePairsConfig(Config):
    """Pairs of images, A and B, of one size."""

    root: FilePath = Field(description="The folder with the pairs, in it or in sub-folders")
    layout: Literal["side-by-side", "folders"] = Field(
        "side-by-side",
        description="A is the left half of an image and B the right one; or they have one name in A and B",
    )
    direction: Literal["a-to-b", "b-to-a"] = Field(
        "a-to-b", description="A is the condition and B the event, or the other way round"
    )
    size: int = Field(ge=1, description="Height and width of either, in pixels")
    crop: bool = Field(True, description="Keep the centre square when resizing; false squeezes the whole image")
    grey: bool = Field(False, description="One grey channel instead of three colours")
    range: Range = (0.0, 1.0)
    fractions: Fractions = FRACTIONS
    limit: Limit = None
    seed: Seed = None
    memory: Memory = 1024.0
    workers: Workers = 2


class MNISTConfig(Config):
    """MNIST in its published idx files, plain or gzipped (Le Cun et al. 1998)."""

    root: FilePath = Field(description="A folder with the four idx files, in it or in MNIST/raw or raw below it")
    size: Size = None
    pad: int = Field(0, ge=0, description="Black pixels added on each side, after resizing")
    classes: KeptClasses = None
    range: Range = (0.0, 1.0)
    condition: ClassCondition = None
    validation: OwnValidation = 0.1
    limit: Limit = None
    seed: Seed = None
    memory: Memory = 1024.0


class FashionMNISTConfig(MNISTConfig):
    """Fashion-MNIST in its published idx files, plain or gzipped (Xiao et al. 2017)."""

    root: FilePath = Field(description="A folder with the four idx files, in it or in FashionMNIST/raw or raw below it")


class CIFAR10Config(Config):
    """CIFAR-10 in its published batches (Krizhevsky 2009)."""

    root: FilePath = Field(description="The folder that holds cifar-10-batches-py")
    verify: bool = Field(
        True, description="Check the published digests; reading the batches, which are pickles, runs no code either way"
    )
    size: Size = None
    classes: KeptClasses = None
    range: Range = (0.0, 1.0)
    condition: ClassCondition = None
    validation: OwnValidation = 0.1
    limit: Limit = None
    seed: Seed = None
    memory: Memory = 1024.0


class CelebAConfig(Config):
    """CelebA's aligned faces (Liu et al. 2015) with their published splits."""

    root: FilePath = Field(
        description="The folder celeba, or the one above, with img_align_celeba/ and the lists of attributes and splits"
    )
    size: int = Field(64, ge=1, description="Height and width in pixels")
    crop: bool = Field(True, description="Keep the centre square when resizing; false squeezes the whole image")
    box: ImageBox = None
    grey: bool = Field(False, description="One grey channel instead of three colours")
    range: Range = (0.0, 1.0)
    condition: Literal["attributes"] | None = Field(
        None, description="'attributes' makes the forty attributes the condition"
    )
    label: str | None = Field(None, description="The attribute that is each face's label, such as Smiling")
    classes: KeptClasses = None
    limit: Limit = None
    seed: Seed = None
    memory: Memory = 1024.0
    workers: Workers = 2

    @model_validator(mode="after")
    def _labelled(self) -> CelebAConfig:
        if self.classes is not None and self.label is None:
            raise ValueError("classes needs label, the attribute whose values (0 and 1) are the classes")
        return self


class PhotographsConfig(Config):
    """Patches of scikit-learn's two photographs (427 x 640 pixels each)."""

    size: int = Field(32, ge=1, description="Height and width of a patch in pixels")
    points: Points = 4000
    grey: bool = Field(False, description="One grey channel instead of three colours")
    range: Range = (0.0, 1.0)
    fractions: Fractions = Field(
        (0.7, 0.15, 0.15), description="Shares of the patches and of the area of each photograph"
    )
    seed: Seed = None


class PairedConfig(Config):
    """Images with their degraded version as the condition."""

    operator: OperatorConfig = Field(BoxDownsampleConfig(), description="The operator that degrades an image")
    noise_std: float = Field(
        0.0,
        ge=0,
        description="Standard deviation of Gaussian noise on the degraded event, in the units of the data as the model "
        "sees them: in deviations where the data are scaled, such as by scale: table",
    )
    poisson_peak: float | None = Field(
        None,
        gt=0,
        description="Mean count of photons at the images' upper bound: the degraded image is counted, by Poisson's "
        "distribution, before the Gaussian noise comes; null for none",
    )
    mask: bool = Field(
        False,
        description="Also give the mask (1 where a pixel is kept): the condition is then named, 'image' and 'mask'",
    )
    hidden: bool = Field(
        False,
        description="The event is the rectangle that the mask hides, instead of the image; the condition is unchanged",
    )
    seed: Seed = None
