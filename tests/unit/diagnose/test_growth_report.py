"""The report: sums, text, numbers and files, of stacks that are made up here."""

from __future__ import annotations

import gzip
import json
import math
import sys
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import pytest

import stratatrace
from stratatrace import GrowthReport
from stratatrace.diagnose import growth_pprof
from stratatrace.errors import InvalidValueError, MissingExtraError, OutputError
from stratatrace.stacks import Frame, StackGrowth

if TYPE_CHECKING:
    from pathlib import Path

KIB, MIB = 2**10, 2**20

MAIN = Frame("/srv/run.py", "<module>", 3)
LOAD = Frame("/srv/app/load.py", "load", 10)
PARSE = Frame("/usr/site-packages/parser/core.py", "Parser.parse.<locals>.one", 7)
MIXED = Frame('/srv/<b>&"app"/x;y.py', "<i>f</i>", 1)
GENERATED = Frame("<string>", "__init__", 2)


def report(*stacks: StackGrowth, **options: Any) -> GrowthReport:
    return GrowthReport(
        **{
            "name": "job",
            "first": "start",
            "second": "stop",
            "ended_at": 1_700_000_000.25,
            "seconds": 12.5,
            "source": "tracemalloc",
            "depth": 32,
            "sample_bytes": None,
            "own_bytes": 0,
            "stacks": stacks,
            **options,
        }
    )


GROWN = report(
    StackGrowth((PARSE, LOAD, MAIN), 4 * MIB, 1000),
    StackGrowth((GENERATED, LOAD, MAIN), 2 * MIB, 300),
    StackGrowth((LOAD, MAIN), 1 * MIB, 200),
    StackGrowth((), 512 * KIB, 1),
    StackGrowth((MIXED, MAIN), -256 * KIB, -5),
)
SAMPLED = report(
    StackGrowth((PARSE, LOAD), 4 * MIB, 1000.4, (300 * KIB) ** 2),
    StackGrowth((LOAD,), 3 * MIB, 10.4, (400 * KIB) ** 2),
    source="native",
    sample_bytes=512 * KIB,
    own_bytes=300,
)


def test_sums() -> None:
    """Generated code counts as the line that calls it; what has shrunk counts against."""
    lines = [(line.file, line.line, line.bytes, line.blocks) for line in GROWN.lines()]
    assert lines == [
        (PARSE.file, 7, 4 * MIB, 1000),
        (LOAD.file, 10, 3 * MIB, 500),
    ]
    assert [stack.bytes for stack in GROWN.tracebacks()] == [4 * MIB, 2 * MIB, MIB, 512 * KIB]
    assert (GROWN.growth_bytes, GROWN.growth_blocks) == (7 * MIB + 256 * KIB, 1496)
    assert len(GROWN.lines(1)) == len(GROWN.packages(1)) == len(GROWN.tracebacks(1)) == 1
    assert [package[:3] for package in GROWN.packages()] == [
        ("parser", 4 * MIB, 1000),
        ("load.py", 3 * MIB, 500),
    ]
    assert (GROWN.error_bytes, GROWN.unseen_bytes) == (0, 0)


def test_errors_of_sums() -> None:
    """Variances add up; errors are 1.96 times their root."""
    assert SAMPLED.error_bytes == round(1.96 * 500 * KIB)
    assert [line.error_bytes for line in SAMPLED.lines()] == [
        round(1.96 * 300 * KIB),
        round(1.96 * 400 * KIB),
    ]
    # A line of that size has no sample in 5 of 100 cases.
    assert math.exp(-SAMPLED.unseen_bytes / (512 * KIB)) == pytest.approx(0.05, rel=1e-3)


def test_text() -> None:
    """What there is, and what is left out; and no more than can be read."""
    assert str(SAMPLED) == (
        "growth of 'job' from 'start' to 'stop', 12.5 s\n"
        "  +7.0 MiB ± 980.0 KiB in +1,011 blocks\n"
        "  by a sample of one byte in 512.0 KiB: what grew by less than 1.5 MiB may be missing\n"
        "  left out: +300 B of stratatrace's own\n"
        "  lines\n"
        "    +4.0 MiB ± 588.0 KiB  /usr/site-packages/parser/core.py:7 in "
        "Parser.parse.<locals>.one\n"
        "    +3.0 MiB ± 784.0 KiB  /srv/app/load.py:10 in load\n"
        "  packages\n"
        "    +4.0 MiB ± 588.0 KiB  parser\n"
        "    +3.0 MiB ± 784.0 KiB  load.py\n"
        "  tracebacks\n"
        "    +4.0 MiB ± 588.0 KiB\n"
        "      Parser.parse.<locals>.one (/usr/site-packages/parser/core.py:7)\n"
        "      load (/srv/app/load.py:10)\n"
        "    +3.0 MiB ± 784.0 KiB\n"
        "      load (/srv/app/load.py:10)"
    )
    deep = report(StackGrowth((LOAD,) * 20, 1, 1))
    assert "+1 B in +1 block\n" in str(deep)
    assert str(deep).endswith("  and 12 more")
    assert str(report(StackGrowth((), 1, 1))).endswith("  (no stack)")
    # Frames of one line are no more than that line.
    assert "tracebacks" not in str(report(StackGrowth((LOAD,), 1, 1), depth=1))
    assert str(report()) == "growth of 'job' from 'start' to 'stop', 12.5 s\n  0 B in +0 blocks"


def test_numbers() -> None:
    """JSON can have them; each stack is there, those that shrunk as well."""
    numbers = json.loads(json.dumps(GROWN.to_dict()))
    assert numbers["growth_bytes"] == 7 * MIB + 256 * KIB
    assert numbers["lines"][0]["function"] == PARSE.function
    assert numbers["packages"][0]["package"] == "parser"
    assert [stack["bytes"] for stack in numbers["stacks"]][-1] == -256 * KIB
    assert numbers["stacks"][0]["frames"][0] == PARSE._asdict()
    assert set(GrowthReport.__dataclass_fields__) <= set(numbers)


def test_folded_stacks() -> None:
    """From the root on, and a number; equal ones are one, and no name breaks a line or a frame."""
    odd = Frame("a;b\nc.py", "", 1)
    folded = report(
        StackGrowth((LOAD, MAIN), 10, 1),
        StackGrowth((LOAD, MAIN), 5, 1),
        StackGrowth((odd,), 3, 1),
        StackGrowth((), 2, 1),
        StackGrowth((MAIN,), 0.4, 1),
        StackGrowth((MAIN,), -7, 1),
    ).to_collapsed()
    assert folded == (
        "<module> (/srv/run.py:3);load (/srv/app/load.py:10) 15\na:b c.py:1 3\n(no stack) 2\n"
    )


def test_speedscope() -> None:
    """What its schema requires of a profile of samples; what shrunk is not in it."""
    file = GROWN.to_speedscope()
    assert file["$schema"] == "https://www.speedscope.app/file-format-schema.json"
    (profile,) = file["profiles"]
    assert (profile["type"], profile["unit"]) == ("sampled", "bytes")
    assert profile["startValue"] == 0
    assert profile["endValue"] == sum(profile["weights"]) == 7 * MIB + 512 * KIB
    frames = file["shared"]["frames"]
    named = [[frames[number]["name"] for number in sample] for sample in profile["samples"]]
    assert named == [
        ["<module>", "load", PARSE.function],
        ["<module>", "load", "__init__"],
        ["<module>", "load"],
        ["(no stack)"],
    ]
    assert frames[0] == {"name": "<module>", "file": "/srv/run.py", "line": 3}


def decoded(content: bytes) -> Any:
    profile = growth_pprof._profile_class()()
    profile.ParseFromString(gzip.decompress(content))
    return profile


def test_pprof() -> None:
    """Values, places and texts; other readers have their own test: tests/integration."""
    profile = decoded(GROWN.to_pprof())
    texts = profile.string_table
    assert texts[0] == ""
    assert [(texts[t.type], texts[t.unit]) for t in profile.sample_type] == [
        ("inuse_objects", "count"),
        ("inuse_space", "bytes"),
    ]
    assert texts[profile.default_sample_type] == "inuse_space"
    assert (texts[profile.period_type.type], profile.period) == ("space", 1)
    assert profile.time_nanos == pytest.approx(1_700_000_000_250_000_000, abs=1000)
    assert profile.duration_nanos == 12_500_000_000
    assert list(profile.sample[0].value) == [1000, 4 * MIB]
    assert len(profile.sample) == 4
    assert texts[profile.comment[1]] == "left out, as it did not grow: -262144 bytes"
    functions = {f.id: (texts[f.name], texts[f.filename]) for f in profile.function}
    places = {
        place.id: (*functions[place.line[0].function_id], place.line[0].line)
        for place in profile.location
    }
    assert [places[number] for number in profile.sample[0].location_id] == [
        (frame.function, frame.file, frame.line) for frame in (PARSE, LOAD, MAIN)
    ]
    assert 0 not in places
    assert 0 not in functions
    assert decoded(SAMPLED.to_pprof()).period == 512 * KIB
    assert GROWN.to_pprof()[4:8] == bytes(4)  # No time, in which two files would differ.


def test_pprof_of_what_has_fewer_and_larger_blocks() -> None:
    """No count is negative: readers add them up."""
    profile = decoded(report(StackGrowth((LOAD,), 10, -3)).to_pprof())
    assert list(profile.sample[0].value) == [0, 10]


def test_names_that_are_no_text(tmp_path: Path) -> None:
    """Bytes of a file's name that are no text are no error in any format."""
    odd = report(StackGrowth((Frame("/srv/\udcff.py", "", 1),), 10, 1))
    assert "/srv/?.py" in decoded(odd.to_pprof()).string_table
    json.dumps(odd.to_speedscope())
    odd.write(tmp_path / "odd.folded")
    assert (tmp_path / "odd.folded").read_text("utf-8") == "/srv/\\udcff.py:1 10\n"
    assert odd.to_flame_graph()


class Boxes(HTMLParser):
    """Collects what a browser would make of the page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.boxes: list[dict[str, str | None]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if ("class", "box") in attrs:
            self.boxes.append(dict(attrs))


def test_flame_graph() -> None:
    """Boxes lie within those of their callers, as wide as what they hold; all is escaped."""
    page = report(
        StackGrowth((PARSE, LOAD), 6 * MIB, 1),
        StackGrowth((MIXED, LOAD), 2 * MIB, 1),
        StackGrowth((LOAD,), 0.001 * MIB, 1),  # Seen in its caller alone.
        name="<script>alert(1)</script>",
    ).to_flame_graph()
    assert "alert(1)</script>" not in page
    assert "http" not in page
    boxes = Boxes(page).boxes
    titles = [(box["title"] or "").splitlines()[0] for box in boxes]
    assert titles == [
        "all",
        f"load ({LOAD.file}:10)",
        f"{PARSE.function} ({PARSE.file}:7)",
        f"{MIXED.function} ({MIXED.file}:1)",
    ]
    widths = [float(box["data-width"] or 0) for box in boxes]
    assert widths == pytest.approx([1, 1, 0.75, 0.25], abs=0.001)
    assert [float(box["data-left"] or 0) for box in boxes][2:] == pytest.approx(
        [0, 0.75], abs=0.001
    )
    assert not set(Boxes(page).tags) & {"img", "link", "iframe", "b", "i"}
    assert Boxes(page).tags.count("script") == 1
    assert Boxes(report().to_flame_graph()).boxes == []


def test_flame_graph_leaves_out_what_cannot_be_seen() -> None:
    """So that a page of a million stacks can be opened."""
    wide = StackGrowth((LOAD,), MIB, 1)
    narrow = [StackGrowth((Frame("a.py", "", n),), 10, 1) for n in range(3000)]
    assert len(Boxes(report(wide, *narrow).to_flame_graph()).boxes) == 2


@pytest.mark.parametrize(
    ("suffix", "begins"),
    [
        (".txt", "growth of 'job'"),
        (".json", '{"name": "job"'),
        (".folded", "<module> (/srv/run.py:3);"),
        (".collapsed", "<module> (/srv/run.py:3);"),
        (".speedscope.json", '{"$schema": "https://www.speedscope.app/'),
        (".html", "<!DOCTYPE html>"),
        (".HTML", "<!DOCTYPE html>"),
    ],
)
def test_files(suffix: str, begins: str, tmp_path: Path) -> None:
    """The end of the name says what is written."""
    path = tmp_path / f"growth{suffix}"
    GROWN.write(str(path))
    assert path.read_text("utf-8").startswith(begins)


def test_files_of_pprof_and_those_that_cannot_be(tmp_path: Path) -> None:
    """A name of no format, and a folder that is not there."""
    GROWN.write(tmp_path / "growth.pb.gz")
    assert (tmp_path / "growth.pb.gz").read_bytes() == GROWN.to_pprof()
    with pytest.raises(InvalidValueError, match=r"names no format: let it end in one of \.txt, "):
        GROWN.write(tmp_path / "growth.svg")
    with pytest.raises(OutputError, match=r"cannot be written to .*No such file"):
        GROWN.write(tmp_path / "nowhere" / "growth.txt")
    assert not (tmp_path / "growth.svg").exists()


def test_pprof_without_protobuf(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Says what to install, and leaves no file."""
    growth_pprof._profile_class.cache_clear()
    for name in ("google.protobuf", "google.protobuf.descriptor_pb2"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtraError, match=r"pip install 'stratatrace\[pprof\]'"):
        GROWN.write(tmp_path / "growth.pb.gz")
    assert not list(tmp_path.iterdir())


def test_public_names() -> None:
    """They are where the documentation says."""
    assert {"track_growth", "GrowthReport"} <= set(stratatrace.__all__)
