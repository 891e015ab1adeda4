"""Every check of the project; `nox` alone runs those that a change must pass."""

from __future__ import annotations

import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nox

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.download_python = "never"
nox.options.error_on_missing_interpreters = False
nox.options.reuse_existing_virtualenvs = True

PYTHONS = ["3.11", "3.12", "3.13"]
# Whose tests run under coverage. Before it, a collection within a trace function may crash Python.
COVERED = PYTHONS[-1]
# Those that are here. The oldest and the newest run all tests of one process, and each one half of
# the programs; others run what depends on Python.
AT_HAND = [version for version in PYTHONS if shutil.which(f"python{version}")]
IN_BETWEEN = AT_HAND[1:-1]
PYPROJECT = nox.project.load_toml("pyproject.toml")
# What the project is checked out with, tests and all; its own code is installed from the wheel.
CHECKED = ("stratatrace", "stratatrace_pytest.py", "tests", "examples", "docs", "noxfile.py")

# Tests that run programs in processes of their own, or that hold results against a model, can share
# the processors. The others measure their own process, where another thread, such as a test
# runner's, would be in the numbers.
PROGRAMS = (
    "unit/cli",
    "unit/exporters",
    "unit/guards/test_monitor_programs.py",
    "unit/pressure/test_pressure_programs.py",
    "unit/instrumentation/test_programs.py",
    "unit/instrumentation/strataregula",
    "unit/test_configure.py",
    "unit/streams/test_reading.py",
    "unit/reuse/test_lazy_fork.py",
    "unit/test_propagation.py",
    "unit/test_fork_lock.py",
    "unit/reuse/test_store_programs.py",
    "unit/reuse/test_pool_fork.py",
    "unit/guards/test_traps.py",
    "unit/guards/test_isolation.py",
    "unit/reuse/test_cache_forks.py",
    "unit/reuse/test_cache_interruptions.py",
    "parity",
    "docs",
    "examples",
    "property",
)
IN_PROCESS = ("tests", *(f"--ignore=tests/{path}" for path in PROGRAMS))
# In two processes side by side, which take about the same time: these folders, and all others.
HALF = ("tests/unit/guards", "tests/unit/diagnose", "tests/kinds", "tests/accuracy")
HALVES = ((*HALF, *IN_PROCESS[1:]), (*IN_PROCESS, *(f"--ignore={path}" for path in HALF)))
# Programs that the oldest Python runs, and not the one under coverage: there they run nothing of
# the package that the others do not, or run as a user who may not write.
NOT_COVERED = (
    *("parity", "docs", "examples", "property"),
    *(path for path in PROGRAMS if path.startswith("unit/reuse")),
    *("unit/guards/test_traps.py", "unit/guards/test_monitor_programs.py"),
    "unit/instrumentation/test_programs.py",
)
SHARING = ("-n", "2")
OF_PROGRAMS = (*SHARING, *(f"tests/{path}" for path in PROGRAMS))
UNDER_COVERAGE = (*SHARING, *(f"tests/{path}" for path in PROGRAMS if path not in NOT_COVERED))
BESIDE_COVERAGE = (*SHARING, *(f"tests/{path}" for path in NOT_COVERED))
EXTRAS = "cli,otlp,prometheus"

# What is compiled for each Python, or drives what that is made of: two halves, and programs.
OF_PYTHON = (
    ("tests/kinds", "tests/accuracy"),
    (
        *("tests/unit/probes", "tests/unit/guards/test_watchdog.py"),
        *(f"tests/unit/test_{name}.py" for name in ("compiled", "lines", "following", "processor")),
        *(f"tests/unit/test_{name}.py" for name in ("accounts", "tallies", "thinning", "patching")),
        *(f"tests/unit/reuse/test_lazy_{name}.py" for name in ("asyncio", "properties", "threads")),
    ),
    (*SHARING, "tests/parity", "tests/unit/guards/test_isolation.py"),
)


def install_wheel(session: nox.Session, *groups: str, extras: str = EXTRAS) -> None:
    """Install the project as its users get it, and the packages of dependency groups."""
    session.install(f".[{extras}]", *nox.project.dependency_groups(PYPROJECT, *groups))


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and format."""
    session.install(*nox.project.dependency_groups(PYPROJECT, "lint"))
    session.run("ruff", "check", *CHECKED)
    session.run("ruff", "format", "--check", *CHECKED)


@nox.session
def types(session: nox.Session) -> None:
    """Check types, and what two type checkers make of the public API."""
    install_wheel(session, "types", "e2e", "docs", "bench")
    session.run("mypy")
    session.run("basedpyright", "--pythonpath", str(Path(session.bin) / "python"))


@nox.session
def layers(session: nox.Session) -> None:
    """Check that imports point down only."""
    install_wheel(session, "layers")
    session.run("lint-imports")


def side_by_side(session: nox.Session, *commands: tuple[str, ...]) -> None:
    """Run commands at the same time, each for one processor.

    The output of several comes as they end; each fails the session.
    """
    # Of what is asked for after `--`, there may be nothing in one of them.
    none_selected = (0, 5) if session.posargs else (0,)

    def run(command: tuple[str, ...]) -> None:
        several = len(commands) > 1
        printed = session.run(*command, silent=several, success_codes=none_selected)
        if several:
            session.log(printed)

    with ThreadPoolExecutor(len(commands)) as pool:
        running = [pool.submit(run, command) for command in commands]
    for each in running:
        each.result()  # Fails as its command did.


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Run the tests against the installed wheel, those of one Python under coverage."""
    install_wheel(session, "test", "auto")
    if session.python == COVERED and not session.posargs:
        covered(session)
        return
    pytest = ("pytest", "-m", "not e2e", *session.posargs)
    if session.python in IN_BETWEEN:
        *halves, programs = OF_PYTHON
    else:
        halves, programs = list(HALVES), of_programs(session)
    side_by_side(session, *((*pytest, *half) for half in halves))
    side_by_side(session, (*pytest, *programs))


def of_programs(session: nox.Session) -> tuple[str, ...]:
    """Return the programs of a Python that runs the tests of one process."""
    # With one Python alone, or when some tests are asked for, there is nobody to share them with.
    shared = len(AT_HAND) > 1 and not session.posargs
    return BESIDE_COVERAGE if shared else OF_PROGRAMS


def covered(session: nox.Session) -> None:
    """Run the tests once, and fail where they leave too much of the package alone."""
    # It cannot tell branches before Python 3.14; the tracer that can takes four times as long.
    session.env["COVERAGE_CORE"] = "sysmon"
    # By the script's path and not by -m, which would put the checkout before the wheel.
    pytest = str(Path(session.bin) / "pytest")
    under_coverage = ("coverage", "run", pytest, "-m", "not e2e and not untraced")
    session.run("coverage", "erase")
    side_by_side(session, *((*under_coverage, *half) for half in HALVES))
    session.run(*under_coverage, *UNDER_COVERAGE)
    session.run("coverage", "combine", "--quiet")
    session.run("coverage", "report")
    # What was left out of that, for one processor each.
    ignored = (f"--ignore=tests/{path}" for path in NOT_COVERED)
    alone = len(AT_HAND) == 1
    _, _, *programs = BESIDE_COVERAGE if alone else OF_PYTHON[-1]
    side_by_side(
        session,
        ("pytest", "-m", "not e2e and untraced", "tests", *ignored),
        ("pytest", "-m", "not e2e", *programs),
    )


@nox.session(python=PYTHONS[0])
def minimums(session: nox.Session) -> None:
    """Run the tests with the oldest dependencies that are allowed, and nothing compiled."""
    oldest = [
        requirement.replace(">=", "==").split(",")[0]
        for requirement in (
            *PYPROJECT["project"]["dependencies"],
            *PYPROJECT["project"]["optional-dependencies"]["cli"],
            *PYPROJECT["project"]["optional-dependencies"]["otlp"],
            *PYPROJECT["project"]["optional-dependencies"]["prometheus"],
            *PYPROJECT["project"]["optional-dependencies"]["pprof"],
            *PYPROJECT["project"]["optional-dependencies"]["zstd"],
        )
    ]
    groups = nox.project.dependency_groups(PYPROJECT, "test")
    session.env["STRATATRACE_NO_EXTENSION"] = "1"
    session.install(f".[{EXTRAS}]", *oldest, *groups)
    pytest = ("pytest", "-m", "not e2e", *session.posargs)
    # Limits and streams ask nothing of others that has changed.
    ignored = [f"--ignore=tests/unit/{room}" for room in ("guards", "streams", "pressure", "reuse")]
    side_by_side(
        session,
        (*pytest, *HALF[1:], "tests/unit/reuse", *IN_PROCESS[1:]),
        (*pytest, *HALVES[1], *ignored),
    )
    # Of the programs, those that look most at what others have made.
    side_by_side(session, (*pytest, *SHARING, "tests/unit/exporters"))
    # The oldest of this extra is for an API that is newer than the oldest of all.
    (auto,) = PYPROJECT["project"]["optional-dependencies"]["auto"]
    name, _, version = auto.partition(">=")
    pinned = (f"{package}=={version}" for package in (name, "opentelemetry-distro"))
    session.install(".[cli,auto]", *pinned, *groups)
    its_tests = ("test_instrumentor.py", "test_options.py")
    side_by_side(session, (*pytest, *(f"tests/unit/instrumentation/{test}" for test in its_tests)))


@nox.session
def e2e(session: nox.Session) -> None:
    """Talk to real backends, which the tests start and stop."""
    install_wheel(session, "test", "e2e")
    prereleases = "--prerelease=allow" if session.venv_backend == "uv" else "--pre"
    session.install(prereleases, "rotel")
    session.run(
        # The servers of one file are there for all its tests.
        *("pytest", "-m", "e2e", "-n", "2", "--dist", "loadfile", "tests/integration"),
        *session.posargs,
        env={"STRATATRACE_PHOENIX": str(phoenix(session))},
    )


@nox.session(python=PYTHONS[:2], default=False)
def strataregula(session: nox.Session) -> None:
    """Measure the real strataregula, of which a checkout is given: ``-- PATH``."""
    if len(session.posargs) != 1 or not Path(session.posargs[0], "strataregula").is_dir():
        session.error("say where a checkout of strataregula is: nox -s strataregula -- PATH")
    checkout = str(Path(session.posargs[0]).resolve())
    install_wheel(session, "test", extras="cli,otlp,auto")
    # What it needs beyond what it declares; and what its own tests need.
    session.install("opentelemetry-distro", "jsonschema", "jsonpath-ng", "psutil", "pytest-asyncio")
    # A copy, as building a package leaves files beside its source.
    copy = Path(session.create_tmp()).resolve() / "strataregula"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(checkout, copy, ignore=shutil.ignore_patterns(".git"))
    session.install(str(copy))
    # Two checkouts may say that they are of one version.
    session.install("--force-reinstall", "--no-deps", str(copy))
    session.run("pytest", "-p", "no:asyncio", "tests/unit/instrumentation/strataregula")
    session.run("python", "tests/strataregula_suite/zero_code.py", checkout)
    session.run("python", "tests/strataregula_suite/compare.py", checkout)


def phoenix(session: nox.Session) -> Path:
    """Return a backend's program, whose many pinned packages want an environment of their own."""
    home = Path(session.create_tmp()).resolve() / "phoenix"
    program = home / "bin" / "phoenix"
    if not program.exists():
        session.run("python", "-m", "venv", str(home))
        python = str(home / "bin" / "python")
        if session.venv_backend == "uv":
            session.run("uv", "pip", "install", "-q", "--python", python, "arize-phoenix")
        else:
            session.run(python, "-m", "pip", "install", "-q", "arize-phoenix", external=True)
    return program


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation; every warning is an error."""
    install_wheel(session, "docs", extras=f"{EXTRAS},auto")
    session.run("sphinx-build", "-W", "-q", "-b", "html", "docs", "docs/_build/html")


@nox.session(python=PYTHONS, default=False)
def accuracy(session: nox.Session) -> None:
    """Print truth, measurement and error of every scenario, and write them to the documentation."""
    install_wheel(session, "test")
    rows = Path(session.create_tmp()) / "rows.json"
    session.run("python", "tests/accuracy/table.py", "--json", str(rows))
    session.run("python", "tests/accuracy/leak_table.py")
    all_rows = sorted(str(path) for path in Path(".nox").glob("accuracy-*/tmp/rows.json"))
    session.run(
        *("python", "tests/accuracy/table.py", "--merge", *all_rows),
        *("--write", "docs/accuracy.md"),
    )


@nox.session(default=False)
def bench(session: nox.Session) -> None:
    """Print what measuring costs, as ratios taken side by side in one run."""
    install_wheel(session, "bench")
    session.run("python", "tests/benchmarks/overhead.py")
    session.run("python", "tests/benchmarks/monitoring.py")
    session.run("python", "tests/benchmarks/limits.py")
    session.run("python", "tests/benchmarks/searching.py")
    session.run("python", "tests/benchmarks/streaming.py")
    session.run("python", "tests/benchmarks/storing.py")
    session.run("python", "tests/benchmarks/caching.py")
    session.run("python", "tests/benchmarks/laziness.py")
    session.run("python", "tests/benchmarks/pooling.py")
    session.run("python", "tests/benchmarks/cycles.py")
    session.run("python", "tests/benchmarks/growth.py")
    session.run("python", "tests/benchmarks/soaking.py", "--spans", "100000")
    for peer in nox.project.dependency_groups(PYPROJECT, "peers"):
        # One that is not made for this Python or this machine is left out of the table.
        session.install(peer, success_codes=range(256))
    session.run("python", "tests/benchmarks/workloads.py", *session.posargs)


@nox.session(python=PYTHONS, default=False)
def native(session: nox.Session) -> None:
    """Run CPython's own tests with the native counters on, and the counters under valgrind."""
    install_wheel(session)
    tests = ["json", "dict", "list", "unicode", "generators", "asyncio", "threading"]
    counting = {"PYTHONPATH": str(Path("tests/native").resolve())}
    session.chdir(session.create_tmp())
    session.run("python", "-m", "test", *(f"test_{name}" for name in tests), env=counting)
    session.chdir(session.invoked_from)
    session.run(
        *("valgrind", "--error-exitcode=1", "--num-callers=20"),
        *("python", "tests/parity/exercise.py"),
        external=True,
    )


@nox.session(python=PYTHONS, default=False)
def sanitizers(session: nox.Session) -> None:
    """Run what drives the compiled part under AddressSanitizer and UBSan."""
    libraries = [sanitizer(name) for name in ("libasan.so", "libubsan.so")]
    if not all(libraries):
        session.skip("gcc has no libasan and libubsan here")
    flags = "-fsanitize=address,undefined -fno-sanitize-recover=undefined"
    build = {"CFLAGS": f"-g -O1 -fno-omit-frame-pointer {flags}", "LDFLAGS": flags}
    session.install("setuptools", *nox.project.dependency_groups(PYPROJECT, "test"))
    session.install("--no-build-isolation", f".[{EXTRAS}]", env=build)
    run = {
        "LD_PRELOAD": " ".join(libraries),
        # Python keeps what it has until the end; who asks for too much is told so.
        "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1:quarantine_size_mb=16",
        "UBSAN_OPTIONS": "print_stacktrace=1",
    }
    # Resident memory is the sanitizers' too, and the map lies where they have left it room.
    theirs = "not touched and not memory_of_the_map and not 8_percent and not leave_nothing_behind"
    of_one_process = ("tests/unit/test_compiled.py", "tests/kinds", "tests/accuracy")
    for allocator in ("default", "malloc", "debug"):
        env = {**run, "PYTHONMALLOC": allocator}
        session.run("pytest", "-k", theirs, *of_one_process, *session.posargs, env=env)
        session.run("pytest", "-k", theirs, "-n", "2", "tests/parity", *session.posargs, env=env)


def sanitizer(library: str) -> str:
    """Return the path of a library of the compiler's, or nothing where it has none."""
    if shutil.which("gcc") is None:
        return ""
    printed = subprocess.run(
        ["gcc", f"-print-file-name={library}"], capture_output=True, text=True, check=True
    )
    path = printed.stdout.strip()
    return path if Path(path).is_absolute() else ""
