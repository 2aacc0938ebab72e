"""Places of shared models: a folder, or a repository of the Hugging Face Hub."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scorefold.errors import ConfigError, ScorefoldError

HUB = "hf://"
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")


def repository(text: str | Path) -> str | None:
    """The repository ``org/name`` that a text names; None for a folder.

    ``hf://org/name`` is always the Hub, and what begins with ``.``, ``/`` or ``~`` or is a ``Path`` always a folder.
    Raises ``ConfigError`` where ``org/name`` could be either, and for a name that the Hub does not take.

    >>> repository("ada/rings"), repository("./ada/rings"), repository("hf://ada/rings")
    ('ada/rings', None, 'ada/rings')
    """
    if isinstance(text, Path):
        return None
    name = text.removeprefix(HUB)
    fits = _REPOSITORY.fullmatch(name) is not None and ".." not in name and "--" not in name
    if text.startswith(HUB):
        if not fits:
            raise ConfigError(f"{text} is not a repository of the Hub", hint=f"expected {HUB}org/name")
        return name
    if not fits:
        return None
    if Path(name).parent.is_dir():
        raise ConfigError(
            f"{name} may be a folder here, or a model of the Hub: {Path(name).parent} is a folder",
            hint=f"write ./{name} for the folder, or {HUB}{name} for the Hub",
        )
    return name


def upload(folder: Path, name: str, *, private: bool) -> str:
    """Put a folder's files into a repository, which is made where it is not there; the address of the model.

    Files of an earlier upload that the folder does not have are removed. Raises ``ConfigError`` without
    huggingface_hub, ``ScorefoldError`` for what the Hub refuses.
    """
    with _hub(name):
        from huggingface_hub import HfApi

        api = HfApi()
        address = api.create_repo(name, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=name,
            folder_path=folder,
            commit_message="Push a model of Scorefold",
            delete_patterns=["*.json", "*.safetensors"],
        )
    return str(address)


def files_of(name: str, revision: str | None) -> list[str]:
    """The names of the files of a repository; see ``upload`` for the errors."""
    with _hub(name):
        from huggingface_hub import HfApi

        return list(HfApi().list_repo_files(name, revision=revision))


def download(name: str, revision: str | None, files: list[str]) -> Path:
    """The folder of these files of a repository in the Hub's own cache; see ``upload`` for the errors."""
    with _hub(name):
        from huggingface_hub import snapshot_download

        return Path(snapshot_download(name, revision=revision, allow_patterns=files))


@contextmanager
def _hub(name: str) -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise ConfigError(
            f"the Hub needs a library that can't be imported: {error}",
            hint="pip install 'scorefold-registry[hub]', or name a folder: ./" + name,
        ) from error
    except ScorefoldError:
        raise
    except Exception as error:  # of the network, of the Hub, of the login: all of them of the library's own classes
        raise ScorefoldError(
            f"the Hub did not serve {name}: {type(error).__name__}: {error}",
            hint="check the name, the network and the login (hf auth login)",
        ) from error
