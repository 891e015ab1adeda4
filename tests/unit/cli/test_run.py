"""``stratatrace run``: the program is as without us, and its calls are measured."""

from __future__ import annotations

import json
import os
import signal
import sys
import textwrap
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import Run

PROGRAMS = {
    "main": """
        import os, sys
        main = sys.modules["__main__"]
        spec = getattr(__spec__, "name", None)
        print(sys.argv, __name__, __file__, spec, __package__, sys.path[0])
        print(main.__dict__ is globals(), sorted(n for n in globals() if n != "__annotations__"))
        print(sorted(n for n in os.environ if n.startswith(("PYTHON", "STRATATRACE"))))
        print(sys.flags.dev_mode, type(sys.gettrace()).__name__)
    """,
    "raises": """
        def inner():
            raise ValueError("boom")
        def outer():
            try:
                inner()
            except ValueError as error:
                raise KeyError("chained") from error
        outer()
    """,
    "exit code": "import sys; sys.exit(7)",
    "exit message": "import sys; sys.exit('no such thing')",
    "exit in thread": """
        import threading, sys
        ended = threading.Event()
        def work():
            ended.wait()
            print("from a thread")
        threading.Thread(target=work).start()
        print("main is done")
        ended.set()
    """,
    "atexit": """
        import atexit
        atexit.register(print, "at exit")
        print("before")
    """,
    "os._exit": "import os; print('gone', flush=True); os._exit(3)",
    "killed": "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
    "terminated": "import os, signal; os.kill(os.getpid(), signal.SIGTERM)",
    "interrupted": "import os, signal; os.kill(os.getpid(), signal.SIGINT)",
    "stdin": "import sys; print(sys.stdin.read().upper())",
    "syntax error": "def broken(:",
    "pickles main": """
        import pickle
        class Point:
            def __init__(self, x): self.x = x
        def function(): return 1
        print(pickle.loads(pickle.dumps(Point(3))).x, pickle.loads(pickle.dumps(function))())
    """,
    "spawns": """
        import multiprocessing
        def square(x): return x * x
        if __name__ == "__main__":
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                print(pool.map(square, range(4)))
    """,
    "asyncio": """
        import asyncio
        async def main(): await asyncio.sleep(0); print("ran")
        asyncio.run(main())
    """,
    "stack": "import traceback; traceback.print_stack()",
    "warns": "import warnings; warnings.warn('careful')",
    "own provider": """
        from opentelemetry import trace
        from opentelemetry.sdk.trace import TracerProvider
        provider = TracerProvider()
        trace.set_tracer_provider(provider)
        print(trace.get_tracer_provider() is provider)
    """,
    "recursion": """
        def depth(n=0):
            try: return depth(n + 1)
            except RecursionError: return n
        print(depth())
    """,
}


@pytest.mark.parametrize("form", ["script", "module"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_is_as_without_us(
    name: str, form: str, tmp_path: Path, run: Run, measured: Run
) -> None:
    """Exit status, stdout and stderr are those of the interpreter alone, also of a module."""
    (tmp_path / "program.py").write_text(textwrap.dedent(PROGRAMS[name]))
    words = ["program.py", "one", "--two"] if form == "script" else ["-m", "program", "one", "-q"]
    alone = run(*words, input="text")
    with_us = measured("--quiet", *words, input="text")
    assert with_us.returncode == alone.returncode
    assert with_us.stdout == alone.stdout
    assert with_us.stderr == alone.stderr


@pytest.mark.parametrize("flags", [["-X", "dev"], ["-O"], ["-W", "error"]])
def test_the_interpreters_own_options_are_kept(flags: list[str], tmp_path: Path, run: Run) -> None:
    """``python -X dev -m stratatrace run`` runs the program with -X dev."""
    (tmp_path / "program.py").write_text(
        "import sys; print(sys.flags, sys.warnoptions, sys.orig_argv[1:])"
    )
    alone = run(*flags, "program.py", "a")
    with_us = run(*flags, "-m", "stratatrace", "run", "-q", "program.py", "a")
    assert with_us.stdout == alone.stdout


def test_a_sitecustomize_of_the_environment_is_still_run(tmp_path: Path, measured: Run) -> None:
    """Ours goes in front of one that was there, and hands over to it."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text("print('theirs')")
    (tmp_path / "program.py").write_text(
        "import os, sitecustomize; print(sitecustomize.__file__, os.environ['PYTHONPATH'])"
    )
    theirs = tmp_path / "site"
    path = os.pathsep.join(filter(None, [str(theirs), os.environ.get("PYTHONPATH")]))
    done = measured("-q", "program.py", env={"PYTHONPATH": path})
    assert done.stdout.endswith(f"theirs\n{theirs / 'sitecustomize.py'} {path}\n")


DECORATED = """
    from stratatrace import profile_memory

    @profile_memory
    def keep(size):
        return bytearray(size)

    kept = [keep(1_000_000) for _ in range(3)]
"""


def spans_of(path: Path) -> list[dict[str, object]]:
    """Return the attributes of each span of a file, with its name."""
    found = []
    for line in path.read_text().splitlines():
        for resource in json.loads(line)["resourceSpans"]:
            for span in resource["scopeSpans"][0]["spans"]:
                values = {a["key"]: next(iter(a["value"].values())) for a in span["attributes"]}
                found.append({"name": span["name"], **values})
    return found


def test_the_table_shows_decorated_functions(tmp_path: Path, measured: Run) -> None:
    """Calls, worst and summed peak, and net heap of a function stand in its row, on stderr."""
    (tmp_path / "program.py").write_text(textwrap.dedent(DECORATED))
    done = measured("program.py")
    assert done.stdout == ""
    heading, row, note = done.stderr.splitlines()
    assert heading.split()[:3] == ["callsite", "calls", "worst"]
    words = row.split()
    assert words[:2] == ["__main__.keep", "3"]
    assert [float(words[i]) for i in (2, 4, 6)] == pytest.approx([976.6, 2.9, 2.9], rel=0.01)
    assert note == "Spans and metrics are in stratatrace.jsonl"


def test_the_file_holds_spans_and_metrics(tmp_path: Path, measured: Run) -> None:
    """Every line is an OTLP request; ids are hex; the service is named after the script."""
    (tmp_path / "program.py").write_text(textwrap.dedent(DECORATED))
    measured("-o", "out.jsonl", "program.py")
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert all("resourceSpans" in line for line in lines), "Jaeger wants it in every line"
    (spans,) = [line["resourceSpans"][0] for line in lines if line["resourceSpans"]]
    resource = {a["key"]: a["value"] for a in spans["resource"]["attributes"]}
    assert resource["service.name"] == {"stringValue": "program"}
    assert "intValue" in resource["process.pid"]
    assert [len(s["traceId"]) for s in spans["scopeSpans"][0]["spans"]] == [32] * 3
    assert [len(s["spanId"]) for s in spans["scopeSpans"][0]["spans"]] == [16] * 3
    for span in spans_of(tmp_path / "out.jsonl"):
        assert int(str(span["stratatrace.heap.peak"])) == pytest.approx(1_000_000, rel=0.01)
        assert span["stratatrace.attribution"] == "exact"
    (metrics,) = [line["resourceMetrics"] for line in lines if "resourceMetrics" in line]
    names = {m["name"] for m in metrics[0]["scopeMetrics"][0]["metrics"]}
    assert {"stratatrace.call.count", "stratatrace.heap.net", "stratatrace.call.heap.peak"} <= names


MODULE = """
    def load(n): return [bytes(1000) for _ in range(n)]
    def _private(): pass
    def public(): _private()
    class Job:
        def __init__(self, n): self.n = n
        def run(self): return len(load(self.n))
        @staticmethod
        def static(): return 1
        @classmethod
        def make(cls): return cls(10)
        async def work(self): return bytearray(10)
        class Inner:
            def deep(self): return 1
"""
USE = """
    import asyncio
    {imports}
    job = Job.make()
    job.run(); Job.static(); asyncio.run(job.work()); public(); Job.Inner().deep()
"""


@pytest.mark.parametrize("where", ["imported", "script"])
@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("{}:load", {"load"}),
        ("{}:Job.run", {"Job.run"}),
        ("{}:Job", {"Job.run", "Job.static", "Job.make", "Job.work"}),
        ("{}:Job.__init__", {"Job.__init__"}),
        ("{}:_private", {"_private"}),
        ("{}:*.deep", {"Job.Inner.deep"}),
        ("{}:Job.*a*", {"Job.static", "Job.make"}),
        (
            "{}:*",
            {"load", "public", "Job.run", "Job.static", "Job.make", "Job.work", "Job.Inner.deep"},
        ),
    ],
)
def test_patterns_name_functions_that_nobody_decorated(
    where: str, pattern: str, names: set[str], tmp_path: Path, measured: Run
) -> None:
    """Functions of an imported module, or of the script itself, are measured by pattern."""
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").touch()
    source = textwrap.dedent(MODULE)
    (tmp_path / "package" / "module.py").write_text(source)
    use = textwrap.dedent(USE)
    if where == "script":
        (tmp_path / "program.py").write_text(source + use.format(imports=""))
        module = "__main__"
    else:
        imports = "from package.module import Job, load, public"
        (tmp_path / "program.py").write_text(use.format(imports=imports))
        module = "package.module"
    done = measured("-o", "out.jsonl", "--profile", pattern.format(module), "program.py")
    assert done.returncode == 0, done.stderr
    assert "matched nothing" not in done.stderr
    assert {str(span["name"]) for span in spans_of(tmp_path / "out.jsonl")} == names


def test_the_script_may_be_meant_by_its_name(tmp_path: Path, measured: Run) -> None:
    """``--profile program:load`` means ``__main__:load`` when program.py is what is run."""
    (tmp_path / "program.py").write_text("def load(): pass\nload()\n")
    measured("-o", "out.jsonl", "--profile", "program:load", "program.py")
    assert [span["name"] for span in spans_of(tmp_path / "out.jsonl")] == ["load"]


def test_a_module_pattern_reaches_modules_imported_before(tmp_path: Path, measured: Run) -> None:
    """A module that the interpreter had imported before the program is patched as well."""
    (tmp_path / "program.py").write_text("import json; json.dumps({1: 2})")
    patterns = ["--profile", "json:dumps", "--profile", "json.*:JSONEncoder.encode"]
    measured("-o", "out.jsonl", *patterns, "program.py")
    names = {span["name"] for span in spans_of(tmp_path / "out.jsonl")}
    assert names == {"dumps", "JSONEncoder.encode"}


@pytest.mark.parametrize("pattern", ["*:*", "logging:*", "opentelemetry*:*", "contextlib:*"])
def test_a_pattern_that_names_everything_breaks_nothing(
    pattern: str, tmp_path: Path, measured: Run
) -> None:
    """Also where it names what stratatrace itself is made of, or calls."""
    (tmp_path / "program.py").write_text(
        "import logging, contextlib\ndef load(): logging.error('told')\nload()\nprint('done')\n"
    )
    done = measured("-q", "--profile", pattern, "program.py")
    assert (done.returncode, done.stdout) == (0, "done\n")
    assert done.stderr.splitlines()[0] == "ERROR:root:told"


def test_a_program_may_come_by_stdin(measured: Run) -> None:
    """``stratatrace run -`` is ``python -``."""
    assert measured("-q", "-", "a", input="import sys; print(sys.argv)").stdout == "['-', 'a']\n"


def test_what_is_decorated_is_not_measured_twice(tmp_path: Path, measured: Run) -> None:
    """A pattern that matches a decorated function leaves it alone."""
    (tmp_path / "program.py").write_text(textwrap.dedent(DECORATED))
    measured("-o", "out.jsonl", "--profile", "__main__:*", "program.py")
    assert len(spans_of(tmp_path / "out.jsonl")) == 3


def test_tracing_of_the_script_ends_when_its_functions_are_defined(
    tmp_path: Path, measured: Run
) -> None:
    """After the definitions no trace function is left, though a pattern may match anything."""
    (tmp_path / "program.py").write_text(
        "import sys\ndef load(): pass\ndef main(): print(sys.gettrace()); load()\nmain()\n"
    )
    assert measured("-q", "--profile", "__main__:*", "program.py").stdout == "None\n"


@pytest.mark.parametrize(
    ("pattern", "complaint"),
    [
        ("no.such:thing", "no module 'no.such' was imported"),
        ("json:no_such", "'json' has no function 'no_such'"),
    ],
)
def test_a_pattern_that_matched_nothing_is_named(
    pattern: str, complaint: str, tmp_path: Path, measured: Run
) -> None:
    """After the run, by name, with the reason; the exit status is the program's."""
    (tmp_path / "program.py").write_text("import json, sys; sys.exit(5)")
    done = measured("-q", "--profile", pattern, "program.py")
    assert done.returncode == 5
    assert done.stderr == f"stratatrace: --profile {pattern!r} matched nothing: {complaint}\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nope.py"], "there is no script 'nope.py'"),
        ([], "nothing to run"),
        (["-m"], "-m needs the name of a module"),
        (["--profile", "nonsense", "program.py"], "'nonsense' is not a pattern"),
        (["--profile", ":f", "program.py"], "':f' is not a pattern"),
        (["--probe", "tea leaves", "program.py"], "there is no probe 'tea leaves'"),
        (["--sample-ratio", "2", "program.py"], "sample_ratio is a share of the calls"),
        (["--endpoint", "nowhere", "program.py"], "an endpoint is a URL"),
        (["--endpoint", "http://h:port", "program.py"], "an endpoint is a URL"),
        (["-o", "no/such/folder.jsonl", "program.py"], "telemetry cannot be written to"),
    ],
)
def test_what_cannot_be_run_is_one_line_and_exit_status_2(
    words: list[str], said: str, tmp_path: Path, measured: Run
) -> None:
    """A mistake on the command line is told in one line, and the program is not run."""
    (tmp_path / "program.py").write_text("print('ran')")
    done = measured(*words)
    assert done.returncode == 2
    assert done.stdout == ""
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_an_unknown_option_is_refused(tmp_path: Path, measured: Run) -> None:
    """An option that does not exist is not handed to the program."""
    (tmp_path / "program.py").write_text("print('ran')")
    done = measured("--fast", "program.py")
    assert done.returncode == 2
    assert "--fast" in done.stderr


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_an_unreachable_endpoint_costs_one_warning_and_no_exit_status(
    protocol: str, tmp_path: Path, measured: Run
) -> None:
    """One warning, the count of lost spans, the program's own status; the table is there."""
    (tmp_path / "program.py").write_text(
        textwrap.dedent(DECORATED) + "print('done')\nraise SystemExit(4)\n"
    )
    done = measured(
        *("--endpoint", "http://127.0.0.1:9", "program.py"),
        # The SDK would go on trying for half a minute.
        env={"OTEL_EXPORTER_OTLP_PROTOCOL": protocol, "OTEL_EXPORTER_OTLP_TIMEOUT": "60"},
        timeout=15,
    )
    assert (done.returncode, done.stdout) == (4, "done\n")
    warnings = [line for line in done.stderr.splitlines() if line.startswith("stratatrace ")]
    assert len(warnings) == 2, done.stderr
    assert warnings[0].startswith("stratatrace cannot deliver to http://127.0.0.1:9")
    assert warnings[1] == "stratatrace lost 3 spans, which could not be delivered"
    assert "__main__.keep" in done.stderr
    assert list(tmp_path.iterdir()) == [tmp_path / "program.py"], "no file was asked for"


def test_forked_children_are_in_the_file_and_the_table(tmp_path: Path, measured: Run) -> None:
    """Pools, processes and bare forks append to one file; one table is shown."""
    (tmp_path / "program.py").write_text(
        textwrap.dedent("""
            import multiprocessing, os, sys
            from stratatrace import profile_memory

            @profile_memory
            def work(size):
                return len(bytearray(size))

            context = multiprocessing.get_context("fork")
            with context.Pool(2) as pool:
                pool.map(work, [1_000_000] * 4)
            process = context.Process(target=work, args=(1_000_000,))
            process.start()
            process.join()
            if not (pid := os.fork()):
                work(1_000_000)
                sys.exit()
            os.waitpid(pid, 0)
        """)
    )
    done = measured("program.py")
    assert [line.split()[:2] for line in done.stderr.splitlines()[1:2]] == [["__main__.work", "6"]]
    pids = {
        next(
            a["value"]["intValue"] for a in r["resource"]["attributes"] if a["key"] == "process.pid"
        )
        for line in (tmp_path / "stratatrace.jsonl").read_text().splitlines()
        for r in json.loads(line)["resourceSpans"]
    }
    assert len(pids) >= 3


@pytest.mark.parametrize("start_method", ["spawn", "forkserver"])
def test_workers_that_were_started_anew_are_in_the_table(
    start_method: str, tmp_path: Path, measured: Run
) -> None:
    """Where their work comes by `propagate`: they write to the file of the run."""
    (tmp_path / "program.py").write_text(
        textwrap.dedent(f"""
            import multiprocessing
            from stratatrace import profile_memory, propagate

            @profile_memory
            def work(size):
                return len(bytearray(size))

            if __name__ == "__main__":
                with multiprocessing.get_context("{start_method}").Pool(2) as pool:
                    pool.map(propagate(work), [1_000_000] * 4)
        """)
    )
    done = measured("program.py")
    assert [line.split()[:2] for line in done.stderr.splitlines()[1:2]] == [["__main__.work", "4"]]
    assert len(spans_of(tmp_path / "stratatrace.jsonl")) == 4


def test_a_program_that_configures_itself_keeps_the_numbers_of_the_run(
    tmp_path: Path, measured: Run
) -> None:
    """``configure()`` inside the program leaves the command line's file and probe in place."""
    (tmp_path / "program.py").write_text(
        "import stratatrace\nstratatrace.configure(probe='rss', output='own.jsonl')\n"
        + textwrap.dedent(DECORATED)
    )
    measured("-o", "out.jsonl", "program.py")
    assert len(spans_of(tmp_path / "out.jsonl")) == 3
    assert all("stratatrace.heap.peak" in span for span in spans_of(tmp_path / "out.jsonl"))
    assert not (tmp_path / "own.jsonl").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="signals end no process there")
def test_a_killed_program_leaves_a_file_that_can_be_read(
    tmp_path: Path, measured: Run, run: Run
) -> None:
    """What ended a second before the kill is in the file; ``report`` shows it."""
    (tmp_path / "program.py").write_text(
        textwrap.dedent(DECORATED)
        + "import os, signal, time\ntime.sleep(1.1)\nkeep(10)\nos.kill(os.getpid(), 9)\n"
    )
    assert measured("program.py").returncode == -signal.SIGKILL
    assert "__main__.keep      4" in run("-m", "stratatrace", "report", "stratatrace.jsonl").stdout


def test_help_and_version(run: Run) -> None:
    """``--help`` names the commands and options; ``--version`` is the package's."""
    assert {"run", "report"} <= set(run("-m", "stratatrace", "--help").stdout.split())
    said = run("-m", "stratatrace", "run", "--help").stdout
    for option in ("--profile", "--probe", "--sample-ratio", "--output", "--endpoint", "--quiet"):
        assert option in said
    assert run("-m", "stratatrace", "--version").stdout.startswith("stratatrace ")
