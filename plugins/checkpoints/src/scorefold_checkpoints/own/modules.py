"""A network from a Python module or from an archive."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import json
import logging
import sys
import warnings
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from scorefold.artefacts import load_arrays
from scorefold.errors import ArtefactError, ConfigError
from scorefold_checkpoints.config import ModuleConfig
from scorefold_toolkit.checks import check_module, check_module_file, require_finite

_EXPECTED = "expected a function without arguments that makes the network, or the network, called with (x, time)"


class Called(nn.Module):
    """A function as a torch module."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, *given: Any) -> Any:
        return self.function(*given)


def network_of(config: ModuleConfig, who: str) -> nn.Module:
    """The network that settings name, with its weights, for the component ``who``. Raises ``ConfigError`` for a module,
    a name or an object that is none, and without permission; ``ArtefactError`` for weights that are not its own."""
    if config.network is None:
        raise ConfigError(
            f"{who} has no network",
            hint="network: module:function, or from Python give the class your module as network=",
        )
    with torch.random.fork_rng(devices=[]):  # a user's file may seed torch, as scripts do
        network = _made(config, config.network)
    if config.weights is not None:
        _load_weights(network, config.weights)
    return network


def _made(config: ModuleConfig, target: str) -> nn.Module:
    name, _, attribute = target.partition(":")
    module = _import(name, config.file)
    found = getattr(module, attribute, None)
    if found is None:
        public = [each for each in vars(module) if not each.startswith("_")]
        raise ConfigError(f"{name} has no {attribute}; it has {', '.join(public[:8]) or 'nothing'}")
    try:
        return as_module(found() if _makes_one(found) else found, target)
    except ConfigError:
        raise
    except Exception as error:  # whatever the user's function raises
        raise ConfigError(f"{target} failed: {type(error).__name__}: {error}") from error


def as_module(found: Any, name: str) -> nn.Module:
    """A network as a torch module. Raises ``ConfigError`` for what can't be called."""
    if isinstance(found, nn.Module):
        return found
    if not callable(found):
        raise ConfigError(f"{name} is a {type(found).__name__}; {_EXPECTED}")
    return Called(found)


def _makes_one(found: Any) -> bool:
    """True if an object is a function, or a class, that makes the network when it is called without arguments."""
    if isinstance(found, nn.Module) or not callable(found):
        return False
    try:
        inspect.signature(found).bind()
    except (TypeError, ValueError):
        return False
    return True


def _import(name: str, file: Path | None) -> ModuleType:
    if file is None:
        check_module(name)
        try:
            return importlib.import_module(name)
        except Exception as error:  # of the module itself too
            raise ConfigError(
                f"the module {name} can't be imported: {type(error).__name__}: {error}",
                hint="install it, or set file: to its file",
            ) from error
    if not file.is_file():
        raise ConfigError(f"there is no file {file}", hint="file: is the Python file that the network's module is in")
    check_module_file(file)
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{file} is no Python file; expected one that ends in .py")
    module = importlib.util.module_from_spec(spec)
    before = sys.modules.get(name)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ConfigError(f"{file} can't be imported: {type(error).__name__}: {error}") from error
    finally:
        if before is not None:
            sys.modules[name] = before
    return module


def _load_weights(network: nn.Module, file: Path) -> None:
    weights = load_arrays(file)
    require_finite(weights, file)
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise ArtefactError(
            f"the weights in {file} do not fit the network: {' '.join(str(error).split())[:300]}"
        ) from error


def archived(file: Path) -> nn.Module:
    """The network in an archive of torch.export or of TorchScript, known by its content. Raises ``ConfigError`` without
    permission, ``ArtefactError`` for other files and for an archive with pickled weights."""
    if not file.is_file():
        raise ConfigError(f"there is no file {file}")
    check_module_file(file)
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
            pickled = [name for name in names if name.endswith("_config.json") and _pickles(archive.read(name))]
    except (OSError, zipfile.BadZipFile) as error:
        raise ArtefactError(
            f"{file} is no archive: {error}", hint="torch.export.save or torch.jit.save write one"
        ) from error
    if pickled:
        raise ArtefactError(f"{file} holds pickled tensors, which could run code: {pickled[0]}")
    return _loaded(file, script=any(name.endswith("/constants.pkl") or "/code/" in name for name in names))


def _loaded(file: Path, *, script: bool) -> nn.Module:
    log = logging.getLogger("torch.export")
    level = log.level
    log.setLevel(logging.CRITICAL)  # torch prints the traceback of what it raises
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of formats that torch means to replace
            if script:
                loaded: nn.Module = torch.jit.load(str(file), map_location="cpu")
            else:
                loaded = torch.export.load(str(file)).module()
    except Exception as error:  # torch has many, some without a message
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ArtefactError(
            f"{file} can't be read as {'TorchScript' if script else 'torch.export'}: {first}"
        ) from error
    finally:
        log.setLevel(level)
    require_finite(dict(loaded.named_parameters()), file)
    return loaded


def _pickles(text: bytes) -> bool:
    try:
        return '"use_pickle": true' in json.dumps(json.loads(text))
    except ValueError:
        return False
