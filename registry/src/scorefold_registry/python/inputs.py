"""Inputs of stages: arrays and tables are written to files, and objects are saved, so that a run file can name them."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Any

from scorefold.artefacts import digest_folder, write_text
from scorefold.errors import ConfigError, SplitError
from scorefold_registry.components.manifest import has_state
from scorefold_registry.components.parts import config_model, options_model
from scorefold_registry.components.paths import free_name
from scorefold_registry.components.stage_files import VALUE_FILE
from scorefold_registry.plugins.locks import make_folder
from scorefold_registry.plugins.names import with_article
from scorefold_registry.python.stage import RunSetting, Stage
from scorefold_registry.run.data_summary import loader_of
from scorefold_registry.run.units import observed
from scorefold_registry.runfile.yaml_reader import parse_value

if TYPE_CHECKING:
    from scorefold_registry.host import Host
    from scorefold_registry.plugins.records import Registered


def expect(name: str, value: Any, types: Any, expected: str) -> None:
    """Raises ``ConfigError`` for an argument of another type."""
    if not isinstance(value, types):
        raise ConfigError(f"{name} is {value!r:.60}; expected {expected}")


def refuse_objects(settings: Mapping[str, Any]) -> None:
    """Raises ``ConfigError`` for a network or a function as a setting, which a run file can't hold."""
    for name, value in settings.items():
        hint = "build the object by Host.discover().create(...), and pass the function to its own method"
        if network := hasattr(value, "state_dict"):
            hint = "name one, such as 'network:mlp'; score:callable makes a score of a network of your own"
        if network or callable(value):
            raise ConfigError(
                f"{name} is {with_article(type(value).__name__)}; expected the name of a component or its settings",
                hint=hint,
            )


def refuse_data_fields(
    host: Host, asked: Registered, verb: str | None, data: Any, given: Mapping[str, Any], built: bool = True
) -> None:
    """Raises ``ConfigError`` for keywords that say how data are read, where data are given by name, by path or as an
    array. Ports and options of the verb are other keywords, and fields of the component where it is ``built`` here."""
    if data is None or isinstance(data, Mapping) or stages_in([data]) or host.builder.memory.of(data) is not None:
        return
    found = host.catalogue.verb(asked.component, verb)
    options = options_model(found)
    known = {port.name for port in (*asked.component.requires, *found.takes)}
    for model in (options, config_model(asked) if built else None):
        known |= set() if model is None else model.model_fields.keys()
    left = given.keys() - known
    file = loader_of(Path(data).expanduser())[0] if isinstance(data, str | Path) else "data:array"
    fields = config_model(host.catalogue.resolve(data if _is_name(data) else file)).model_fields if left else {}
    if own := {name: given[name] for name in given if name in left and name in fields}:
        shown = repr(str(data)) if isinstance(data, str | Path) else "data"
        call = ", ".join((shown, *(f"{name}={value!r}" for name, value in own.items())))
        raise ConfigError(
            f"{next(iter(own))} says how data are read, and '{found.name}' takes no fields of data",
            hint=f"give data that are read so: sf.load_data({call})",
        )


def stages_in(values: Sequence[Any]) -> list[Stage]:
    """The stages among values, in lists too."""
    found: list[Stage] = []
    for value in values:
        found += stages_in(value) if isinstance(value, list | tuple) else [value] if isinstance(value, Stage) else []
    return found


def as_input(
    value: Any, takes_data: bool, setting: RunSetting, specs: dict[str, Mapping[str, Any]], *, whole: bool = False
) -> Any:
    """An input as a run file writes it; objects and arrays are saved, and become stages of ``specs``. ``whole`` asks
    about every row of data that are given as they are, which has no use for splits."""
    if isinstance(value, Stage):
        return value.name
    if isinstance(value, list | tuple) and not (takes_data and not stages_in([value])):
        return [as_input(item, takes_data, setting, specs) for item in value]
    if isinstance(value, Mapping) or _is_name(value):
        return value
    if setting.host.builder.memory.of(value) is not None:
        name = free_name("given", specs)
        specs[name] = {"load": str(_saved(value, setting))}
        return name
    if takes_data:
        use, config = source_of(value, None, None, setting.folder)
        if whole and ("path" in config or "root" in config):
            config["fractions"] = [0.0, 0.0, 1.0]
        return {"use": use, "config": config}
    raise ConfigError(
        f"an input is {value!r:.80}; expected a stage, a component (kind:name), or an object that this host made",
        hint="pass what fit(...) or load_data(...) gave",
    )


def observations(model: str | Stage, data: Any) -> Any:
    """Arrays, tensors and tables (N, *S) as data whose conditions they are; anything else as it is, and all data of a
    model that takes no numbers as its condition.

    Raises ``ConfigError`` for arrays of another shape.
    """
    if not isinstance(model, Stage) or isinstance(data, str | Path | Mapping | Stage | None):
        return data
    if (spec := observed(model.value)) is None:
        return data
    import numpy as np

    y = _as_array("y", data)
    if y.ndim == 1 and spec.shape == (1,):
        y = y[:, None]
    if y.shape[1:] != tuple(spec.shape):
        expected = ", ".join(["N", *map(str, spec.shape)])
        raise ConfigError(
            f"the observations have shape {y.shape}; expected ({expected}), a row for each",
            hint="for one observation give y[None]" if y.shape == tuple(spec.shape) else None,
        )
    config = _array(np.zeros((len(y), *model.value.event_shape), "float32"), {"condition": y}, model.setting.folder)
    return {"use": "data:array", "config": {**config, "fractions": [0.0, 0.0, 1.0]}}


def _is_name(value: Any) -> bool:
    """True for the name of a component, such as ``data:digits``, and no file."""
    return isinstance(value, str) and ":" in value and not Path(value).exists()


def _saved(value: Any, setting: RunSetting) -> Path:
    """The folder of an object's state, named by what it holds."""
    first = setting.folder / "objects" / f"new-{token_hex(4)}"
    setting.host.save(value, first, bundle=True)
    place = first.with_name(digest_folder(first)[:16])
    with suppress(OSError):  # it stands there already
        first.rename(place)
    shutil.rmtree(first, ignore_errors=True)
    return place.absolute()


def points_in(folder: Path) -> dict[str, Any]:
    """The arguments of ``load_data`` for samples that a stage of this folder gave, in the units of the file; none for
    any other folder."""
    if has_state(folder) or not (folder / VALUE_FILE).is_file():
        return {}
    from scorefold_registry.components.values import load_value

    source = load_value(folder, None)
    with suppress(AttributeError, SplitError):
        points, scale = source.load("test"), source.event_scale
        if not isinstance(points.condition, Mapping):
            x = scale.to_raw(points.x)
            return {"x": x, "condition": points.condition, "splits": (0, 0, 1), "scale": "none"}
    return {}


def source_of(x: Any, condition: Any, label: Any, folder: Path, *, indexed: bool = True) -> tuple[str, dict[str, Any]]:
    """The component that reads what was given, and the fields of its config; arrays and tables are written first.

    The index of a pandas table names its rows where ``indexed``.
    """
    named = {"condition": condition, "label": label}
    if _is_name(x):
        return x, {key: value for key, value in named.items() if value is not None}
    if isinstance(x, str | Path):
        place = Path(x).expanduser()
        use, field = loader_of(place)
        return use, {field: str(place.absolute()), **_columns(named)}
    if hasattr(x, "to_frame") and not hasattr(x, "columns"):  # one column of a table
        x = x.to_frame(x.name or "x")
    if hasattr(x, "to_csv") or hasattr(x, "write_csv"):
        columns = _columns(named)
        _check_table(x, columns)
        if indexed and hasattr(x, "to_csv") and list(x.index) != list(range(len(x))):
            columns["names"] = free_name("row", set(map(str, x.columns)))
            x = x.set_axis(range(len(x))).assign(**{columns["names"]: [_row_name(one) for one in x.index]})
        text = x.to_csv(index=False) if hasattr(x, "to_csv") else x.write_csv()
        path = folder / "data" / f"{sha256(text.encode()).hexdigest()[:16]}.csv"
        if not path.exists():
            write_text(path, text)
        return "data:array", {"path": str(path.absolute()), "header": True, **columns}
    return "data:array", _array(x, named, folder)


def _row_name(index: Any) -> str:
    """Name of a row in the index of a table, marked as text if it is a number."""
    return " ".join(map(str, index)) if isinstance(index, tuple) else str(index)


def without_files(text: str, folder: Path) -> str:
    """A text without the names of the files that arrays and tables were written into."""
    written = re.escape(str((folder / "data").absolute())) + r"/[0-9a-f]{16}\."
    return re.sub(written + "npz", "the array", re.sub(written + "csv", "the table", text))


def in_python(hint: str | None, spec: Mapping[str, Any]) -> str | None:
    """A hint that begins with a setting of data, such as ``missing: drop``, with the call that sets it for this stage.

    >>> in_python("missing: drop leaves these rows out", {"use": "data:array"})
    "missing: drop leaves these rows out (in Python: load_data(data, missing='drop'))"
    """
    found = re.match(r"(\w+): (\[[^]]*\]|\"[^\"]+\"|\w+)", hint or "")
    if found is None:
        return hint
    given = [one.get("config", {}) for one in spec.get("inputs", {}).values() if isinstance(one, Mapping)]
    whole = ", splits=(0, 0, 1)" if any(one.get("fractions") == [0.0, 0.0, 1.0] for one in given) else ""
    return f"{hint} (in Python: load_data(data, {found[1]}={parse_value(found[2])!r}{whole}))"


def _check_table(x: Any, columns: Mapping[str, Any]) -> None:
    """Raises ``ConfigError`` for a table that a file of comma-separated values would not hold as it is."""
    if getattr(x.columns, "nlevels", 1) > 1:
        hint = "join them: table.columns = ['-'.join(map(str, name)) for name in table.columns]"
        raise ConfigError("the table has names of columns on several levels; expected one name per column", hint=hint)
    if 0 in x.shape:
        raise ConfigError(f"the table has the shape {x.shape}; expected rows and columns of numbers")
    label = columns.get("label")
    values = {value for value in x[label] if isinstance(value, str)} if label in list(x.columns) else set()
    odd = sorted(value for value in values if value.strip().upper() in ("", "NA", "NAN", "NULL") or _is_number(value))
    if odd:
        raise ConfigError(
            f"the label {odd[0]!r} in column {label!r} is text, and would be read as a number or as missing",
            hint=f"name it otherwise: table[{label!r}] = 'class ' + table[{label!r}]",
        )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _columns(named: Mapping[str, Any]) -> dict[str, Any]:
    """Names of columns as the config takes them."""
    found: dict[str, Any] = {}
    for key, value in named.items():
        names = [value] if isinstance(value, str) else value
        if names is not None and not (isinstance(names, list | tuple) and all(isinstance(one, str) for one in names)):
            raise ConfigError(
                f"{key} is {type(value).__name__}; expected the name of a column of the table or file",
                hint=f"add it to the table as a column and name that, or give arrays for all: load_data(x, {key}=...)",
            )
        if names is not None:
            found[key] = names[0] if key == "label" else list(names)
    return found


def _array(x: Any, named: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    import numpy as np

    given = {"x": x, **{key: value for key, value in named.items() if value is not None}}
    arrays = {key: _as_array(key, value) for key, value in given.items()}
    digest = sha256(repr([(key, array.shape, str(array.dtype)) for key, array in arrays.items()]).encode())
    for array in arrays.values():
        digest.update(np.ascontiguousarray(array).tobytes())
    path = folder / "data" / f"{digest.hexdigest()[:16]}.npz"
    if not path.exists():
        make_folder(path.parent)
        partial = path.with_name(f"{token_hex(4)}.partial.npz")
        np.savez(partial, **arrays)
        partial.replace(path)
    fields: dict[str, Any] = {"path": str(path.absolute())}
    if "label" in arrays:
        fields["label"] = "label"
    if "condition" in arrays:
        fields["condition"] = ["condition"]
    return fields


_AS_NUMBERS = {
    "c": ("complex numbers", "their real and imaginary parts are numbers: np.concatenate([{x}.real, {x}.imag], 1)"),
    "U": ("text", "{x}.astype(float) reads numbers written as text; leave other text out"),
    "S": ("text", "{x}.astype(float) reads numbers written as text; leave other text out"),
    "M": ("dates", "{x}.astype('int64') counts them in their unit, such as days"),
    "m": ("times", "{x}.astype('int64') counts them in their unit, such as days"),
    "V": ("records", "pandas.DataFrame({x}) is a table of them"),
}
"""Kinds of arrays that are no numbers, with the line that makes numbers of them."""


def _as_array(name: str, value: Any) -> Any:
    """A value as a numpy array with a row for each event."""
    import numpy as np

    if np.ma.is_masked(value):
        hint = "fill them: x.filled(float('nan')), and load_data(..., missing='drop') leaves these rows out"
        raise ConfigError(f"{name} has masked values, which an array without its mask would hold as numbers", hint=hint)
    try:
        if hasattr(value, "detach"):
            tensor = value.detach().cpu()
            # Numpy has no such numbers; float32 holds each of them.
            value = tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor
        array = np.asarray(value)
        if array.dtype.kind == "O":
            array = np.array(array.tolist())
    except (TypeError, ValueError, RuntimeError):
        array = np.array(None)
    kinds = "biufU" if name == "label" else "biuf"
    if array.dtype.kind not in kinds or array.ndim == 0:
        what = "a label for each event" if name == "label" else "an array of numbers, one event a row"
        given = f"is {value!r:.60} of type {type(value).__name__}"
        hint = "give a numpy array, a tensor, a table of pandas, a path or the name of a component (data:digits)"
        if array.dtype.kind in _AS_NUMBERS:
            held, hint = _AS_NUMBERS[array.dtype.kind]
            given = f"holds {held} ({array.dtype})"
        raise ConfigError(f"{name} {given}; expected {what}", hint=hint.format(x=name))
    if array.size == 0:
        raise ConfigError(f"{name} is an empty array of shape {array.shape}; expected rows and columns of numbers")
    return array
