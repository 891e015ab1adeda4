"""``stratatrace doctor``: what would be measured here, how, and why not otherwise."""

from __future__ import annotations

import json
import platform
from importlib.metadata import entry_points
from importlib.util import find_spec
from typing import TYPE_CHECKING

from stratatrace.config import Config
from stratatrace.probes import (
    HEAP_PROBES,
    heap_probe,
    leftovers,
    native_obstacle,
    resident_probe,
)
from stratatrace.version import __version__

if TYPE_CHECKING:
    import argparse

__all__ = ["add_to"]

_EXTRAS = {
    "file": ("cli", "opentelemetry.exporter.otlp.proto.common"),
    "table": ("cli", "rich"),
    "endpoint, gRPC": ("otlp", "opentelemetry.exporter.otlp.proto.grpc"),
    "endpoint, HTTP": ("otlp", "opentelemetry.exporter.otlp.proto.http"),
}


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "doctor",
        help="say which probes are in use here, and why",
        description="Say how a program would be measured in this environment, and why: the heap "
        "probe, the way to the peak RSS, the exports that are installed, and whether "
        "opentelemetry-instrument would find it.",
        allow_abbrev=False,
    )
    parser.add_argument("--json", action="store_true", help="print JSON for machines")
    parser.set_defaults(command=_doctor)


def _doctor(options: argparse.Namespace) -> int:
    findings = _findings()
    if options.json:
        print(json.dumps(findings, indent=2))
        return 0
    width = max(map(len, findings))
    for name, finding in findings.items():
        print(f"{name:{width}}  {finding}")
    return 0


def _findings() -> dict[str, str]:
    """Return what there is to say, by what it is about.

    Raises:
        InvalidValueError: An environment variable has a value that makes no sense.
    """
    config = Config.from_environment()
    findings = {
        "stratatrace": f"{__version__}, {platform.python_implementation()} "
        f"{platform.python_version()}, {platform.system()} {platform.machine()}",
        "measuring": "off: OTEL_PYTHON_STRATATRACE_DISABLED=true" if config.disabled else "on",
        "heap probe": _heap(config),
        "native probe": f"not to be had: {obstacle}"
        if (obstacle := native_obstacle())
        else "ready",
        "free lists": "read, so that what stratatrace leaves in them is known"
        if leftovers() is not None
        else "not read: small objects that a program keeps, and that come from what stratatrace "
        "has let go, are missing in the numbers of calls around other measured calls",
        "peak RSS": _resident(config),
    }
    for name, (extra, module) in _EXTRAS.items():
        findings[name] = (
            "installed" if _is_installed(module) else f"run `pip install 'stratatrace[{extra}]'`"
        )
    findings["opentelemetry-instrument"] = _zero_code()
    return findings


def _zero_code() -> str:
    """Say whether a program that is started by that command would be measured."""
    if not _is_installed("opentelemetry.instrumentation.instrumentor"):
        return "run `pip install 'stratatrace[auto]'`"
    if not entry_points(group="opentelemetry_instrumentor", name="stratatrace"):
        return "does not find stratatrace, which is on the path and not installed: install it"
    if not entry_points(group="opentelemetry_configurator"):
        return "has nothing that sets up providers: run `pip install opentelemetry-distro`"
    return "ready"


def _heap(config: Config) -> str:
    probe = heap_probe(config.probe)
    if probe is None:
        return f"none: {HEAP_PROBES['rss']}"
    share = "every call" if config.trace_ratio == 1 else f"{config.trace_ratio:.4g} of the calls"
    chosen = "the best at hand" if config.probe == "auto" else "asked for"
    return f"{probe.name}, on {share} ({chosen})"


def _resident(config: Config) -> str:
    meanings = {
        "hwm": "exact, the kernel's high-water mark",
        "sampled": "by a thread: it misses short spikes",
        "lifetime": "an upper bound, the highest of the process's life",
    }
    probe = resident_probe(config.rss_peak)
    if probe is None:
        return "off: asked for"
    method = probe.method
    return f"{method}: {meanings[method]}"


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ImportError:
        return False
