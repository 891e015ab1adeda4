"""Programs do not notice: results, exceptions, warnings and what is left are as without us."""

from __future__ import annotations

import gc
import pickle
import sys
import warnings
from typing import TYPE_CHECKING, Any

import pytest

from stratatrace.config import Config
from stratatrace.probes import native_obstacle
from stratatrace.testing import recording

from . import scenarios
from .conftest import CONFIG
from .scenarios import PARALLEL, SCENARIOS

if TYPE_CHECKING:
    from stratatrace.instrumentation.strataregula.patches import Patches

    from .conftest import Library, Told
    from .scenarios import Scenario

compiled = pytest.mark.skipif(native_obstacle() is not None, reason="a call has a frame of ours")
ALL = {name: scenario for name, (scenario, _) in SCENARIOS.items()} | {"in parallel": PARALLEL[0]}


def outcome_of(scenario: Scenario, library: Library) -> tuple[str, str]:
    """Return what a scenario returns or raises, with the errors behind it."""
    try:
        return "returned", repr(scenario(library))
    except Exception as error:
        chain = []
        link: BaseException | None = error
        while link is not None:
            chain.append(f"{type(link).__qualname__}: {link}")
            link = link.__cause__ or link.__context__
        return "raised", " <- ".join(chain)


@pytest.mark.parametrize("scenario", ALL.values(), ids=ALL)
def test_a_program_ends_as_without_us(
    library: Library, patches: Patches, scenario: Scenario, capsys: pytest.CaptureFixture[str]
) -> None:
    """What it returns, prints and raises is the same: bare, measured, switched off, and after."""
    outcomes = []
    for config in (None, CONFIG, Config(disabled=True), None):
        library.forget()
        if config is None:
            patches.undo()
            outcomes.append((outcome_of(scenario, library), capsys.readouterr()))
            continue
        patches.apply()
        with recording(config):
            outcomes.append((outcome_of(scenario, library), capsys.readouterr()))
    assert len(set(outcomes)) == 1


def test_an_exception_is_the_same_object(library: Library, told: Told) -> None:
    """What a stage raises reaches the caller; where calls are compiled, with no frame of ours."""
    compiler = library.core__config_compiler.ConfigCompiler(use_plugins=False)
    own = OSError("the disk is gone")

    class Path:
        suffix = ".json"

        def exists(self) -> bool:
            raise own

    with pytest.raises(OSError, match="disk") as caught:
        compiler.compile_traffic_config(Path())
    assert caught.value is own
    frames, traceback = [], own.__traceback__
    while traceback is not None:
        frames.append(traceback.tb_frame.f_globals["__name__"])
        traceback = traceback.tb_next
    if native_obstacle() is None:
        assert not [name for name in frames if name.startswith("stratatrace")]
    assert told.ended[1:] == [
        "ConfigCompiler.compile_traffic_config !",
        "  ConfigCompiler._load_file !",
    ]


@compiled
def test_a_warning_is_of_whom_it_was_of(library: Library, told: Told) -> None:
    """A warning of the caller's names the caller's file: no frame of ours stands between."""
    kernel = library.kernel.Kernel()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        kernel.compile({})
    assert [warning.filename for warning in caught] == [__file__]
    assert told.ended == ["Kernel.compile", "  Kernel._compile"]


def test_without_jsonschema_a_compiler_fails_as_it_does(
    library: Library, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its constructor fails, and the span says so; without plugins it works."""
    monkeypatch.setitem(sys.modules, "jsonschema", None)
    compilers = library.core__config_compiler
    with pytest.raises(ImportError):
        compilers.ConfigCompiler()
    compilers.ConfigCompiler(use_plugins=False)
    assert told.ended == ["ConfigCompiler.__init__ !", "ConfigCompiler.__init__"]
    assert (told.spans[0].attributes or {})["error.type"] == "ModuleNotFoundError"


def test_a_stream_that_is_dropped_is_told_of(library: Library, told: Told) -> None:
    """Also where nobody closes it; and one that was never begun is not."""
    expander = library.core__pattern_expander.EnhancedPatternExpander()
    expander.expand_pattern_stream({"a": 1})
    begun = expander.expand_pattern_stream({"a": 1, "b": 2})
    next(begun)
    del begun
    gc.collect()
    assert told.of("EnhancedPatternExpander.expand_pattern_stream")["expansions"] == 1


def test_a_stream_goes_on_where_the_real_one_does(library: Library, told: Told) -> None:
    """After a close that was swallowed the next item comes, as without us."""
    stream = scenarios._plugged(library).expand_pattern_stream({"plug.a": 1})
    next(stream)
    with pytest.raises(RuntimeError, match="ignored GeneratorExit"):
        stream.close()
    assert list(stream) == []
    assert told.ended[-1] == "EnhancedPatternExpander.expand_pattern_stream"


def test_what_is_sent_and_thrown_in_arrives(library: Library, told: Told) -> None:
    """A stream is the generator that it is without us."""
    expander = library.core__pattern_expander.EnhancedPatternExpander()
    stream = expander.expand_pattern_stream({"a": 1, "b": 2})
    assert stream.send(None) == ("a", 1)
    own = KeyError("own")
    with pytest.raises(KeyError) as caught:
        stream.throw(own)
    assert caught.value is own
    assert list(stream) == []
    assert told.ended == ["EnhancedPatternExpander.expand_pattern_stream !"]
    assert stream.__name__ == "expand_pattern_stream"


def test_callables_keep_what_they_are(library: Library, told: Told) -> None:
    """Signatures, names and kinds are those of the originals, and methods can be pickled."""
    del told
    import inspect  # noqa: PLC0415 -- of this test alone

    expanders, compilers = library.core__pattern_expander, library.core__config_compiler
    expander = expanders.EnhancedPatternExpander
    assert inspect.isgeneratorfunction(expander.expand_pattern_stream)
    assert list(inspect.signature(expander.expand_pattern_stream).parameters) == [
        "self",
        "patterns",
    ]
    assert list(inspect.signature(compilers.ConfigCompiler).parameters) == ["config", "use_plugins"]
    assert inspect.isasyncgenfunction(
        library.stream__processor.StreamProcessor.process_stream_async
    )
    command = library.json_processor__commands.JSONMergeCommand
    assert inspect.iscoroutinefunction(command.execute)
    assert pickle.loads(pickle.dumps(compilers.compile_config)) is compilers.compile_config


def test_notes_that_fail_change_nothing(
    library: Library, patches: Patches, caplog: pytest.LogCaptureFixture
) -> None:
    """What cannot be read off a call is missing, the failure is counted and logged, no more."""

    class Odd(dict[str, Any]):
        def __len__(self) -> int:
            msg = "nobody counts me"
            raise RuntimeError(msg)

    patches.apply()
    kernels = library.core__pattern_expander
    with recording(Config(probe="rss"), strict=False) as sink:
        mapping = kernels.EnhancedPatternExpander().compile_to_static_mapping(Odd({"a": 1}))
        assert mapping["component_mapping"] == {"a": 1}
    assert [m.callsite.name.rpartition(".")[2] for m in sink.measurements] == [
        "expand_pattern_stream",
        "compile_to_static_mapping",
    ]
    assert len([record for record in caplog.records if record.name == "stratatrace"]) == 2
