"""Run the real ``sr compile`` under ``opentelemetry-instrument``, and look at its spans.

``python tests/strataregula_suite/zero_code.py CHECKOUT``: the inputs are the checkout's examples.
Fails where the output is not that of a bare run, or the spans are not nested as the calls are.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

EXPECTED = """\
ConfigCompiler.__init__
  PluginConfigManager.__init__
  EnhancedPluginManager.__init__
  EnhancedPluginManager.discover_plugins
    PluginLoader.discover_plugins
ConfigCompiler.compile_traffic_config
  ConfigCompiler._load_file
  ConfigCompiler._load_file
  ConfigCompiler._setup_hierarchy_from_config
  ConfigCompiler._extract_service_patterns
  EnhancedPatternExpander.compile_to_static_mapping
    EnhancedPatternExpander.expand_pattern_stream
  ConfigCompiler._generate_provenance
  ConfigCompiler._create_output_context
  TemplateEngine.render"""
# What differs from one compile to the next.
CHANGING = re.compile(rb"timestamp|fingerprint|Generated at|_seconds|METADATA|provenance")
TO_CONSOLE = {
    "OTEL_TRACES_EXPORTER": "console",
    "OTEL_METRICS_EXPORTER": "none",
    "OTEL_LOGS_EXPORTER": "none",
}


def compiled(checkout: Path, out: Path, *before: str) -> tuple[list[bytes], str]:
    """Return the lines of the output that stay the same, and what was printed."""
    examples = checkout / "examples"
    done = subprocess.run(
        [
            *(*before, str(Path(sys.executable).with_name("sr")), "compile"),
            *("--traffic", str(examples / "sample_traffic.yaml")),
            *("--prefectures", str(examples / "sample_prefectures.yaml"), "--out", str(out)),
        ],
        cwd=out.parent,
        env={**os.environ, **TO_CONSOLE, "PYTHONHASHSEED": "0", "HOME": str(out.parent)},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    lines = out.read_bytes().splitlines()
    return [line for line in lines if not CHANGING.search(line)], done.stdout


def spans_in(printed: str) -> list[dict[str, Any]]:
    """Return the spans that the console exporter has printed, one after the other."""
    decoder, found, at = json.JSONDecoder(), [], 0
    while (at := printed.find("\n{", at)) >= 0:
        span, at = decoder.raw_decode(printed, at + 1)
        found.append(span)
        at -= 1
    return sorted(found, key=lambda span: str(span["start_time"]))


def tree(spans: list[dict[str, Any]]) -> str:
    """Return the names, indented below their parents."""
    by_id = {span["context"]["span_id"]: span for span in spans}

    def depth(span: dict[str, Any]) -> int:
        parent = span["parent_id"]
        return 0 if parent is None else 1 + depth(by_id[parent])

    return "\n".join(f"{'  ' * depth(span)}{span['name']}" for span in spans)


def main() -> int:
    """Compare the two runs; return the exit status."""
    checkout = Path(sys.argv[1]).resolve()
    instrument = str(Path(sys.executable).with_name("opentelemetry-instrument"))
    with tempfile.TemporaryDirectory() as folder:
        bare, _ = compiled(checkout, Path(folder, "bare.py"))
        ours, printed = compiled(checkout, Path(folder, "ours.py"), instrument)
    spans = spans_in("\n" + printed)
    print(tree(spans))
    if bare != ours:
        print("the output is another one than without us")
        return 1
    return 0 if tree(spans) == EXPECTED and all(map(has_memory, spans)) else 1


def has_memory(span: dict[str, Any]) -> bool:
    """Tell whether a span carries what it should."""
    counted = "stratatrace.strataregula.cache.misses" in span["attributes"]
    return counted or "stratatrace.heap.peak" in span["attributes"]


if __name__ == "__main__":
    sys.exit(main())
