"""The files of growth reports, read by the tools that they are for and by nothing of our own.

`pprof-format` is a decoder of pprof's messages of another make, and `ajv` checks JSON against the
schema that speedscope itself brings; both run in Node. `go tool pprof` is asked where Go is there.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from stratatrace import track_growth
from stratatrace.probes import native_obstacle

if TYPE_CHECKING:
    from pathlib import Path

    from stratatrace import GrowthReport

pytestmark = pytest.mark.e2e

MIB = 2**20
PACKAGES = ("pprof-format@2.3.2", "speedscope@1.25.0", "ajv@8.17.1")
READER = """
import { readFileSync } from "fs";
import { gunzipSync } from "zlib";
import Ajv from "ajv";
import { Profile } from "pprof-format";

const [pprof, speedscope] = process.argv.slice(2);
const profile = Profile.decode(gunzipSync(readFileSync(pprof)));
const text = (number) => profile.stringTable.strings[Number(number)];
const of = (all) => new Map(all.map((one) => [String(one.id), one]));
const locations = of(profile.location), functions = of(profile.function);
const place = (id) => {
  const line = locations.get(String(id)).line[0];
  const found = functions.get(String(line.functionId));
  return [text(found.filename), text(found.name), Number(line.line)];
};
const schema = "node_modules/speedscope/dist/release/file-format-schema.json";
const check = new Ajv.default({ strict: false }).compile(JSON.parse(readFileSync(schema)));
const fits = check(JSON.parse(readFileSync(speedscope)));
console.log(JSON.stringify({
  types: profile.sampleType.map((one) => [text(one.type), text(one.unit)]),
  default: text(profile.defaultSampleType),
  period: [text(profile.periodType.type), Number(profile.period)],
  samples: profile.sample.map((one) => [one.value.map(Number), one.locationId.map(place)]),
  speedscope: fits ? null : check.errors,
}));
"""


def grow(count: int) -> list[bytearray]:
    return [bytearray(MIB) for _ in range(count)]


@pytest.fixture(scope="module", params=["tracemalloc", "native"])
def report(request: pytest.FixtureRequest) -> GrowthReport:
    """What grew by 40 MiB in one line."""
    if request.param == "native" and native_obstacle() is not None:
        pytest.skip("nothing is compiled")
    with track_growth("export", source=request.param, sample="64 KiB") as tracker:
        kept = grow(40)
    del kept
    return tracker.report()


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the readers into a folder of their own; the script that runs them is there."""
    if shutil.which("npm") is None:
        if os.environ.get("CI"):
            pytest.fail("npm is missing: install Node", pytrace=False)
        pytest.skip("npm is missing: install Node")
    folder = tmp_path_factory.mktemp("node")
    command = ("npm", "install", "--no-audit", "--no-fund", "--silent", *PACKAGES)
    subprocess.run(command, cwd=folder, check=True, timeout=120)
    (folder / "read.mjs").write_text(READER, "utf-8")
    return folder


def test_other_decoders(report: GrowthReport, node: Path, tmp_path: Path) -> None:
    """The pprof file says what the report says, and speedscope's fits its schema."""
    pprof, speedscope = tmp_path / "growth.pb.gz", tmp_path / "growth.speedscope.json"
    report.write(pprof)
    report.write(speedscope)
    ran = subprocess.run(
        ["node", "read.mjs", str(pprof), str(speedscope)],
        cwd=node,
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    read: dict[str, Any] = json.loads(ran.stdout)
    assert read["speedscope"] is None
    assert read["types"] == [["inuse_objects", "count"], ["inuse_space", "bytes"]]
    assert read["default"] == "inuse_space"
    assert read["period"] == ["space", report.sample_bytes or 1]
    grown = [stack for stack in report.tracebacks(10**6) if round(stack.bytes) > 0]
    assert read["samples"] == [
        [
            [max(round(stack.blocks), 0), round(stack.bytes)],
            [[f.file, f.function or f.file, f.line] for f in stack.frames],
        ]
        for stack in grown
    ]
    assert read["samples"][0][0][1] == pytest.approx(40 * MIB, rel=0.05)


def test_go_tool_pprof(report: GrowthReport, tmp_path: Path) -> None:
    """Go's own tool finds the line and its bytes."""
    if shutil.which("go") is None:
        pytest.skip("go is missing: install golang-go")
    report.write(tmp_path / "growth.pb.gz")
    ran = subprocess.run(
        ["go", "tool", "pprof", "-top", "-lines", "-unit=B", "growth.pb.gz"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "Type: inuse_space" in ran.stdout
    line = grow.__code__.co_firstlineno + 1
    row = re.compile(rf"^ *(\d+)B .*B .*% +grow.* {re.escape(__file__)}:{line}$", re.MULTILINE)
    found = row.search(ran.stdout)
    assert found is not None, ran.stdout
    assert int(found[1]) == pytest.approx(40 * MIB, rel=0.05)
