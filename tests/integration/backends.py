"""The three servers that the tests talk to: how each is found, started and read back.

What a server holds is always read back from the server: an exporter that reports success is no
proof, `force_flush()` of metrics returns True even where the backend refused them.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import sys
import sysconfig
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from . import decoded
from .servers import LOOPBACK, Server, answers, free_port, get, get_json, poll

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

__all__ = [
    "BackendMissingError",
    "Exemplar",
    "Phoenix",
    "PhoenixSpan",
    "Prometheus",
    "Rotel",
    "Sample",
    "phoenix_server",
    "prometheus_server",
    "rotel_server",
]

Found = TypeVar("Found")

_READ_SECONDS = 20
_READY_SECONDS = 30
# A first start migrates its database and imports a great deal: 11 to 23 s where nothing else runs.
_PHOENIX_READY_SECONDS = 90


class BackendMissingError(Exception):
    """A server is not installed; the message says how to install it."""


def _executable(name: str, variable: str, found: str | Path | None, install: str) -> str:
    """Return the path of a server's executable: the one that the variable names, or the found."""
    path = os.environ.get(variable) or found
    if path is None or not os.access(path, os.X_OK):
        where = f"{path} cannot be executed" if path else "it was not found"
        msg = f"{name}: {where}; install it with `{install}`, or set {variable} to its executable"
        raise BackendMissingError(msg)
    return str(path)


# --- rotel: the wire, decoded ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Rotel:
    """A collector that prints what it decoded from the wire."""

    grpc_endpoint: str
    http_endpoint: str
    server: Server

    def output(self, service: str) -> decoded.Decoded:
        """Return what one service has sent so far."""
        everything = decoded.decode(
            self.server.output.read_text(encoding="utf-8", errors="replace").split("\n")
        )
        return decoded.Decoded(
            spans=[s for s in everything.spans if s.resource.get("service.name") == service],
            metrics=[m for m in everything.metrics if m.resource.get("service.name") == service],
            logs=[log for log in everything.logs if log.resource.get("service.name") == service],
        )

    def spans(self, service: str, *, count: int) -> list[decoded.Span]:
        """Return the spans of a service, waiting until there are so many.

        Raises:
            TimeoutError: There were fewer; its notes say what there was.
        """

        def read() -> list[decoded.Span] | None:
            spans = self.output(service).spans
            return spans if len(spans) >= count else None

        return self._wait(read, service, f"{count} spans")

    def metrics(self, service: str, names: Collection[str]) -> dict[str, list[decoded.Metric]]:
        """Return the metrics of a service by name, waiting until all the names are there.

        Every export of a metric is one entry of its list.

        Raises:
            TimeoutError: Some did not come; its notes say what came.
        """

        def read() -> dict[str, list[decoded.Metric]] | None:
            by_name: dict[str, list[decoded.Metric]] = {}
            for metric in self.output(service).metrics:
                by_name.setdefault(metric.name, []).append(metric)
            return by_name if by_name.keys() >= set(names) else None

        return self._wait(read, service, f"the metrics {sorted(names)}")

    def logs(self, service: str, *, count: int) -> list[decoded.LogRecord]:
        """Return the log records of a service, waiting until there are so many.

        Raises:
            TimeoutError: There were fewer; its notes say what there was.
        """

        def read() -> list[decoded.LogRecord] | None:
            logs = self.output(service).logs
            return logs if len(logs) >= count else None

        return self._wait(read, service, f"{count} log records")

    def _settle(self) -> None:
        """Wait until the log does not grow, so that its last entry is not half written."""
        sizes = [-1]

        def still() -> bool | None:
            sizes.append(self.server.output.stat().st_size)
            return sizes[-1] == sizes[-2] or None

        poll(still, "the log of rotel is still", seconds=_READ_SECONDS, step=0.2)

    def _wait(self, read: Callable[[], Found | None], service: str, what: str) -> Found:
        self._settle()
        try:
            return poll(read, f"rotel has {what} of {service}", seconds=_READ_SECONDS, step=0.5)
        except TimeoutError as error:
            output = self.output(service)
            error.add_note(f"spans: {[span.name for span in output.spans]}")
            error.add_note(f"metrics: {[metric.name for metric in output.metrics]}")
            error.add_note(self.server.tail())
            raise


@contextmanager
def rotel_server(directory: Path, *, forward_to: str | None = None) -> Iterator[Rotel]:
    """Run a rotel.

    Args:
        directory: Where its logs go.
        forward_to: An OTLP/HTTP endpoint that gets the traces; None keeps them here.

    Raises:
        BackendMissingError: It is not installed.
    """
    package = importlib.util.find_spec("rotel")
    executable = _executable(
        "rotel",
        "STRATATRACE_ROTEL",
        Path(package.origin).with_name("rotel-agent") if package and package.origin else None,
        f"{sys.executable} -m pip install --pre rotel",
    )
    grpc_port, http_port = free_port(), free_port()
    command = [
        *(executable, "start", "--disable-batching"),
        *("--otlp-grpc-endpoint", f"{LOOPBACK}:{grpc_port}"),
        *("--otlp-http-endpoint", f"{LOOPBACK}:{http_port}"),
        *(f"--debug-log={signal}" for signal in ("traces", "metrics", "logs")),
        *("--debug-log-verbosity", "detailed"),
        # Its default is one file for the whole machine, and two may run here.
        *("--pid-file", str(directory / "rotel.pid"), "--log-file", str(directory / "rotel.log")),
        *("--exporters", "keep:blackhole" + (",forward:otlp" if forward_to else "")),
        *("--exporters-traces", "forward" if forward_to else "keep"),
        *("--exporters-metrics", "keep", "--exporters-logs", "keep"),
    ]
    # It is linked to a shared libpython, which an interpreter of a version manager keeps where the
    # loader does not look.
    libraries = [sysconfig.get_config_var("LIBDIR"), os.environ.get("LD_LIBRARY_PATH")]
    environment = {"LD_LIBRARY_PATH": os.pathsep.join(filter(None, libraries))}
    if forward_to:
        environment["ROTEL_EXPORTER_FORWARD_ENDPOINT"] = forward_to
        environment["ROTEL_EXPORTER_FORWARD_PROTOCOL"] = "http"
    server = Server(command, directory, environment)
    try:
        server.wait_ready(lambda: answers(grpc_port) and answers(http_port), seconds=_READY_SECONDS)
        yield Rotel(f"http://{LOOPBACK}:{grpc_port}", f"http://{LOOPBACK}:{http_port}", server)
    finally:
        server.stop()


# --- Phoenix: traces, queried back -------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PhoenixSpan:
    """One span, as Phoenix stored it."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str | None
    status: str
    attributes: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Phoenix:
    """A backend that stores traces and answers queries."""

    http_endpoint: str
    port: int
    server: Server

    def spans(
        self, project: str, trace_id: str | None = None, *, count: int = 1
    ) -> list[PhoenixSpan]:
        """Return the spans of a project, waiting until there are so many.

        Args:
            project: The value of the resource attribute ``openinference.project.name``.
            trace_id: Only the spans of this trace.
            count: How many there must be.

        Raises:
            TimeoutError: There were fewer; its notes have the end of the log.
        """
        parameters: dict[str, str | int] = {"limit": 1000}
        if trace_id is not None:
            parameters["trace_id"] = trace_id

        def read() -> list[PhoenixSpan] | None:
            # A project that nothing has arrived for does not exist: that answer is a 404.
            answer: Any = get_json(self.port, f"/v1/projects/{project}/spans", parameters)
            spans = [_phoenix_span(span) for span in answer["data"]] if answer else []
            return spans if len(spans) >= count else None

        try:
            return poll(
                read, f"Phoenix has {count} spans of {project}", seconds=_READ_SECONDS, step=0.5
            )
        except TimeoutError as error:
            error.add_note(self.server.tail())
            raise


def _phoenix_span(span: Mapping[str, Any]) -> PhoenixSpan:
    return PhoenixSpan(
        name=span["name"],
        trace_id=span["context"]["trace_id"],
        span_id=span["context"]["span_id"],
        parent_id=span["parent_id"],
        status=span["status_code"],
        attributes=span["attributes"],
    )


@contextmanager
def phoenix_server(directory: Path) -> Iterator[Phoenix]:
    """Run a Phoenix with an empty database.

    Raises:
        BackendMissingError: It is not installed.
    """
    beside = Path(sys.executable).with_name("phoenix")
    executable = _executable(
        "Phoenix",
        "STRATATRACE_PHOENIX",
        beside if beside.exists() else shutil.which("phoenix"),
        "pip install arize-phoenix",
    )
    port = free_port()
    server = Server(
        [executable, "serve"],
        directory,
        {
            "PHOENIX_HOST": LOOPBACK,
            "PHOENIX_PORT": str(port),
            "PHOENIX_GRPC_PORT": str(free_port()),
            "PHOENIX_WORKING_DIR": str(directory),
            "PHOENIX_TELEMETRY_ENABLED": "false",
            "PHOENIX_ALLOW_EXTERNAL_RESOURCES": "false",
            "PHOENIX_AGENTS_DISABLE_BASH": "true",
        },
    )
    try:
        server.wait_ready(lambda: get(port, "/readyz")[0] == 200, seconds=_PHOENIX_READY_SECONDS)
        yield Phoenix(f"http://{LOOPBACK}:{port}", port, server)
    finally:
        server.stop()


# --- Prometheus: metrics, scraped and queried --------------------------------------------------


@dataclass(frozen=True, slots=True)
class Sample:
    """One series of an instant query's answer."""

    labels: Mapping[str, str]
    value: float


@dataclass(frozen=True, slots=True)
class Exemplar:
    """One exemplar: the labels of its series, and its own."""

    series: Mapping[str, str]
    labels: Mapping[str, str]
    value: float


@dataclass(frozen=True, slots=True)
class Prometheus:
    """A backend that scrapes metrics every second and answers queries."""

    port: int
    targets: Path
    server: Server

    def scrape(self, target_port: int) -> None:
        """Scrape a port from now on, and wait until that has worked once.

        Raises:
            TimeoutError: It did not; its notes have the end of the log.
        """
        groups = json.loads(self.targets.read_text())
        groups.append({"targets": [f"{LOOPBACK}:{target_port}"]})
        # It watches the file: a rename is seen whole or not at all.
        draft = self.targets.with_suffix(".new")
        draft.write_text(json.dumps(groups))
        draft.rename(self.targets)
        self.query(f'up{{instance="{LOOPBACK}:{target_port}"}} == 1')

    def query(self, expression: str) -> list[Sample]:
        """Return the answer of an instant query, waiting until it is not empty.

        Raises:
            TimeoutError: It stayed empty; its notes have the end of the log.
        """

        def read() -> list[Sample] | None:
            answer: Any = get_json(self.port, "/api/v1/query", {"query": expression})
            return [
                Sample(series["metric"], float(series["value"][1]))
                for series in (answer["data"]["result"] if answer else ())
            ] or None

        try:
            return poll(read, f"Prometheus answers {expression}", seconds=_READ_SECONDS)
        except TimeoutError as error:
            error.add_note(self.server.tail())
            raise

    def exemplars(self, selector: str, *, count: int) -> list[Exemplar]:
        """Return the exemplars of series, waiting until there are so many.

        Raises:
            TimeoutError: There were fewer; its notes have the end of the log.
        """

        def read() -> list[Exemplar] | None:
            now = time.time()
            answer: Any = get_json(
                self.port,
                "/api/v1/query_exemplars",
                {"query": selector, "start": f"{now - 600}", "end": f"{now + 60}"},
            )
            found = [
                Exemplar(series["seriesLabels"], each["labels"], float(each["value"]))
                for series in (answer["data"] if answer else ())
                for each in series["exemplars"]
            ]
            return found if len(found) >= count else None

        try:
            return poll(read, f"Prometheus has exemplars of {selector}", seconds=_READ_SECONDS)
        except TimeoutError as error:
            error.add_note(self.server.tail())
            raise


@contextmanager
def prometheus_server(directory: Path) -> Iterator[Prometheus]:
    """Run a Prometheus that has nothing to scrape yet.

    Raises:
        BackendMissingError: It is not installed.
    """
    executable = _executable(
        "Prometheus",
        "STRATATRACE_PROMETHEUS",
        shutil.which("prometheus"),
        "apt-get install -y --no-install-recommends prometheus",
    )
    targets = directory / "targets.json"
    targets.write_text("[]")
    configuration = directory / "prometheus.yml"
    # JSON is YAML.
    configuration.write_text(
        json.dumps(
            {
                "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
                "scrape_configs": [
                    {
                        "job_name": "programs",
                        "file_sd_configs": [{"files": [str(targets)], "refresh_interval": "1s"}],
                    }
                ],
            }
        )
    )
    port = free_port()
    server = Server(
        [
            executable,
            f"--config.file={configuration}",
            f"--storage.tsdb.path={directory / 'data'}",
            f"--web.listen-address={LOOPBACK}:{port}",
            "--enable-feature=exemplar-storage",
        ],
        directory,
        {},
    )
    try:
        server.wait_ready(lambda: get(port, "/-/ready")[0] == 200, seconds=_READY_SECONDS)
        yield Prometheus(port, targets, server)
    finally:
        server.stop()
