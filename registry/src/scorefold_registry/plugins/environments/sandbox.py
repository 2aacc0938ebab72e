"""The sandbox of a worker. Bubblewrap shows it the files that it needs, read-only, and no other file or process.

It is an error if a table asks for the sandbox and the system has none: a worker never runs without it instead.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from scorefold.errors import PluginError
from scorefold_registry.plugins.environments.spec import Spec

PROGRAM = "bwrap"

_ALONE = (
    *("--unshare-user", "--unshare-all", "--die-with-parent"),
    *("--cap-drop", "ALL", "--proc", "/proc", "--dev", "/dev"),
)
_SYSTEM = (
    *("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/nix/store", "/sys/devices/system"),
    *("/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/alternatives", "/etc/localtime"),
)
_ONLINE = ("/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/ssl", "/etc/pki", "/etc/ca-certificates")
_MARKS = ("pyvenv.cfg", "conda-meta")
"""Files that show a folder to be an environment."""
_SECONDS = 60.0


def missing_program() -> str | None:
    """Reason why there can be no sandbox on this machine, found without a process; None if there may be one."""
    return None if shutil.which(PROGRAM) else f"there is no program {PROGRAM} on the path"


def sandbox_refusal() -> str | None:
    """Reason why there is no sandbox on this machine, from a trial; None if there is one."""
    if (why := missing_program()) is not None:
        return why
    import subprocess  # it takes a while, and lists of plugins need none

    command = [PROGRAM, "--ro-bind", "/", "/", *_ALONE, shutil.which("true") or "/bin/true"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False, timeout=_SECONDS)
    except (OSError, subprocess.SubprocessError) as error:
        return f"{PROGRAM} can't be started: {error}"
    return None if done.returncode == 0 else f"{PROGRAM} can't make one: {done.stderr.strip()[-500:]}"


def check_sandbox(spec: Spec, why: str | None) -> None:
    """Raises ``PluginError`` if the table asks for a sandbox that can't be had; ``why`` says why not."""
    if spec.sandbox is not None and why is not None:
        raise PluginError(
            f"the environment {spec.name!r} has no sandbox here: {why}",
            hint=f"install bubblewrap (Linux) and allow user namespaces; or remove sandbox from {spec.table}, and its "
            "plugins can read your files",
        )


def remark(spec: Spec) -> str:
    """The end of a hint about a distribution that is not found; empty without a sandbox."""
    if spec.sandbox is None:
        return ""
    return f"; add to read in [environments.{spec.name}] the folders that are in editable form in its interpreter"


def wrapping(spec: Spec, python: Path, layer: Path, lent: Path | None, writes: Path | None) -> list[str]:
    """The beginning of the command of a worker in its sandbox; nothing where the table asks for none.

    What is shown follows from the table alone. Files of the environment, such as ``.pth``, are of its packages, which
    would open what they like. The worker may write into ``writes``, and into a /tmp of its own. Raises ``PluginError``
    if there is no sandbox.
    """
    if spec.sandbox is None:
        return []
    check_sandbox(spec, sandbox_refusal())
    places = [*_SYSTEM, *(_ONLINE if spec.network else ()), layer, *_files_of(spec, python), *spec.folders, *spec.read]
    if lent is not None:
        places += [lent, *(link.resolve() for link in lent.iterdir())]
    shown = _shown(list(map(Path, places)))
    command = [PROGRAM, *_ALONE, "--tmpfs", "/tmp", "--setenv", "HOME", "/tmp", "--setenv", "TMPDIR", "/tmp"]
    for place in shown:
        command += ["--ro-bind", str(place), str(place)]
    if not any(python.is_relative_to(place) for place in shown):
        command += ["--symlink", str(python.resolve()), str(python)]
    for device in sorted(Path("/dev").glob("nvidia*")):
        command += ["--dev-bind-try", str(device), str(device)]
    if writes is not None:
        command += ["--bind", str(writes), str(writes)]
    return [*command, *(["--share-net"] if spec.network else []), "--chdir", "/tmp", "--"]


def _files_of(spec: Spec, python: Path) -> list[Path]:
    """The files of an interpreter: of its environment, and of the Python that this was made of.

    A folder is shown as a whole only if it is an environment. Other programs may be in the folder of a Python, such as
    ``~/.local``. Raises ``PluginError`` for an environment that holds the user's home folder.
    """
    program = python.resolve()
    library = program.parent.parent / "lib"
    found = [program, *library.glob("python3*"), *library.glob("libpython3*")]
    for folder in (python.parent.parent, program.parent.parent):
        if not any((folder / mark).exists() for mark in _MARKS):
            continue
        if Path.home().resolve().is_relative_to(folder.resolve()):
            raise PluginError(
                f"the environment {spec.name!r} is the folder {folder}, which holds your home folder, so its sandbox "
                "would show all your files",
                hint=f"give another interpreter in {spec.table}",
            )
        found.append(folder)
    return found


def _shown(places: list[Path]) -> list[Path]:
    """The paths of these that are there, with the targets of links, and without what lies in another one of them."""
    there = {place for place in places if place.exists()}
    shown: list[Path] = []
    for place in sorted(there | {place.resolve() for place in there}):
        if not any(place.is_relative_to(other) for other in shown):
            shown.append(place)
    return shown
