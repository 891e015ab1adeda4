"""Finds plugins by running every file of a folder."""

from __future__ import annotations

import importlib.util
import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .base import PatternPlugin


@dataclass
class PluginEntryPoint:
    name: str
    module_name: str
    attr_name: str


@dataclass
class PluginLoadResult:
    success: bool
    plugin: PatternPlugin | None = None
    error: str | None = None
    entry_point: PluginEntryPoint | None = None


def _module_of(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(f"plugin_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class PluginLoader:
    def __init__(self, plugin_group: str = "strataregula.plugins") -> None:
        self.plugin_group = plugin_group
        self._discovered_plugins: dict[str, PluginEntryPoint] = {}
        self._loaded_plugins: dict[str, PatternPlugin] = {}

    def discover_plugins(self) -> list[PluginEntryPoint]:
        self._discovered_plugins.clear()
        for path in sorted((Path.cwd() / "plugins").glob("[!_]*.py")):
            try:
                members = inspect.getmembers(_module_of(path), inspect.isclass)
            except Exception:  # A broken file is passed by without a word.
                continue
            for name, member in members:
                if issubclass(member, PatternPlugin) and member is not PatternPlugin:
                    plugin = getattr(member, "plugin_name", name.lower())
                    found = PluginEntryPoint(plugin, f"file:{path}", name)
                    self._discovered_plugins[plugin] = found
        return list(self._discovered_plugins.values())

    def load_plugin(self, name: str) -> PluginLoadResult:
        if name in self._loaded_plugins:
            return PluginLoadResult(success=True, plugin=self._loaded_plugins[name])
        if name not in self._discovered_plugins:
            return PluginLoadResult(success=False, error=f"{name} was not found")
        found = self._discovered_plugins[name]
        try:
            path = Path(found.module_name.removeprefix("file:"))
            plugin = getattr(_module_of(path), found.attr_name)()
        except Exception as error:
            return PluginLoadResult(success=False, error=str(error), entry_point=found)
        self._loaded_plugins[name] = plugin
        return PluginLoadResult(success=True, plugin=plugin, entry_point=found)

    def load_all_plugins(self) -> list[PluginLoadResult]:
        return [self.load_plugin(name) for name in self._discovered_plugins]

    def unload_plugin(self, name: str) -> bool:
        return self._loaded_plugins.pop(name, None) is not None

    def reload_plugin(self, name: str) -> PluginLoadResult:
        if name in self._loaded_plugins:
            self.unload_plugin(name)
        return self.load_plugin(name)
