"""Tasks of thread and process pools carry the trace that is current when they are submitted."""

from __future__ import annotations

import asyncio
import functools
import inspect
import multiprocessing
import re
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry import baggage, context
from tracing import untraced

from stratatrace import propagate
from stratatrace.patching import PatchTable
from stratatrace.propagation import propagate_all

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def tenant() -> Iterator[Callable[[str], None]]:
    """Return what sets who the current work is for; it is nobody's again afterwards."""
    token = context.attach(context.Context())

    def set_tenant(name: str) -> None:
        context.attach(baggage.set_baggage("tenant", name))

    yield set_tenant
    context.detach(token)


def whose() -> str:
    """Return whom the current work is for."""
    return str(baggage.get_baggage("tenant"))


def whose_each(_item: int) -> str:
    """Likewise."""
    return whose()


def test_every_task_of_an_executor_carries_its_own_trace(tenant: Callable[[str], None]) -> None:
    """By submit, by map and from an event loop: what was current when it was submitted."""

    async def in_loop(pool: ThreadPoolExecutor) -> str:
        return await asyncio.get_running_loop().run_in_executor(pool, whose)

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(whose).result(30) == "None"
        assert propagate(pool) is pool
        seen = []
        for name in ("acme", "umbrella"):
            tenant(name)
            seen.append(
                [
                    pool.submit(whose).result(30),
                    *pool.map(whose_each, range(2), timeout=30),
                    asyncio.run(in_loop(pool)),
                ]
            )
        assert seen == [["acme"] * 4, ["umbrella"] * 4]
        # The worker itself is nobody's in between.
        assert ThreadPoolExecutor.submit(pool, whose).result(30) == "None"


def test_an_executor_is_asked_once_and_a_task_may_have_its_own() -> None:
    """Asked for again it is no deeper, and what `propagate` was given before stays as it is."""
    token = context.attach(baggage.set_baggage("tenant", "acme"))
    own = propagate(whose)
    context.detach(token)
    with ThreadPoolExecutor(1) as pool:
        submit = propagate(pool).submit
        assert propagate(pool).submit is submit
        assert inspect.signature(submit) == inspect.signature(ThreadPoolExecutor(1).submit)
        assert pool.submit(own).result(30) == "acme"


class Sealed(Executor):
    """An executor that lets nothing be set on it."""

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(name)


def test_an_executor_that_cannot_be_changed_is_refused() -> None:
    """At once, with what to do in its place."""
    with pytest.raises(TypeError, match="propagate each function"):
        propagate(Sealed())


@pytest.fixture
def all_executors() -> Iterator[PatchTable]:
    """Have all executors carry traces."""
    table = PatchTable()
    propagate_all(table)
    yield table
    table.undo()


def test_all_executors_carry_traces_until_it_is_undone(tenant: Callable[[str], None]) -> None:
    """Those that are there already as well; then the very methods are back."""
    methods = ThreadPoolExecutor.submit, ProcessPoolExecutor.submit
    tenant("acme")
    with ThreadPoolExecutor(1) as pool:
        table = PatchTable()
        propagate_all(table)
        assert inspect.signature(pool.submit) == inspect.signature(methods[0].__get__(pool))
        assert pool.submit(whose).result(30) == "acme"
        table.undo()
        table.undo()
        assert ThreadPoolExecutor.submit is methods[0]
        assert ProcessPoolExecutor.submit is methods[1]
        assert pool.submit(whose).result(30) == "None"


def test_what_somebody_else_has_put_on_top_stays_and_ours_does_nothing(
    tenant: Callable[[str], None],
) -> None:
    """As another instrumentation may, which would be lost with it."""
    bare = ThreadPoolExecutor.submit
    table = PatchTable()
    propagate_all(table)
    ours: Any = ThreadPoolExecutor.submit

    def theirs(self: ThreadPoolExecutor, fn: Any, /, *args: Any) -> Any:
        return ours(self, fn, *args)

    ThreadPoolExecutor.submit = theirs  # type: ignore[method-assign, assignment]
    table.undo()
    tenant("acme")
    try:
        assert ThreadPoolExecutor.submit is theirs
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(whose).result(30) == "None"
    finally:
        ThreadPoolExecutor.submit = bare  # type: ignore[method-assign]


@untraced
def test_it_takes_no_module_in_for_itself() -> None:
    """Multiprocessing is dear; its executor is changed when somebody imports it, until undone."""
    program = """
        import sys
        from stratatrace.patching import PatchTable
        from stratatrace.propagation import propagate_all
        first, second = PatchTable(), PatchTable()
        propagate_all(first)
        first.undo()
        assert "multiprocessing" not in sys.modules
        propagate_all(second)
        from concurrent.futures import ProcessPoolExecutor as executor
        assert executor.submit.__name__ == "submit" and hasattr(executor.submit, "__wrapped__")
        bare = executor.submit.__wrapped__
        assert not hasattr(bare, "__wrapped__")
        second.undo()
        assert executor.submit is bare
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=True, timeout=60)


def annotated(first: unknown) -> str:  # type: ignore[name-defined]  # noqa: F821
    """Return who it is for; its annotations and type parameters cannot be pickled."""
    return f"{first} {whose()}"


@pytest.mark.parametrize("work", [annotated, functools.partial(annotated)])
def test_a_process_takes_what_it_takes_without_us(
    work: Callable[[int], str],
    all_executors: PatchTable,
    tenant: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also a function whose own attributes cannot be pickled, as that is no part of its pickle."""
    monkeypatch.setattr(annotated, "__annotations__", {"first": threading.Lock()})
    monkeypatch.setattr(annotated, "__doc__", threading.Lock())
    tenant("acme")
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as pool:
        assert pool.submit(work, 1).result(60) == "1 acme"
        assert list(pool.map(work, [2, 3], timeout=60)) == ["2 acme", "3 acme"]


def later() -> Iterator[int]:
    """Do nothing before somebody asks for it."""
    yield 1


def outcome(work: Any, *arguments: object) -> list[object]:
    """Return how a task of a process pool and of a thread pool fails."""
    seen: list[object] = []
    with (
        ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as processes,
        ThreadPoolExecutor(1) as threads,
    ):
        for pool in (processes, threads):
            try:
                seen.append(str(pool.submit(work, *arguments).result(60)))
            except Exception as error:
                seen += [type(error), str(error)]
    return [re.sub(" at 0x[0-9a-f]+", "", text) if isinstance(text, str) else text for text in seen]


@pytest.mark.parametrize(
    ("work", "arguments"),
    [
        pytest.param(lambda: 1, (), id="lambda"),
        pytest.param(functools.partial(lambda: 1), (), id="partial of a lambda"),
        pytest.param(print, (threading.Lock(),), id="argument"),
        pytest.param(threading.Lock, (), id="result"),
        pytest.param(None, (), id="nothing"),
        pytest.param(3, (4,), id="not callable"),
        pytest.param(divmod, (1, 0), id="raises"),
        pytest.param(divmod, (), id="wrong arguments"),
        pytest.param(later, (), id="generator"),
    ],
)
def test_what_fails_in_a_pool_fails_as_without_us(work: Any, arguments: tuple[object, ...]) -> None:
    """What cannot be pickled, or called, or raises: the same error, with the same words."""
    without = outcome(work, *arguments)
    table = PatchTable()
    propagate_all(table)
    try:
        assert outcome(work, *arguments) == without
    finally:
        table.undo()


class Unnameable:
    """A callable whose name cannot be asked for."""

    @property
    def __name__(self) -> str:
        msg = "no name"
        raise LookupError(msg)

    def __call__(self) -> int:
        """Return a number."""
        return 7


def test_a_task_that_cannot_be_wrapped_is_run_bare(
    all_executors: PatchTable, caplog: pytest.LogCaptureFixture
) -> None:
    """The program gets its result, and a warning says what it does not get."""
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(Unnameable()).result(30) == 7
    assert "a task does not carry its trace" in caplog.text
