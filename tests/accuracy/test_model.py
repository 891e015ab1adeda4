"""Random programs, and a model that says what each of their calls must be charged with.

A program is a tree of calls: functions, coroutines that an event loop interleaves, and generators
that are advanced in any order and maybe never finished. Each takes buffers, drops some, and ends by
dropping the rest, returning them, or raising while it holds them. The bodies tell the model of
every buffer that comes or goes, and of every suspension, so the model needs to know no more than
which calls are running: those are charged.
"""

from __future__ import annotations

import asyncio
from array import array
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from heap_probes import PROBES
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from tracing import untraced

from stratatrace import profile_memory
from stratatrace.config import Config
from stratatrace.testing import recording

from .scenarios import HEAP_WITHIN_BYTES, TOLERANCE, buffer

if TYPE_CHECKING:
    from collections.abc import Coroutine, Generator

Held = list[bytearray]

pytestmark = untraced

KIB = 2**10
MOST_CALLS = 12

# What every call begins by taking. The frames, coroutines and lists of a program are its memory as
# well, which the model does not know; beside this they are little.
BASE_BYTES = 1024 * KIB


class Trouble(Exception):  # noqa: N818 -- it is what the programs raise, and nothing is wrong
    """What a call of a program raises."""


class Thrown(Exception):  # noqa: N818 -- likewise
    """What a generator is thrown, and lets through."""


@dataclass
class Node:
    """One call of a program."""

    kind: str
    ends: str
    steps: list[Any] = field(default_factory=list)
    #: The place of its numbers in the model, and the name of its callsite.
    number: int = 0
    run: Any = None


@dataclass
class Take:
    """Take a buffer."""

    size: int


@dataclass
class Drop:
    """Drop the newest buffer."""


@dataclass
class Pause:
    """Be suspended, where the kind of call can be."""


@dataclass
class Use:
    """Call a node to its end, and keep or drop what it returns."""

    node: Node
    keep: bool


@dataclass
class Drive:
    """Advance generators in some order, then finish, close, throw at or abandon what is left."""

    nodes: list[Node]
    order: list[int]
    ending: str


class Model:
    """Which calls run, and what each is charged with.

    It lives beside the calls that are measured, so its numbers are in arrays made before.
    """

    def __init__(self, calls: int) -> None:
        self.net = array("q", bytes(8 * calls))
        self.peak = array("q", bytes(8 * calls))
        #: The bytes that a call held when it raised, which go with its traceback.
        self.left = array("q", bytes(8 * calls))
        #: What the calls held that an exception thrown in has passed on its way out.
        self.thrown = array("q", bytes(8))
        self.begun = bytearray(calls)
        self.generators = bytearray(calls)
        self.running: list[int] = []

    def begin(self, node: Node) -> None:
        self.begun[node.number] = 1
        self.running.append(node.number)

    def end(self) -> None:
        self.running.pop()

    def charge(self, size: int) -> None:
        for number in self.running:
            self.net[number] += size
            self.peak[number] = max(self.peak[number], self.net[number])

    def suspend(self) -> list[int]:
        """Suspend the running generator, or the whole task where none is running."""
        first = len(self.running) - 1
        while first > 0 and not self.generators[self.running[first]]:
            first -= 1
        suspended = self.running[first:]
        del self.running[first:]
        return suspended

    def resume(self, suspended: list[int]) -> None:
        self.running += suspended


def charged_bytes(held: Held) -> int:
    return sum(buffer(len(payload)) for payload in held)


class Suspension:
    """What suspends a coroutine once; in a generator, the one yield."""

    def __await__(self) -> Generator[None, None, None]:
        yield


class Program:
    """A program made ready to run: each node is a measured callable of its own."""

    def __init__(self, roots: list[Node]) -> None:
        self.roots = roots
        self.nodes: list[Node] = []
        for root in roots:
            self._number(root)
        self.model = Model(len(self.nodes))
        for node in self.nodes:
            self.model.generators[node.number] = node.kind == "generator"
            made = {"function": self.function, "coroutine": self.coroutine}
            node.run = profile_memory(str(node.number))(made.get(node.kind, self.generator)(node))

    def _number(self, node: Node) -> None:
        node.number = len(self.nodes)
        self.nodes.append(node)
        for step in node.steps:
            if isinstance(step, Use):
                self._number(step.node)
            elif isinstance(step, Drive):
                for driven in step.nodes:
                    self._number(driven)

    def function(self, node: Node) -> Any:
        def function() -> Held | None:
            return run_to_its_end(self.body(node))

        return function

    def coroutine(self, node: Node) -> Any:
        async def coroutine() -> Held | None:
            return await self.body(node)

        return coroutine

    def generator(self, node: Node) -> Any:
        def generator() -> Generator[None, None, Held | None]:
            return (yield from self.body(node).__await__())

        return generator

    async def body(self, node: Node) -> Held | None:
        """Run the steps of a node; return what it holds where it ends so."""
        model = self.model
        model.begin(node)
        held: Held = []
        self.take(held, BASE_BYTES)
        try:
            for step in node.steps:
                await self.step(node, step, held)
        except Trouble:
            model.left[node.number] = charged_bytes(held)
            raise
        except Thrown:
            model.thrown[0] += charged_bytes(held)
            raise
        except GeneratorExit:
            self.drop(held, len(held))
            raise
        else:
            if node.ends == "raises":
                model.left[node.number] = charged_bytes(held)
                raise Trouble
            if node.ends == "returns":
                return held
            self.drop(held, len(held))
            return None
        finally:
            model.end()

    async def step(self, node: Node, step: Any, held: Held) -> None:
        if isinstance(step, Take):
            self.take(held, step.size)
        elif isinstance(step, Drop):
            self.drop(held, min(1, len(held) - 1))
        elif isinstance(step, Pause) and node.kind != "function":
            suspended = self.model.suspend()
            try:
                await Suspension()
            finally:
                self.model.resume(suspended)
        elif isinstance(step, Use):
            await self.use(step, held)
        elif isinstance(step, Drive):
            self.drive(step, held)

    def take(self, held: Held, size: int) -> None:
        held.append(bytearray(size))
        self.model.charge(buffer(size))

    def drop(self, held: Held, count: int) -> None:
        """Drop the newest buffers; never the first, but at the end."""
        while count:
            self.model.charge(-buffer(len(held.pop())))
            count -= 1

    async def use(self, step: Use, held: Held) -> None:
        try:
            made = await step.node.run() if step.node.kind == "coroutine" else step.node.run()
        except Trouble:
            made = None
        self.receive(step.node, made, held if step.keep else None)

    def drive(self, step: Drive, held: Held) -> None:
        alive = {node.number: node for node in step.nodes}
        generators = {node.number: node.run() for node in step.nodes}
        for place in step.order:
            if alive:
                node = list(alive.values())[place % len(alive)]
                if self.advance(node, generators[node.number].__next__, held):
                    del alive[node.number], generators[node.number]
        for node in list(alive.values()):
            generator = generators.pop(node.number)
            if step.ending == "exhaust":
                while not self.advance(node, generator.__next__, held):
                    pass
            elif step.ending == "close":
                generator.close()
            elif step.ending == "throw" and self.model.begun[node.number]:
                self.advance(node, lambda throw=generator.throw: throw(Thrown()), held)
            del generator  # Which closes it, where nothing has ended it yet.

    def advance(self, node: Node, step: Any, held: Held) -> bool:
        """Make one step of a generator; return whether it has ended."""
        try:
            step()
        except StopIteration as stop:
            made = stop.value
        except (Trouble, Thrown):
            made = None
        else:
            return False
        self.model.charge(-self.model.thrown[0])
        self.model.thrown[0] = 0
        self.receive(node, made, held)
        return True

    def receive(self, node: Node, made: Held | None, held: Held | None) -> None:
        """Keep what a call returned, or drop it; what it left in its traceback is gone."""
        self.model.charge(-self.model.left[node.number])
        if made is not None and held is not None:
            held += made
        elif made is not None:
            self.model.charge(-charged_bytes(made))

    async def root(self, node: Node) -> None:
        with suppress(Trouble):
            if node.kind == "coroutine":
                await node.run()
            elif node.kind == "function":
                node.run()
            else:
                for _ in node.run():
                    pass

    async def main(self) -> None:
        await asyncio.gather(*map(self.root, self.roots))


def run_to_its_end(body: Coroutine[Any, Any, Held | None]) -> Held | None:
    try:
        body.send(None)
    except StopIteration as stop:
        made: Held | None = stop.value
        return made
    msg = "a function cannot be suspended"
    raise AssertionError(msg)


@st.composite
def programs(draw: st.DrawFn) -> list[Node]:
    """Draw the roots of a program of at most `MOST_CALLS` calls."""
    left = [MOST_CALLS]

    def node(kinds: list[str], depth: int) -> Node:
        left[0] -= 1
        made = Node(
            draw(st.sampled_from(kinds)), draw(st.sampled_from(["drops", "returns", "raises"]))
        )
        for _ in range(draw(st.integers(1, 6))):
            made.steps.append(step(made.kind, depth))
        return made

    def step(kind: str, depth: int) -> Any:
        plain = ["take", "take", "drop", "pause"]
        deeper = ["use", "use", "drive"] if depth < 3 and left[0] >= 3 else []
        choice = draw(st.sampled_from(plain + deeper))
        if choice == "take":
            return Take(draw(st.integers(1, 500)) * KIB)
        if choice == "drop":
            return Drop()
        if choice == "pause":
            return Pause()
        if choice == "use":
            kinds = ["function"] if kind == "function" else ["function", "coroutine"]
            return Use(node(kinds, depth + 1), draw(st.booleans()))
        return Drive(
            [node(["generator"], depth + 1) for _ in range(draw(st.integers(1, 3)))],
            draw(st.lists(st.integers(0, 2), max_size=8)),
            draw(st.sampled_from(["exhaust", "close", "throw", "abandon"])),
        )

    kinds = ["coroutine", "coroutine", "function", "generator"]
    roots = [node(kinds, 0)]
    while left[0] >= 3 and len(roots) < 4 and draw(st.booleans()):
        roots.append(node(kinds, 0))
    return roots


@pytest.mark.parametrize("probe", PROBES)
@settings(
    max_examples=150,
    deadline=None,
    database=None,
    derandomize=True,
    # To explain a failure it would trace the lines of the first examples, which takes memory.
    phases=[Phase.generate, Phase.shrink],
)
@given(roots=programs())
def test_random_programs_are_charged_as_the_model_says(probe: str, roots: list[Node]) -> None:
    """Every call has its own net and peak, callees included and suspensions left out."""
    program = Program(roots)
    with recording(Config(probe=probe)) as sink:
        asyncio.run(program.main())
    model = program.model
    assert not model.running
    for node in program.nodes:
        measurements = sink.of(str(node.number))
        assert len(measurements) == model.begun[node.number]
        for measurement in measurements:
            assert measurement.attribution == "exact"
            assert near(measurement.heap_net_bytes, model.net[node.number])
            assert near(measurement.heap_peak_bytes, model.peak[node.number])


def near(measured: int | None, truth: int) -> bool:
    assert measured is not None
    return abs(measured - truth) <= max(HEAP_WITHIN_BYTES, int(abs(truth) * TOLERANCE))
