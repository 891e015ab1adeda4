"""Lazy values against a simple model: whatever is done, each is what it must be."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from stratatrace import lazy
from stratatrace.config import Config
from stratatrace.reuse.lazy_once import _under_way
from stratatrace.testing import recording
from unit.reuse.lazy_fixtures import run_strictly  # noqa: F401 -- a fixture of every test

if TYPE_CHECKING:
    from stratatrace.reuse.lazy import LazyProperty

KINDS = {
    "namespace": ({}, {}),
    "slots": ({"__slots__": ("__weakref__",)}, {}),
    "evictable": ({}, {"evict_under_pressure": True}),
    "weak": ({}, {"weak": True}),
    "weak with slots": ({"__slots__": ("__weakref__",)}, {"weak": True}),
}


class Result:
    """What is computed."""


class Lazies(RuleBasedStateMachine):
    """Instances of one class come and go, and their values with them.

    The model holds each value that an instance must have, by the instance's number.
    """

    @initialize(kind=st.sampled_from(sorted(KINDS)))
    def begin(self, kind: str) -> None:
        members, options = KINDS[kind]
        self.recorder = recording(Config(probe="rss", rss_peak="off"))
        self.recorder.__enter__()
        self.weak = "weak" in kind
        self.fails = False
        self.computations = 0
        self.descriptor: LazyProperty[Any] = lazy(**options)(self.compute)  # type: ignore[call-overload]
        self.owner = type("Owner", (), {**members, "value": self.descriptor})
        self.descriptor = self.owner.value  # type: ignore[attr-defined]
        self.instances: dict[int, Any] = {}
        self.model: dict[int, Result] = {}
        self.number = 0

    def compute(self, _instance: object) -> Result:
        if self.fails:
            raise KeyError
        self.computations += 1
        return Result()

    @rule()
    def make(self) -> None:
        self.number += 1
        self.instances[self.number] = self.owner()

    def some(self, data: st.DataObject) -> int:
        return data.draw(st.sampled_from(sorted(self.instances)))

    @precondition(lambda self: self.instances)
    @rule(data=st.data())
    def read(self, data: st.DataObject) -> None:
        number = self.some(data)
        before, known = self.computations, self.model.get(number)
        value = self.instances[number].value
        assert self.computations == before + (known is None)
        if known is not None:
            assert value is known
        self.model[number] = value

    @precondition(lambda self: self.instances)
    @rule(data=st.data())
    def fail(self, data: st.DataObject) -> None:
        number = self.some(data)
        self.fails = True
        try:
            if number in self.model:
                assert self.instances[number].value is self.model[number]
            else:
                with pytest.raises(KeyError):
                    _ = self.instances[number].value
        finally:
            self.fails = False

    @precondition(lambda self: self.instances)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        number = self.some(data)
        if self.model.pop(number, None) is not None:
            # The model's was the last reference to it, where it is weak.
            if not self.weak:
                del self.instances[number].value
        else:
            with pytest.raises(AttributeError):
                del self.instances[number].value

    @precondition(lambda self: self.instances)
    @rule(data=st.data())
    def reset(self, data: st.DataObject) -> None:
        number = self.some(data)
        self.descriptor.reset(self.instances[number])
        self.model.pop(number, None)

    @precondition(lambda self: self.instances)
    @rule(data=st.data())
    def assign(self, data: st.DataObject) -> None:
        number = self.some(data)
        value = self.model[number] = Result()
        self.instances[number].value = value

    @precondition(lambda self: self.instances)
    @rule(data=st.data())
    def drop(self, data: st.DataObject) -> None:
        number = self.some(data)
        del self.instances[number]
        self.model.pop(number, None)

    @rule()
    def evict(self) -> None:
        namespaced = not self.descriptor._aside.cells
        self.descriptor._aside.evict()
        if not namespaced:
            self.model.clear()

    @rule()
    def collect(self) -> None:
        gc.collect(0)

    @invariant()
    def it_is_known_who_has_a_value(self) -> None:
        if not hasattr(self, "instances"):
            return
        for number, instance in self.instances.items():
            assert self.descriptor.is_computed(instance) is (number in self.model)
        cells = self.descriptor._aside.cells
        assert len(cells) <= len(self.instances)
        assert not cells or self.descriptor._aside.live() == len(self.model)
        assert not _under_way

    def teardown(self) -> None:
        if hasattr(self, "recorder"):
            self.recorder.__exit__(None, None, None)


TestLazies = Lazies.TestCase
TestLazies.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
