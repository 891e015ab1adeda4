"""Programs that know nothing of us, started by the real ``opentelemetry-instrument``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

COMMAND = Path(sys.executable).with_name("opentelemetry-instrument")
pytestmark = pytest.mark.skipif(
    not COMMAND.exists(),
    reason="opentelemetry-instrument is not here; its first version that takes our wrapt is for a "
    "newer API than the oldest that we take",
)


class Told(NamedTuple):
    """What a program has printed, and the spans that the SDK has printed at its end."""

    stdout: str
    stderr: str
    spans: list[dict[str, Any]]

    def named(self, name: str) -> dict[str, Any]:
        """Return the one span of that name."""
        (span,) = [span for span in self.spans if span["name"] == name]
        return span


@pytest.fixture
def instrumented(tmp_path: Path) -> Callable[..., Told]:
    """Run the program in a folder of its own, where its modules are."""

    def run(
        program: str, *flags: str, modules: dict[str, str] | None = None, **environment: str
    ) -> Told:
        for name, source in {"program": program, **(modules or {})}.items():
            (tmp_path / f"{name}.py").write_text(textwrap.dedent(source))
        kept = {k: v for k, v in os.environ.items() if not k.startswith("OTEL_")}
        exporters = {"TRACES": "console", "METRICS": "none", "LOGS": "none"}
        done = subprocess.run(
            [str(COMMAND), *flags, sys.executable, "program.py"],
            cwd=tmp_path,
            env={
                **kept,
                **{f"OTEL_{signal}_EXPORTER": name for signal, name in exporters.items()},
                **environment,
            },
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        printed, spans = _apart(done.stdout)
        return Told(printed, done.stderr, spans)

    return run


def _apart(stdout: str) -> tuple[str, list[dict[str, Any]]]:
    """Return what the program has printed, and what the console exporter has."""
    printed, spans, at = "", [], 0
    decoder = json.JSONDecoder()
    while at < len(stdout):
        if stdout.startswith("{\n", at):
            span, at = decoder.raw_decode(stdout, at)
            spans.append(span)
            at += stdout.startswith("\n", at)
        else:
            end = stdout.find("\n", at) + 1 or len(stdout)
            printed += stdout[at:end]
            at = end
    return printed, spans


def numbers(span: dict[str, Any]) -> set[str]:
    """Return the names of our attributes of a span."""
    return {name for name in span["attributes"] if name.startswith("stratatrace.")}


PROGRAM = """
    from opentelemetry import trace
    import library

    def grow(size):
        return bytearray(size)

    with trace.get_tracer("app").start_as_current_span("request"):
        kept = [library.load(3_000_000), grow(1_000_000)]
    print("done")
"""
LIBRARY = {"library": "def load(size): return bytearray(size)\ndef other(): pass\n"}


def test_every_span_of_a_program_has_numbers(instrumented: Callable[..., Told]) -> None:
    """Without a line in it, nor an option; it prints what it prints, and no warning."""
    told = instrumented(PROGRAM, modules=LIBRARY, PYTHONWARNINGS="error")
    assert (told.stdout, told.stderr) == ("done\n", "")
    (request,) = told.spans
    assert "stratatrace.heap.peak" in numbers(request)


@pytest.mark.parametrize("way", ["flag", "variable"])
def test_functions_are_named_by_pattern(way: str, instrumented: Callable[..., Told]) -> None:
    """Of a module, and of the script by either name; a wrong one leaves the others."""
    patterns = "library:load, nonsense ,program:*,no.such:thing"
    given: dict[str, str] = {}
    flags: list[str] = []
    if way == "flag":
        flags = ["--stratatrace_profile", patterns, "--stratatrace_spans", "false"]
    else:
        given = {
            "OTEL_PYTHON_STRATATRACE_PROFILE": patterns,
            "OTEL_PYTHON_STRATATRACE_SPANS": "false",
        }
    told = instrumented(PROGRAM, *flags, modules=LIBRARY, **given)
    assert told.stdout == "done\n"
    sizes = {"load": 3_000_000, "grow": 1_000_000}
    for name, size in sizes.items():
        span = told.named(name)
        assert span["attributes"]["stratatrace.heap.peak"] == pytest.approx(size, rel=0.01)
        assert span["parent_id"] == told.named("request")["context"]["span_id"]
    assert len(told.spans) == 3
    assert not numbers(told.named("request"))
    wrong, unmatched = told.stderr.splitlines()
    assert "'nonsense' is not a pattern" in wrong
    assert "'no.such:thing' matched nothing: no module 'no.such' was imported" in unmatched


def test_a_module_that_is_run_may_be_meant_by_its_name(
    instrumented: Callable[..., Told], tmp_path: Path
) -> None:
    """``python -m package.tool`` is ``package.tool:*``."""
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "tool.py").write_text("def grow(): pass\ngrow()\n")
    starter = "import os, sys; os.execv(sys.executable, [sys.executable, '-m', 'package.tool'])"
    told = instrumented(starter, "--stratatrace_profile", "package.tool:grow")
    assert [span["name"] for span in told.spans] == ["grow"]
    assert "matched nothing" not in told.stderr


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--stratatrace_probe", "magic"], "there is no probe 'magic'"),
        (["--stratatrace_min_duration_seconds", "soon"], "MIN_DURATION_SECONDS='soon'"),
        (["--stratatrace_propagate", "perhaps"], "expected true or false"),
    ],
)
def test_a_wrong_flag_is_logged_once(
    flags: list[str], said: str, instrumented: Callable[..., Told]
) -> None:
    """And the program runs, measured by what is the default."""
    told = instrumented(PROGRAM, *flags, modules=LIBRARY)
    assert told.stdout == "done\n"
    assert said in told.stderr
    assert told.stderr.count("\n") == 1
    assert numbers(told.named("request"))


DECLARED = """\
file_format: "1.0"
tracer_provider:
  processors:
    - simple:
        exporter:
          console:
instrumentation/development:
  python:
    stratatrace:
      probe: tracemalloc
      profile: [library:load, nonsense]
      spans: false
      propogate: true
"""


@pytest.mark.parametrize("others", ["all", "none"])
def test_options_come_from_the_declarative_file(
    others: str, instrumented: Callable[..., Told], tmp_path: Path
) -> None:
    """As in code, but that mistakes are logged; with the instrumentors of the file alone, too."""
    pytest.importorskip("opentelemetry.configuration")
    (tmp_path / "otel.yaml").write_text(DECLARED)
    given = {"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "*"} if others == "none" else {}
    told = instrumented(PROGRAM, modules=LIBRARY, OTEL_CONFIG_FILE="otel.yaml", **given)
    assert told.stdout == "done\n"
    load = told.named("load")
    assert load["attributes"]["stratatrace.probe"] == "tracemalloc"
    assert not numbers(told.named("request"))
    ours = [line for line in told.stderr.splitlines() if "stratatrace" in line]
    assert len(ours) == 2
    assert "'nonsense' is not a pattern" in ours[0]
    assert "propogate of the configuration file, which is no option: did you mean" in ours[1]
    # The warning that it is started twice is OpenTelemetry's own, of each that the file names.
    assert ("while already instrumented" in told.stderr) is (others == "all")


POOLS = """
    import multiprocessing
    import sys
    from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
    from opentelemetry import trace
    from library import work

    def submit(pool):
        return [*pool.map(work, [1, 2]), pool.submit(work, 3).result(60)]

    if __name__ == "__main__":
        context = multiprocessing.get_context("{method}")
        with trace.get_tracer("app").start_as_current_span("request"):
            with ThreadPoolExecutor(2) as threads:
                print(submit(threads))
            with ProcessPoolExecutor(1, mp_context=context) as processes:
                print(submit(processes))
"""
WORK = {"library": "def work(item): return len(bytearray(item * 1_000_000))\n"}


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_workers_join_the_trace(method: str, instrumented: Callable[..., Told]) -> None:
    """Those of threads and of processes, on request, with the numbers of each; none is lost."""
    told = instrumented(
        POOLS.format(method=method),
        *("--stratatrace_propagate", "true", "--stratatrace_profile", "library:work"),
        modules=WORK,
        OTEL_PYTHON_STRATATRACE_PROBE="tracemalloc",
    )
    assert told.stdout == "[1000000, 2000000, 3000000]\n" * 2
    request = told.named("request")
    work = [span for span in told.spans if span["name"] == "work"]
    assert {span["parent_id"] for span in work} == {request["context"]["span_id"]}
    assert {span["context"]["trace_id"] for span in work} == {request["context"]["trace_id"]}
    peaks = sorted(span["attributes"]["stratatrace.heap.peak"] for span in work)
    assert peaks == pytest.approx(sorted([1e6, 2e6, 3e6] * 2), rel=0.05)
    assert told.stderr == ""


def test_workers_have_traces_of_their_own_unasked(instrumented: Callable[..., Told]) -> None:
    """As without us: executors are not touched."""
    told = instrumented(
        POOLS.format(method="spawn"), "--stratatrace_profile", "library:work", modules=WORK
    )
    assert {span["parent_id"] for span in told.spans if span["name"] == "work"} == {None}


def test_a_program_may_take_it_back(instrumented: Callable[..., Told]) -> None:
    """By the one instrumentor that there is: nothing is measured any more, and nothing told of."""
    told = instrumented(
        """
        import inspect
        from concurrent.futures import ThreadPoolExecutor
        from stratatrace.instrumentation import StratatraceInstrumentor
        patched = ThreadPoolExecutor.submit
        StratatraceInstrumentor().uninstrument()
        bare = ThreadPoolExecutor.submit
        print(patched is not bare, bare is inspect.unwrap(patched))
        import library
        from opentelemetry import trace
        with trace.get_tracer("app").start_as_current_span("request"):
            library.load(1)
        """,
        *("--stratatrace_profile", "library:*,no.such:thing", "--stratatrace_propagate", "true"),
        modules=LIBRARY,
    )
    assert (told.stdout, told.stderr) == ("True True\n", "")
    assert not numbers(told.named("request"))
    assert len(told.spans) == 1


def test_every_flag_is_in_the_help() -> None:
    """Of the command itself, for each variable."""
    from stratatrace.instrumentation.options import OPTIONS  # noqa: PLC0415 -- it is for this test

    done = subprocess.run(
        [str(COMMAND), "--help"], capture_output=True, text=True, check=True, timeout=60
    )
    for option in OPTIONS:
        assert f"--stratatrace_{option.name} " in done.stdout


def test_importing_the_package_imports_no_instrumentor() -> None:
    """Nor does asking for the options; without the package for it, an error says what to do."""
    program = """
        import sys
        import stratatrace, stratatrace.instrumentation.options
        print([name for name in sys.modules if name.startswith("opentelemetry.instrumentation")])
        sys.modules["opentelemetry.instrumentation"] = None
        try:
            from stratatrace.instrumentation import StratatraceInstrumentor
        except stratatrace.StratatraceError as error:
            print(type(error).__name__, error)
        print(hasattr(stratatrace.instrumentation, "other"))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    loaded, said, other = done.stdout.splitlines()
    assert (loaded, other) == ("[]", "False")
    assert said.startswith("MissingExtraError StratatraceInstrumentor needs packages")
    assert "pip install 'stratatrace[auto]'" in said


def test_both_commands_may_be_used_at_once(
    instrumented: Callable[..., Told], tmp_path: Path
) -> None:
    """What `stratatrace run` was told stands, and the program's own spans have numbers too."""
    starter = """
        import os, sys
        words = [sys.executable, "-m", "stratatrace", "run", "-q", "-o", "run.jsonl"]
        os.execv(sys.executable, [*words, "--profile", "library:load", "inner.py"])
    """
    told = instrumented(starter, modules={**LIBRARY, "inner": PROGRAM})
    assert told.stdout == "done\n"
    (request,) = told.spans
    assert "stratatrace.heap.peak" in numbers(request)
    written = (tmp_path / "run.jsonl").read_text()
    assert '"name":"load"' in written.replace(" ", "")
    assert '"request"' not in written
