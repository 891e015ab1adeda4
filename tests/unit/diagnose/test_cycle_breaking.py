"""Circles are broken where it was asked for, and only those that nobody uses."""

from __future__ import annotations

import gc
import weakref
from typing import TYPE_CHECKING, Any

import pytest

from stratatrace import break_cycles, find_cycles
from stratatrace.errors import InvalidTypeError, InvalidValueError, NotReadyError

from . import garbage
from .garbage import Cached, Derived, Node, Registry, Slotted, alive

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(autouse=True)
def no_collector() -> Iterator[None]:
    """Have nothing freed but by its count of references."""
    gc.disable()
    yield
    gc.enable()


def test_the_reference_that_goes_back_is_taken_away() -> None:
    """And no other; what was broken is freed without the collector."""
    with find_cycles(keep=True) as found:
        garbage.tree(children=3)
        garbage.tree(children=2)
    root = next(n for n in found[0].members()[0] if type(n) is Node and n.children)
    freed = weakref.ref(root)
    del root
    done = break_cycles(found)
    assert (done.cycles, done.references, done.in_use, done.left) == (2, 5, 0, 0)
    for part in found[0].members():
        nodes = [item for item in part if type(item) is Node]
        assert sorted(hasattr(node, "parent") for node in nodes) == [*[False] * (len(nodes) - 1), 1]
        assert all(hasattr(node, "children") for node in nodes)
    assert "took 5 references out of 2 cycles; 0 in use, 0 left" in str(done)
    assert "5 x Node.parent  (Node.parent -> Node.children -> Node)" in str(done)
    told: Any = done.to_dict()
    assert told["groups"][0]["reference"] == "Node.parent"
    del part, nodes
    found.release()
    assert freed() is None
    assert not alive(Node)


@pytest.mark.parametrize(
    "make",
    [
        garbage.pair,
        garbage.ring,
        garbage.linked_list,
        garbage.itself,
        garbage.in_dictionary,
        garbage.Button,
        garbage.stored_closure,
        garbage.stored_partial,
        garbage.exception,
        garbage.containers,
        Registry,
        Cached,
    ],
)
def test_patterns_that_can_be_broken(make: Callable[[], object]) -> None:
    """Nothing of them is left for the collector."""
    with find_cycles(keep=True) as found:
        make()
    done = break_cycles(found)
    assert (done.cycles, done.left) == (1, 0)
    found.release()
    assert not find_cycles.now()


@pytest.mark.parametrize("make", [garbage.frame, garbage.recursive_closure, garbage.local_class])
def test_what_is_not_known_to_go_back_is_left(make: Callable[[], object]) -> None:
    """It is told, and left to the collector."""
    with find_cycles(keep=True) as found:
        make()
    done = break_cycles(found)
    assert (done.references, done.cycles, done.left) == (0, 0, 1)
    assert "no reference that is known to go back" in str(done)
    found.release()
    assert find_cycles.now().cycles == 1


def test_what_is_in_use_is_left_alone() -> None:
    """What a variable refers to, and all that this leads to; what leads there may go."""
    with find_cycles(keep=True) as found:
        for _ in range(3):
            garbage.tree()
    used = found[0].members()[1]
    done = break_cycles(found)
    assert (done.cycles, done.in_use, done.left) == (2, 1, 0)
    assert all(hasattr(item, "parent") for item in used if type(item) is Node)
    del used
    assert break_cycles(found).cycles == 1


def test_what_others_in_use_lead_to_is_in_use() -> None:
    """Not only what is referred to itself."""

    def make() -> None:
        leader, led = Node(), Node()
        leader.parent, led.parent = leader, led
        leader.data = led

    with find_cycles(keep=True) as found:
        make()
    assert found.cycles == 2
    (leader,) = next(part for part in found[0].members() if part[0].data is not None)
    done = break_cycles(found)
    assert (done.in_use, done.cycles) == (2, 0)
    assert leader.data.parent is leader.data
    led = leader.data
    del leader
    done = break_cycles(found)
    assert (done.in_use, done.cycles) == (1, 1)
    assert led.parent is led


def test_a_dry_run_does_nothing() -> None:
    """It tells what would be done."""
    with find_cycles(keep=True) as found:
        garbage.tree()
    done = break_cycles(found, dry_run=True)
    assert done.dry_run
    assert (done.cycles, done.references) == (1, 3)
    assert str(done).startswith("would take 3 references out of 1 cycles")
    assert all(hasattr(item, "parent") for item in found[0].members()[0] if type(item) is Node)


def test_another_reference_can_be_chosen() -> None:
    """One of the path, of one group."""
    with find_cycles(keep=True) as found:
        garbage.tree()
        garbage.itself()
    group = next(g for g in found if "parent" in g.path)
    done = break_cycles(group, reference="Node.children")
    assert (done.references, done.cycles, done.left) == (1, 1, 0)
    (part,) = group.members()
    assert all(hasattr(item, "parent") for item in part if type(item) is Node)
    assert break_cycles(found).cycles == 1


def test_what_cannot_be_taken_away_is_left() -> None:
    """Such as what a partial function is of."""
    with find_cycles(keep=True) as found:
        garbage.stored_partial()
    done = break_cycles(found[0], reference="partial.args")
    assert (done.references, done.left) == (0, 1)


def test_no_code_of_the_objects_runs() -> None:
    """Neither where an attribute is deleted, nor where keys are compared."""
    called: list[str] = []

    class Guarded:
        def __init__(self) -> None:
            self.owner = self

        def __delattr__(self, name: str) -> None:
            called.append(name)

        def __getattribute__(self, name: str) -> Any:
            called.append(name)
            return object.__getattribute__(self, name)

    class Key:
        def __hash__(self) -> int:
            called.append("hash")
            return hash("owner")

        def __eq__(self, other: object) -> bool:
            called.append("eq")
            return False

    def make() -> None:
        Guarded()
        one: Any = Derived()
        vars(one)[Key()] = 1
        vars(one)["owner"] = one

    with find_cycles(keep=True) as found:
        make()
        called.clear()
    done = break_cycles(found)
    assert called == []
    assert {group.reference: group.cycles for group in done.groups} == {
        "Guarded.owner": 1,
        "Derived.owner": 0,
    }


def test_misuse_is_told_at_once() -> None:
    """With what to do."""
    with pytest.raises(InvalidTypeError, match="wants a CycleReport or one of its groups"):
        break_cycles([])  # type: ignore[arg-type]
    with find_cycles() as found:
        garbage.pair()
    with pytest.raises(NotReadyError, match=r"find_cycles\(keep=True\)"):
        break_cycles(found)
    with find_cycles(keep=True) as found:
        garbage.pair()
    with pytest.raises(InvalidTypeError, match="give break_cycles\\(\\) one of"):
        break_cycles(found, reference="Slotted.next")
    with pytest.raises(InvalidValueError, match=r"choose one of 'Slotted.prev', 'Slotted.next'"):
        break_cycles(found[0], reference="Slotted.last")
    found.release()
    gc.collect()
    with find_cycles(keep=True) as found:
        pass
    assert break_cycles(found).groups == ()
    assert not alive(Slotted)
