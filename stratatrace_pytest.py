"""What pytest loads at every start: options, markers and the `memory` fixture; it measures nothing.

That is in `stratatrace.pytest_plugin`, and imported when an option, a marker or the fixture asks
for it, so that no other run of pytest pays for it. Hence this is a module beside the package, which
cannot be imported without its core. PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from stratatrace.pytest_plugin import MemoryFixture

__all__: list[str] = []

_MARKERS = {
    "memory_budget": (
        "memory_budget(*budgets, heap_peak=None, rss_peak=None): fail the test where its call takes"
        ' more than that, such as "50MB" of heap at its peak, or "rss_peak=200MB" of the process'
    ),
    "no_leaks": (
        "no_leaks(*, iterations=None): call the test again and again, with its fixtures set up "
        "once, and fail it where its memory grows from call to call"
    ),
}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add what can be asked for."""
    group = parser.getgroup("stratatrace", "the memory of tests (stratatrace)")
    group.addoption(
        "--memory",
        action="store_true",
        help="measure the memory of every test, and show the worst",
    )
    group.addoption(
        "--memory-top",
        type=int,
        metavar="N",
        help="how many tests to show (10), 0 for all; implies --memory",
    )
    group.addoption(
        "--memory-baseline",
        metavar="FILE",
        help="fail tests whose heap peak is beyond that in FILE, which is JSON, to be committed",
    )
    group.addoption(
        "--memory-baseline-update",
        action="store_true",
        help="write what has changed to the file of --memory-baseline, and fail nothing for it",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Make the markers known; measure every test where an option says so."""
    for line in _MARKERS.values():
        config.addinivalue_line("markers", line)
    option = config.option
    if (
        option.memory
        or option.memory_top is not None
        or option.memory_baseline is not None
        or option.memory_baseline_update
    ):
        from stratatrace.pytest_plugin.plugin import load  # noqa: PLC0415 -- see above

        load(config)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Fail the collection of a file whose markers make no sense."""
    report = yield
    marked = [node for node in report.result or () if _is_marked(node)]
    if marked:
        from stratatrace.pytest_plugin.marks import refuse_nonsense  # noqa: PLC0415 -- see above

        refuse_nonsense(report, marked, collector)
    return report


def pytest_collection_finish(session: pytest.Session) -> None:
    """Measure the tests that are marked, by whomever."""
    if any(map(_is_marked, session.items)):
        from stratatrace.pytest_plugin.plugin import load  # noqa: PLC0415 -- see above

        load(session.config)


@pytest.fixture
def memory(request: pytest.FixtureRequest) -> Iterator[MemoryFixture]:
    """Measure blocks of a test: each `with` of it is one."""
    from stratatrace.pytest_plugin.plugin import load  # noqa: PLC0415 -- see above

    with load(request.config).fixture(request.node) as fixture:
        yield fixture


def _is_marked(node: pytest.Item | pytest.Collector) -> bool:
    return isinstance(node, pytest.Function) and any(
        mark.name in _MARKERS for mark in node.iter_markers()
    )
