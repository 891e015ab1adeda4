"""Plugins that can be made as new are used again, where nobody else has them."""

from __future__ import annotations

import gc
import importlib
import logging
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from pressure_watching import nobody_watches_afterwards
from strataregula_compilers import library, switched_on

from stratatrace.config import Config
from stratatrace.instrumentation.strataregula import optimize_plugins
from stratatrace.testing import recording

if TYPE_CHECKING:
    from collections.abc import Iterator


__all__ = ["nobody_watches_afterwards"]


class Plain:
    """A plugin that is made each time."""

    made: ClassVar[int] = 0
    info = "a plugin"

    def __init__(self) -> None:
        type(self).made += 1
        self.seen: list[str] = []


class Reused(Plain):
    """A plugin that can be made as new."""

    made: ClassVar[int] = 0

    def reset(self) -> None:
        self.seen.clear()


class Broken(Reused):
    """A plugin that cannot be made."""

    def __init__(self) -> None:
        msg = "no plugin today"
        raise ValueError(msg)


@pytest.fixture
def loaders(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    plugins = ModuleType("their_plugins")
    vars(plugins).update(Plain=Plain, Reused=Reused, Broken=Broken)
    monkeypatch.setitem(sys.modules, "their_plugins", plugins)
    Plain.made = Reused.made = 0
    with library("stand-in"), recording(Config(probe="rss")):
        yield importlib.import_module("strataregula.plugins.loader")


def loader_of(module: Any) -> Any:
    loader = module.PluginLoader()
    for name in ("Plain", "Reused", "Broken"):
        loader._discovered_plugins[name] = module.PluginEntryPoint(name, "their_plugins", name)
    return loader


def test_an_instance_comes_again(loaders: Any) -> None:
    """What was unloaded is loaded again, as new; a class without reset is made each time."""
    with switched_on("plugins"):
        loader = loader_of(loaders)
        for _ in range(3):
            for name in ("Plain", "Reused"):
                result = loader.load_plugin(name)
                assert result.success
                assert result.plugin.seen == []
                assert loader.load_plugin(name).plugin is result.plugin
                result.plugin.seen.append("something")
                del result
                assert loader.unload_plugin(name)
        assert not loader.unload_plugin("Reused")
    assert (Plain.made, Reused.made) == (3, 1)


def test_an_instance_that_somebody_has_is_not_given_to_others(loaders: Any) -> None:
    """Two loaders have two; and one that is held on to after it was unloaded stays theirs."""
    with switched_on("plugins"):
        one, other = loader_of(loaders), loader_of(loaders)
        mine = one.load_plugin("Reused").plugin
        assert other.load_plugin("Reused").plugin is not mine
        mine.seen.append("mine")
        one.unload_plugin("Reused")
        assert one.load_plugin("Reused").plugin is not mine
        assert mine.seen == ["mine"]


def test_a_loader_that_is_gone(loaders: Any, caplog: pytest.LogCaptureFixture) -> None:
    """What it had is gone with it, and no leak is told."""
    with switched_on("plugins"):
        for _ in range(3):
            loader_of(loaders).load_plugin("Reused")
        gc.collect()
        kept = loader_of(loaders).load_plugin("Reused").plugin
        kept.seen.append("mine")
        assert loader_of(loaders).load_plugin("Reused").plugin.seen == []
        assert kept.seen == ["mine"]
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_failures_are_the_same(loaders: Any) -> None:
    """A plugin that cannot be made, and one that does not exist."""
    bare = [loader_of(loaders).load_plugin(name) for name in ("Broken", "Unheard")]
    with switched_on("plugins"):
        assert [loader_of(loaders).load_plugin(name) for name in ("Broken", "Unheard")] == bare


def test_a_pool_that_is_at_its_end(loaders: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who loads more than a pool may have, has them made."""
    monkeypatch.setattr(optimize_plugins, "_MOST", 1)
    with switched_on("plugins"):
        held = [loader_of(loaders) for _ in range(3)]
        plugins = [loader.load_plugin("Reused").plugin for loader in held]
    assert len({id(plugin) for plugin in plugins}) == 3


def test_the_class_is_what_an_entry_point_loads(loaders: Any) -> None:
    """Whoever asks an entry point for its class gets the class."""
    with switched_on("plugins"):
        entry = loaders.PluginEntryPoint("Reused", "their_plugins", "Reused")
        assert entry.load() is Reused
