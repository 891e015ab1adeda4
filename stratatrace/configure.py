"""`configure()` and `shutdown()`: the recorder's options, and providers for those who have none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Never

from stratatrace.config import Config
from stratatrace.errors import InvalidTypeError
from stratatrace.profile import unknown_option
from stratatrace.recorder import Recorder, active

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable

    from opentelemetry._logs import LoggerProvider
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

    from stratatrace.typing import Pipeline, Scorer, Sink

__all__ = ["configure", "install", "shutdown"]

_OPTIONS = (
    "probe",
    "sample_ratio",
    "rss_peak",
    "scorer",
    "max_overhead",
    "sample_allocations",
    "disabled",
    "output",
    "endpoint",
    "tracer_provider",
    "meter_provider",
    "logger_provider",
    "sinks",
)


def configure(
    *,
    probe: str | None = None,
    sample_ratio: float | None = None,
    rss_peak: str | None = None,
    scorer: str | Scorer | None = None,
    max_overhead: float | None = None,
    sample_allocations: int | str | None = None,
    disabled: bool | None = None,
    output: str | os.PathLike[str] | None = None,
    endpoint: str | None = None,
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
    logger_provider: LoggerProvider | None = None,
    sinks: Iterable[Sink] = (),
    **unknown: Never,
) -> None:
    """Say how calls are measured and where the numbers go.

    It may be called before or after functions were decorated, and again: each call replaces the
    one before. Without it, the environment variables count and spans go to the application's
    providers.

    Where the application has providers of its own they are used, and never replaced. Where it has
    none, SDK providers are set up that export to *endpoint*, or to *output*, or to both; with
    neither, to what ``OTEL_EXPORTER_OTLP_ENDPOINT`` says, or else to the file
    ``stratatrace.jsonl``.

    Args:
        probe: ``auto``, ``native``, ``tracemalloc`` or ``rss``.
        sample_ratio: Share of the calls whose heap is measured, 0 to 1.
        rss_peak: ``auto`` (exact where the system allows, else sampled by a thread), ``sampled``,
            ``lifetime``, which leaves the kernel's high-water mark alone (resetting it lowers what
            a parent process reads as this one's maximum), or ``off``.
        scorer: ``budget``, ``legacy``, or an object with ``score(measurement, budget_bytes)``.
        max_overhead: How much of the wall time measuring may take, above 0 and up to 1: calls are
            left out to keep to it, and the others stand for them. All are measured without it.
        sample_allocations: How many bytes are allocated, on average, to one whose traceback is
            kept, such as ``"512 KiB"``: so calls that break their budget, or their own record, tell
            which lines held their peak. By the native probe only.
        disabled: Run decorated functions bare.
        output: File for spans, metrics and log records as OTLP JSON lines; it is appended to.
        endpoint: Base URL of an OTLP endpoint; the protocol is gRPC on port 4317 and HTTP
            elsewhere, unless ``OTEL_EXPORTER_OTLP_PROTOCOL`` says otherwise.
        tracer_provider: Whose spans, in place of the application's global provider.
        meter_provider: Whose metrics, likewise.
        logger_provider: Whose log records, likewise.
        sinks: Further takers of every Measurement.
        **unknown: None; there to answer a misspelt option with the one that was meant.

    Raises:
        InvalidValueError: An option or an environment variable has a value that makes no sense.
        InvalidTypeError: There is no such option, or it is of the wrong type.
        MissingExtraError: The chosen export is not installed.
        OutputError: The file cannot be written.
    """
    if unknown:
        raise unknown_option(configure, next(iter(unknown)), _OPTIONS)
    config = Config.from_environment(
        probe=probe,
        sample_ratio=sample_ratio,
        rss_peak=rss_peak,
        scorer=scorer,
        max_overhead=max_overhead,
        sample_allocations=sample_allocations,
        disabled=disabled,
    )
    sinks = tuple(sinks)
    for sink in sinks:
        if not callable(getattr(sink, "emit", None)):
            msg = f"a sink has an emit(measurement, scope) method, and {sink!r} has not"
            raise InvalidTypeError(msg)
    # Here and not above: the SDK is half of what importing the package would cost.
    from stratatrace import pipeline  # noqa: PLC0415

    previous = active.recorder.pipeline if active.started else None
    own = None
    if previous is not None and previous.pinned:
        config = active.recorder.config
    if not config.disabled:
        own = pipeline.pipeline_for(output, endpoint, tracer_provider, meter_provider)
    install(
        config,
        own,
        tracer_provider=tracer_provider,
        meter_provider=meter_provider,
        logger_provider=logger_provider,
        sinks=sinks,
    )
    if previous is not None and previous is not own:
        previous.close()


def install(
    config: Config,
    own: Pipeline | None,
    *,
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
    logger_provider: LoggerProvider | None = None,
    sinks: tuple[Sink, ...] = (),
) -> None:
    """Have calls measured as *config* says, and told to these providers.

    Args:
        config: How to measure.
        own: What was set up for it; its providers count where the application has none.
        tracer_provider: Whose spans, in place of either.
        meter_provider: Whose metrics, likewise.
        logger_provider: Whose log records, likewise.
        sinks: Further takers of every Measurement.
    """
    from stratatrace import pipeline  # noqa: PLC0415 -- as above

    if own is not None:
        # None is the application's own, where it has one of this kind.
        if own.pinned or not pipeline.application_has_tracer_provider():
            tracer_provider = tracer_provider or own.tracer_provider
        if own.pinned or not pipeline.application_has_meter_provider():
            meter_provider = meter_provider or own.meter_provider
        if own.pinned or not pipeline.application_has_logger_provider():
            logger_provider = logger_provider or own.logger_provider
    active.install(
        Recorder(
            config,
            tracer_provider=tracer_provider,
            meter_provider=meter_provider,
            logger_provider=logger_provider,
            pipeline=own,
            sinks=sinks,
        )
    )


def shutdown() -> None:
    """Flush what is buffered, close what `configure` opened, and measure no more.

    `configure` starts again. At the end of the program this happens by itself.
    """
    if active.started:
        own = active.recorder.pipeline
        active.install(None, enabled=False)
        if own is not None:
            own.close()
