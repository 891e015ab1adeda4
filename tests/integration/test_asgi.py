"""Memory on the spans of a real web server, as a backend for traces gives them back."""

from __future__ import annotations

import http.client
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

import pytest

from .running import serving_program, unique
from .servers import get, poll

if TYPE_CHECKING:
    from .backends import Phoenix, PhoenixSpan

pytestmark = pytest.mark.e2e

MIB = 2**20
KINDS = (
    *("steps", "threaded", "gathering", "handing"),
    *("keeping", "streaming", "streaming_threaded"),
)
# A request, its answer and the framework's objects for it take some 30 to 80 KiB.
LEAST_SIZE = 4 * MIB
SIZE_STEP = MIB // 8
# A thread that has told its result lets go of it when it comes to it, which may be too late.
WITHOUT_NET = {"handing"}


class Asked(NamedTuple):
    """One request, and what its span should say."""

    kind: str
    number: int
    size: int

    @property
    def path(self) -> str:
        return f"/{self.kind}?number={self.number}&size={self.size}"

    @property
    def net_bytes(self) -> int:
        return self.size if self.kind == "keeping" else 0


def _requests(count: int, kinds: tuple[str, ...], first: int = 0) -> list[Asked]:
    """Return requests of all kinds in turn, no two of the same size."""
    return [
        Asked(kinds[index % len(kinds)], first + index, LEAST_SIZE + index * SIZE_STEP)
        for index in range(count)
    ]


def _ask_all(port: int, requests: list[Asked]) -> None:
    """Have all of them under way at once."""
    with ThreadPoolExecutor(len(requests)) as clients:
        answers = clients.map(lambda asked: get(port, asked.path)[0], requests)
        assert set(answers) == {http.client.OK}


def _environment(phoenix: Phoenix, project: str) -> dict[str, str]:
    return {
        "OTEL_SERVICE_NAME": project,
        "OTEL_RESOURCE_ATTRIBUTES": f"openinference.project.name={project}",
        "OTEL_EXPORTER_OTLP_ENDPOINT": phoenix.http_endpoint,
        "OTEL_SEMCONV_STABILITY_OPT_IN": "http",
    }


def _stored(phoenix: Phoenix, project: str, names: set[str], count: int) -> dict[int, PhoenixSpan]:
    """Return the spans of such names by their requests, waiting until there are so many."""

    def read() -> dict[int, PhoenixSpan] | None:
        spans = {
            span.attributes["app.request"]: span
            for span in phoenix.spans(project)
            if span.name in names
        }
        return spans if len(spans) >= count else None

    return poll(read, f"{count} spans of {project}", seconds=20, step=0.5)


def _check_exact(span: PhoenixSpan, asked: Asked) -> None:
    numbers = span.attributes
    assert numbers["stratatrace.attribution"] == "exact", asked
    assert numbers["stratatrace.heap.peak"] == pytest.approx(asked.size, rel=0.02), asked
    if asked.kind not in WITHOUT_NET:
        room = asked.size * 0.02
        assert numbers["stratatrace.heap.net"] == pytest.approx(asked.net_bytes, abs=room), asked


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_each_request_has_its_own_memory(phoenix: Phoenix, loop: str) -> None:
    """Of 50 requests that are all open at once each span has its own request's memory.

    They are of all kinds: `async` and not, with tasks, executors and answers in pieces, and below a
    middleware that runs each in a task. A round before has all imported and grown that is once, and
    then no more.
    """
    project = unique("asgi")
    before, requests = _requests(50, KINDS), _requests(50, KINDS, first=50)
    with serving_program(
        *("asgi.py", loop, str(len(requests)), "from_start"),
        environment=_environment(phoenix, project),
    ) as told:
        _ask_all(told["port"], before)
        _ask_all(told["port"], requests)
    spans = _stored(phoenix, project, {f"GET /{kind}" for kind in KINDS}, 100)
    for asked in requests:
        _check_exact(spans[asked.number], asked)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_tasks_older_than_the_processor_are_never_exact(phoenix: Phoenix, loop: str) -> None:
    """Tasks under way when the processor is added say `process`; those after it are exact."""
    project = unique("asgi-late")
    early, requests = _requests(5, ("early",)), _requests(10, ("steps", "threaded"), first=5)
    with (
        serving_program(
            *("asgi.py", loop, str(len(early) + len(requests)), "late"),
            environment=_environment(phoenix, project),
        ) as told,
        ThreadPoolExecutor(1) as beside,
    ):
        answered = beside.submit(_ask_all, told["port"], early)
        assert get(told["port"], f"/follow?after={len(early)}")[0] == http.client.OK
        _ask_all(told["port"], requests)
        answered.result()
    begun_before = _stored(phoenix, project, {"GET /early"}, len(early))
    inside = _stored(phoenix, project, {"early"}, len(early))
    for asked in early:
        assert not any("stratatrace" in name for name in begun_before[asked.number].attributes)
        assert inside[asked.number].attributes["stratatrace.attribution"] == "process"
    spans = _stored(phoenix, project, {"GET /steps", "GET /threaded"}, len(requests))
    for asked in requests:
        _check_exact(spans[asked.number], asked)
