"""Circles are told by types and attributes, whatever the objects say of themselves."""

from __future__ import annotations

import gc
import random
import sys
from collections import deque
from typing import TYPE_CHECKING, Any

import pytest

from stratatrace import find_cycles
from stratatrace.diagnose import cycle_paths
from stratatrace.diagnose.cycle_graph import cyclic_parts, shortest_circle
from stratatrace.diagnose.cycle_reading import reference

from . import garbage
from .garbage import Cached, Derived, Node, Registry, Slotted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def _made_by(make: Callable[[], object]) -> Any:
    """Return the group of what is left behind by one call."""
    with find_cycles() as found:
        make()
    assert len(found) == 1, str(found)
    return found[0]


@pytest.mark.parametrize(
    ("make", "path", "pattern"),
    [
        (garbage.tree, "Node.parent -> Node.children -> Node", "back_reference"),
        (garbage.pair, "Slotted.prev -> Slotted.next -> Slotted", "linked_list"),
        (garbage.ring, "Slotted.next -> ... -> Slotted", "linked_list"),
        (garbage.linked_list, "Slotted.prev -> Slotted.next -> Slotted", "linked_list"),
        (garbage.itself, "Derived.next -> Derived", "self_reference"),
        (garbage.in_dictionary, "Derived.other -> ... -> Derived", "linked_list"),
        (Registry, "Entry.registry -> Registry.entries -> Entry", "back_reference"),
        (garbage.Button, "Button.on_click -> Button.press().__self__ -> Button", "stored_method"),
        (
            garbage.recursive_closure,
            "countdown().closure[countdown] -> countdown()",
            "recursive_closure",
        ),
        (
            garbage.stored_closure,
            "Node.data -> <lambda>().closure[node] -> Node",
            "stored_closure",
        ),
        (garbage.stored_partial, "Node.data -> partial.args -> Node", "stored_closure"),
        (
            garbage.exception,
            "ValueError.__traceback__ -> exception() frame.kept -> ValueError",
            "exception",
        ),
        (garbage.frame, "frame() frame.kept -> frame() frame", "frame"),
        pytest.param(
            garbage.generator,
            "numbers() generator -> numbers() generator",
            "generator",
            marks=pytest.mark.skipif(
                sys.version_info < (3, 12),
                reason="before 3.12 its finalizer closes it before the collector hands it over",
            ),
        ),
        (
            Cached,
            "Cached.load -> lru_cache.__wrapped__ -> Cached._load().__self__ -> Cached",
            "lru_cache",
        ),
        (garbage.containers, "dict[] -> list[] -> dict", "container"),
        (garbage.local_class, "class Local.__mro__ -> class Local", "class"),
    ],
)
def test_known_patterns(make: Callable[[], object], path: str, pattern: str) -> None:
    """Each has its path, and advice."""
    group = _made_by(make)
    assert (group.path, group.pattern) == (path, pattern)
    assert group.advice
    assert group.advice in str(group)


def test_an_example_has_places_and_keys() -> None:
    """The path has none, so that there are few paths."""
    assert _made_by(Registry).example == "Entry.registry -> Registry.entries['first'] -> Entry"
    assert _made_by(garbage.containers).example == "dict['key'] -> list[0] -> dict"

    def make() -> None:
        for number in range(50):
            registry = Registry()
            registry.entries[str(number)] = registry.entries.pop("first")

    assert _made_by(make).cycles == 50


@pytest.mark.parametrize(
    ("hold", "path"),
    [
        (lambda one: (one,), "Node.data -> Node"),
        (lambda one: {one}, "Node.data -> Node"),
        (lambda one: frozenset([one]), "Node.data -> Node"),
        (lambda one: deque([one]), "Node.data -> Node"),
        (lambda one: {one: 1}, "Node.data -> Node"),
        (lambda one: [[{"a": (one,)}]], "Node.data -> Node"),
        (lambda one: one.__init__, "Node.data -> Node.__init__().__self__ -> Node"),
        (lambda one: [one].append, "Node.data -> list.append().__self__ -> Node"),
        (lambda one: iter([one]), "Node.data -> list_iterator -> Node"),
        (property, "Node.data -> property.fget -> Node"),
    ],
)
def test_what_holds_the_other_end(hold: Callable[[Any], object], path: str) -> None:
    """Lists and the like are left out; what is between otherwise is told."""

    def make() -> None:
        node = Node()
        node.data = hold(node)

    assert _made_by(make).path == path


def test_locals_of_a_generator() -> None:
    """The collector closes one that is under way, which is in no circle then."""

    def make() -> None:
        def numbers() -> Iterator[Any]:
            me = yield 1
            yield me

        one: Any = numbers()
        next(one)
        one.send(one)

    with find_cycles() as found:
        make()
    assert not found

    class Holder: ...

    def numbers(holder: Any) -> Iterator[int]:
        holder.numbers = None
        yield 1

    holder: Any = Holder()
    holder.numbers = numbers(holder)
    found_by = reference(holder.numbers, holder)
    assert (found_by.kind, found_by.name) == ("local", "holder")
    holder.numbers = None


def test_attributes_of_the_same_class_are_told_apart() -> None:
    """Also where the objects are of one shape."""

    def make() -> None:
        for name in ("left", "right", "left"):
            one: Any = Derived()
            one.left = one.right = None
            setattr(one, name, [one])

    with find_cycles() as found:
        make()
    assert {group.path: group.cycles for group in found} == {
        "Derived.left -> Derived": 2,
        "Derived.right -> Derived": 1,
    }


def test_classes_of_one_name_are_told_apart() -> None:
    """Their full names differ, where they are of different modules."""
    classes = [type("Same", (), {"__module__": name}) for name in ("one", "other")]
    with find_cycles() as found:
        for kind in classes:
            one: Any = kind()
            one.me = one
        del one
    assert [group.path for group in found] == ["Same.me -> Same"] * 2
    assert sorted(group.types for group in found) == [("one.Same",), ("other.Same",)]


def test_the_same_circle_is_told_from_the_same_object() -> None:
    """Wherever the search has come upon it, and also where nothing is known to go back."""

    def make(kinds: tuple[Any, Any]) -> None:
        one, other = (kind() for kind in kinds)
        one.any, other.any = other, one

    with find_cycles() as found:
        for kinds in ((Slot, Derived), (Derived, Slot)) * 3:
            make(kinds)
    (group,) = found
    assert group.cycles == 6
    assert group.path == "Derived.any -> Slot.any -> Derived"
    assert (group.pattern, group.advice) == (None, None)


def test_many_shapes_are_told_as_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond so many, cycles of the same classes are taken for the same."""
    monkeypatch.setattr(cycle_paths, "_MOST_SHAPES", 1)

    def make(name: str) -> None:
        one: Any = Derived()
        one.left = one.right = None
        setattr(one, name, one)

    with find_cycles() as found:
        for name in ("left", "right", "left", "right"):
            make(name)
    assert [group.cycles for group in found] == [4]


def test_a_long_circle_of_two_classes() -> None:
    """Only its beginning is told."""

    def make() -> None:
        first: Any = Slotted()
        last = first
        for _ in range(500):
            last.next = Derived()
            last.next.prev = Slotted()
            last = last.next.prev
        last.next = first

    path = _made_by(make).path
    assert path.count("...") == 1
    assert len(path) < 400


def test_what_only_the_cycle_keeps_is_counted() -> None:
    """Bytes that the collector does not know; not what somebody else has, too."""
    shared = bytearray(3_000_000)

    def make() -> None:
        for _ in range(3):
            node = Node()
            node.parent = node
            node.data = [bytearray(1_000_000), shared, ("x" * 500_000).upper()]

    group = _made_by(make)
    assert group.cycles == 3
    assert 4_500_000 < group.held_bytes < 4_510_000
    assert group.size_bytes < 1000
    assert len(shared) == 3_000_000


def test_what_attributes_of_the_object_that_is_looked_at_refer_to_is_counted() -> None:
    """To look at an object may change how its attributes are kept."""

    def make() -> None:
        node = Node()
        node.parent = node
        node.data = bytearray(1_000_000)

    assert 1_000_000 < _made_by(make).held_bytes < 1_001_000


class Slot:
    __slots__ = ("any",)


_called: list[str] = []


def _calls(name: str) -> Callable[..., Any]:
    def method(*_args: object) -> Any:
        _called.append(name)
        raise ValueError(name)

    return method


def _all_called(names: str, **more: object) -> dict[str, Any]:
    return {f"__{name}__": _calls(name) for name in names.split()} | more


# A class of classes that says nothing that is true.
_Liar: Any = type(
    "_Liar",
    (type,),
    _all_called(
        "getattribute repr eq hash instancecheck subclasscheck",
        **{f"__{n}__": property(_calls(n)) for n in ("name", "mro", "dict", "flags", "bases")},
    ),
)


_Text: Any = type("_Text", (str,), _all_called("str repr len eq format", __hash__=str.__hash__))


def _hostile(base: type) -> Any:
    body = _all_called(
        "repr str eq hash bool len iter getattribute sizeof getattr setattr delattr contains "
        "getitem dir format reduce",
        __class__=property(_calls("class")),
        __dict__=property(_calls("dict")),
        __slots__=("me",) if base is object else (),
    )
    return _Liar("Hostile", (base,), body)


@pytest.mark.parametrize("base", [object, list, dict])
def test_no_code_of_the_objects_runs(base: type) -> None:
    """Whatever they say they are, and whatever they raise."""
    hostile = _hostile(base)
    members = type.__dict__["__dict__"].__get__(hostile)
    _called.clear()

    def make() -> None:
        new: Any = base.__new__
        one = new(hostile)
        if base is list:
            list.append(one, one)
        elif base is dict:
            dict.__setitem__(one, "key", one)
        else:
            members["me"].__set__(one, one)

    with find_cycles(traced=True) as found:
        make()
    assert _called == []
    shown = "Hostile.me" if base is object else "Hostile[]"
    assert [group.path for group in found] == [f"{shown} -> Hostile"]
    assert found.size_bytes > 0
    assert str(found)
    assert found.to_dict()


def test_a_size_that_raises_or_lies_is_not_asked_for() -> None:
    """The interpreter's own is taken."""

    class Sized:
        def __init__(self) -> None:
            self.me = self

        def __sizeof__(self) -> int:
            return 10**12

    with find_cycles() as found:
        Sized()
    assert 0 < found.size_bytes < 10_000


def test_names_that_are_no_plain_text() -> None:
    """Of classes, and of attributes; and those that are much too long."""
    kind = type("x" * 5000, (), {})
    kind.__qualname__ = _Text("y" * 5000)
    one: Any = kind()
    vars(one)[_Text("first")] = None
    one.me = one
    _called.clear()
    with find_cycles() as found:
        del one
    assert _called == []
    assert found[0].path.startswith("yyy")
    assert len(found[0].path) < 500

    slotted: Any = Derived()
    vars(slotted)[_Text("first")] = None
    slotted.next = slotted
    with find_cycles() as found:
        del slotted
    assert _called == []
    assert found[0].path == "Derived.next -> Derived"

    other: Any = Derived()
    vars(other)[5] = other
    with find_cycles() as found:
        del other
    assert found[0].path == "Derived -> Derived"
    assert found[0].advice is None


def test_the_parts_of_a_graph() -> None:
    """Of 200 random graphs: as a slow and simple way finds them, and the shortest way back."""
    chance = random.Random(5)
    for _ in range(200):
        count = chance.randrange(1, 9)
        edges: list[list[int | None]] = [
            [chance.choice([None, *range(count)]) for _ in range(chance.randrange(3))]
            for _ in range(count)
        ]
        distances = _distances(edges)
        expected = {
            frozenset(
                [one, *(o for o in range(count) if (one, o) in distances and (o, one) in distances)]
            )
            for one in range(count)
            if (one, one) in distances
        }
        parts = cyclic_parts(edges)
        assert {frozenset(part) for part in parts} == expected
        assert len(parts) == len(expected)
        for part in parts:
            for one in part:
                circle = shortest_circle(edges, one, set(part))
                assert len(circle) == distances[one, one]
                assert circle[0] == one
                for at, place in enumerate(circle):
                    assert circle[(at + 1) % len(circle)] in edges[place]
        some = [place for place in range(count) if chance.random() < 0.5]
        kept = [
            [o if o in some else None for o in edges[p]] if p in some else [] for p in range(count)
        ]
        among = {frozenset(part) for part in cyclic_parts(edges, some)}
        assert among == {frozenset(part) for part in cyclic_parts(kept)}


def _distances(edges: list[list[int | None]]) -> dict[tuple[int, int], int]:
    """Return how many references lead from each to each, where any do."""
    known: dict[tuple[int, int], int] = {}
    for start in range(len(edges)):
        level, steps = {start}, 0
        while level:
            steps += 1
            level = {o for one in level for o in edges[one] if o is not None}
            level = {o for o in level if (start, o) not in known}
            known.update({(start, o): steps for o in level})
    return known


def test_looking_does_not_depend_on_depth() -> None:
    """A chain of many thousand objects needs no recursion."""

    def make() -> None:
        garbage.ring(20_000)

    group = _made_by(make)
    assert group.objects == 20_000
    gc.collect()
