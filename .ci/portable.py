"""Run `make test` as other machines would: with other instructions, threads, libraries, users, folders and languages.

    python .ci/portable.py                 every variant, one after another
    python .ci/portable.py avx2 odd-path   these variants
    python .ci/portable.py avx2+seed       one run with the settings of both
    python .ci/portable.py --of COMMIT     the variant of this commit, which continuous integration runs
    python .ci/portable.py avx2 --tests core/tests   these tests alone

Prints a line for each variant with its counts and minutes. Logs stand in .venvs/portable/.
A variant that this machine does not support is named with the reason, and counts as not run.
Exits with 1 where a test failed, or where nothing was run.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
import tomllib
from dataclasses import dataclass, field, replace
from importlib.metadata import distributions
from pathlib import Path

ROOT = Path(__file__).parent.parent
LOGS = ROOT / ".venvs" / "portable"
TEST = ("-n", "2", "--dist", "worksteal", "-q")
HEAVY = ("-n", "2", "--dist", "loadfile", "-q", "-m", "heavy")
USER = 54321
"""A user without a name, as containers have them."""
LOCALE = "tr_TR"
"""Its numbers have a comma, its capital of i has a dot."""
INTEL = "int mkl_serv_intel_cpu_true(void) { return 1; }"
"""Makes MKL choose its instructions as on a processor of Intel."""


class UnsupportedError(Exception):
    """This machine can't run a variant."""


@dataclass(frozen=True)
class Variant:
    """Settings of one run: environment variables, pytest's arguments, and the steps that need more than a variable."""

    variables: dict[str, str] = field(default_factory=dict)
    steps: frozenset[str] = frozenset()
    arguments: tuple[str, ...] = TEST

    def __add__(self, other: Variant) -> Variant:
        arguments = self.arguments if other.arguments == TEST else other.arguments
        return Variant(self.variables | other.variables, self.steps | other.steps, arguments)


def instructions(torch: str, mkl: str, onednn: str, *steps: str) -> Variant:
    variables = {"ATEN_CPU_CAPABILITY": torch, "MKL_ENABLE_INSTRUCTIONS": mkl, "ONEDNN_MAX_CPU_ISA": onednn}
    return Variant(variables, frozenset(steps))


DEFAULT = instructions("default", "SSE4_2", "SSE41", "numpy")
VARIANTS = {
    "native": Variant(),
    "default": DEFAULT,
    "avx2": instructions("avx2", "AVX2", "AVX2"),
    "intel": Variant(steps=frozenset({"intel"})),
    "intel-avx2": instructions("avx2", "AVX2", "AVX2", "intel"),
    "two-threads": Variant({"SCOREFOLD_TEST_THREADS": "2"}),
    "openblas-prescott": Variant({"OPENBLAS_CORETYPE": "Prescott"}),
    "openblas-nehalem": Variant({"OPENBLAS_CORETYPE": "Nehalem"}),
    "openblas-haswell": Variant({"OPENBLAS_CORETYPE": "Haswell"}),
    "openblas-skylakex": Variant({"OPENBLAS_CORETYPE": "SkylakeX"}),
    "seed": Variant({"SCOREFOLD_TEST_SEED": "1"}),
    "elsewhere": Variant({"TZ": "Pacific/Kiritimati"}, frozenset({"locale"})),
    "other-user": Variant(steps=frozenset({"clone", "user"})),
    "odd-path": Variant(steps=frozenset({"clone", "odd"})),
    "read-only": Variant(steps=frozenset({"clone", "read-only"}), arguments=(*TEST, "-p", "no:cacheprovider")),
    "heavy": Variant(DEFAULT.variables, DEFAULT.steps, HEAVY),
}
BY_HAND = "seed"
"""Some tests describe the data of one seed, and fail with another (CONTRIBUTING.md)."""
CHOSEN = [name for name, variant in VARIANTS.items() if variant.arguments is not HEAVY and name != BY_HAND]
"""Those that run the tests of `make test`."""


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(VARIANTS)}, or several with +")
    parser.add_argument("--of", metavar="COMMIT", help="the variant of this commit, in hexadecimal digits")
    parser.add_argument("--tests", nargs="+", default=[], metavar="TEST", help="files, folders or names of tests")
    options = parser.parse_args()
    names = [of(options.of)] if options.of else options.names or [name for name in VARIANTS if name != BY_HAND]
    unknown = sorted({part for name in names for part in name.split("+")} - set(VARIANTS))
    if unknown:
        parser.error(f"given {', '.join(unknown)}; expected names among {', '.join(VARIANTS)}")
    lines, failed, ran = [], False, 0
    for name in names:
        print(f"== {name}", flush=True)
        try:
            line, status = tested(name, options.tests)
        except UnsupportedError as reason:
            lines.append(f"{name:18} not run: {reason}")
            if options.of:
                names.append("native")
            continue
        lines.append(line)
        failed |= status != 0
        ran += 1
    print(*lines, f"{ran} of {len(names)} variants run", sep="\n")
    return int(failed or not ran)


def of(commit: str) -> str:
    """The variant of a commit; one that this machine does not support is `native`."""
    name = CHOSEN[int(commit, 16) % len(CHOSEN)]
    print(f"variant of commit {commit[:8]}: {name}", flush=True)
    return name


def tested(name: str, tests: list[str]) -> tuple[str, int]:
    """The line of a variant, and the exit status of its tests. Raises ``UnsupportedError``."""
    parts = [VARIANTS[part] for part in name.split("+")]
    variant = sum(parts[1:], parts[0])
    variant = replace(variant, arguments=(*variant.arguments, *tests))
    LOGS.mkdir(parents=True, exist_ok=True)
    log = LOGS / f"{name}.log"
    with tempfile.TemporaryDirectory(prefix="scorefold-") as folder:
        command, checkout, environment = prepared(variant, Path(folder))
        start = time.monotonic()
        with log.open("w", encoding="utf-8") as out:
            done = subprocess.run(command, cwd=checkout, env=environment, stdout=out, stderr=out, check=False)
        minutes = (time.monotonic() - start) / 60
        writable(Path(folder))
    text = log.read_text(encoding="utf-8", errors="replace")
    if done.returncode != 0:
        print(text[max(text.find("= FAILURES ="), 0) :], flush=True)
    counts = re.findall(r"^=*\s?(\d+ (?:passed|failed|errors?|skipped)\b.*?)(?: in [\d.]+s.*)?$", text, re.M)
    result = counts[-1] if counts else f"no summary, exit status {done.returncode}"
    return f"{name:18} {result}; {minutes:.1f} min (log: {log.relative_to(ROOT)})", done.returncode


def prepared(variant: Variant, place: Path) -> tuple[list[str], Path, dict[str, str]]:
    """The command of a variant, the checkout that it runs in, and its environment variables."""
    place.chmod(0o755)
    steps, environment = variant.steps, os.environ | variant.variables
    python, checkout = Path(sys.executable), ROOT
    if "numpy" in steps:
        environment["NPY_DISABLE_CPU_FEATURES"] = numpy_features()
    if "intel" in steps:
        environment["LD_PRELOAD"] = str(intel(place))
    if missing := CORES.get(environment.get("OPENBLAS_CORETYPE", ""), set()) - processor():
        raise UnsupportedError(f"this processor has no {', '.join(sorted(missing))}, which OpenBLAS would use unasked")
    if "locale" in steps:
        environment |= {"LOCPATH": str(place), "LC_ALL": locale(place), "LANGUAGE": ""}
    if "clone" in steps:
        checkout = place / ("Schöne neue Größe" if "odd" in steps else "checkout")
        python = clone(checkout, own="user" not in steps and ("read-only" not in steps or os.getuid() != 0))
        if (libraries := place / "python" / "lib").exists():
            environment["LD_LIBRARY_PATH"] = str(libraries)
    command = [str(python), "-m", "pytest", *variant.arguments]
    if "user" in steps or ("read-only" in steps and os.getuid() == 0):
        command = [*as_user(place, checkout, owns="user" in steps), *command]
        environment |= {"HOME": str(place / "home"), "TMPDIR": str(place / "home")}
        for name in ("USER", "LOGNAME", "USERNAME", "LNAME"):
            environment.pop(name, None)
        if subprocess.run(
            [*command[: -len(variant.arguments)], "--version"], env=environment, cwd=checkout, capture_output=True
        ).returncode:
            raise UnsupportedError("another user can't read this environment")
    if "read-only" in steps:
        subprocess.run([python, "-m", "compileall", "-q", *checkout.glob("**/src"), checkout / "docs"], check=True)
        subprocess.run(["chmod", "-R", "a-w", checkout], check=True)
    return command, checkout, environment


CORES = {"Haswell": {"AVX2", "FMA3"}, "SkylakeX": {"AVX512F"}, "Nehalem": {"SSE42"}}
"""Instructions that the kernels of OpenBLAS by these names need. OpenBLAS does not look before it runs them."""


def processor() -> set[str]:
    """The instructions that NumPy finds here."""
    code = (
        "from numpy._core._multiarray_umath import __cpu_features__ as found;"
        "print(*[name for name in found if found[name]])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def numpy_features() -> str:
    """The sets of instructions that NumPy would use here beyond those that it was built for."""
    code = (
        "from numpy._core._multiarray_umath import __cpu_dispatch__ as sets, __cpu_features__ as found;"
        "print(*[name for name in sets if found[name]])"
    )
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def intel(place: Path) -> Path:
    compiler = shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        raise UnsupportedError("there is no C compiler for Linux")
    library = place / "intel.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-x", "c", "-", "-o", library], input=INTEL, text=True, check=True)
    return library


def locale(place: Path) -> str:
    """Compile the locale into a folder."""
    if shutil.which("localedef") is None or not Path("/usr/share/i18n/locales", LOCALE).exists():
        raise UnsupportedError("localedef or its sources are missing (on Debian: .ci/debian locales)")
    name = f"{LOCALE}.UTF-8"
    done = subprocess.run(["localedef", "-i", LOCALE, "-f", "UTF-8", place / name], capture_output=True, text=True)
    if not (place / name).exists():
        raise UnsupportedError(f"localedef made no locale: {done.stderr.strip()}")
    return name


def clone(checkout: Path, *, own: bool) -> Path:
    """Clone the last commit with an environment inside; its Python is returned, which others can run unless ``own``.

    The members are installed from the clone, everything else is seen from the environment that runs this.
    """
    trusting = ["git", "-c", "safe.directory=*"]  # ROOT may belong to another user; a clone asks Git twice
    options = ["--quiet", "--no-hardlinks", "--upload-pack", f"{' '.join(trusting)} upload-pack"]
    subprocess.run([*trusting, "clone", *options, ROOT, checkout], check=True)
    page = Path("plugins/explore/src/scorefold_explore/page/built")
    if (ROOT / page).exists():
        shutil.copytree(ROOT / page, checkout / page)
    subprocess.run([base(checkout.parent, own), "-m", "venv", "--without-pip", checkout / ".venv"], check=True)
    python = checkout / ".venv" / "bin" / "python"
    # A line of code, so that the .pth files of the folder are read too.
    line = f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n"
    ask = [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    site = subprocess.run(ask, capture_output=True, text=True, check=True).stdout.strip()
    Path(site, "parent.pth").write_text(line, encoding="utf-8")
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "editables"], check=True)
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--ignore-installed"]
    subprocess.run([*pip, *options, *(f"--editable={member}" for member in members(checkout))], check=True)
    for kind in ("bin/*", "share", "etc"):
        for file in Path(sys.prefix).glob(kind):
            if not (copy := checkout / ".venv" / file.relative_to(sys.prefix)).exists():
                copy.symlink_to(file)
    return python


def base(place: Path, own: bool) -> Path:
    """The Python outside of every environment, or a copy of it where other users are to run it and can't."""
    prefix = Path(sys.base_prefix)
    if own or all(folder.stat().st_mode & 0o005 == 0o005 for folder in (prefix, *prefix.parents)):
        return Path(sys._base_executable)  # type: ignore[attr-defined]
    shutil.copytree(prefix, place / "python", symlinks=True, ignore=shutil.ignore_patterns("site-packages"))
    return place / "python" / Path(sys._base_executable).resolve().relative_to(prefix)  # type: ignore[attr-defined]


def members(checkout: Path) -> list[Path]:
    """The folders of the members that are installed in the environment that runs this."""
    installed = {found.name for found in distributions()}
    folders = [file.parent for glob in ("*", "plugins/*") for file in sorted(checkout.glob(f"{glob}/pyproject.toml"))]
    names = (tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))["project"]["name"] for folder in folders)
    return [folder for folder, name in zip(folders, names, strict=True) if name in installed]


def as_user(place: Path, checkout: Path, *, owns: bool) -> list[str]:
    """The start of a command that another user runs, who has a home, and the checkout where ``owns`` is set."""
    if os.getuid() != 0 or shutil.which("setpriv") is None:
        raise UnsupportedError("it needs root and setpriv")
    (place / "home").mkdir()
    given = [place / "home", *([checkout] if owns else [])]
    subprocess.run(["chown", "-R", f"{USER}:{USER}", *given], check=True)
    return ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups"]


def writable(folder: Path) -> None:
    subprocess.run(["chmod", "-R", "u+w", folder], check=True)


if __name__ == "__main__":
    sys.exit(main())
