"""Loads plugins by the names of their classes."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any


@dataclass
class PluginEntryPoint:
    name: str
    module_name: str
    attr_name: str

    def load(self) -> type:
        found: type = getattr(importlib.import_module(self.module_name), self.attr_name)
        return found


@dataclass
class PluginLoadResult:
    success: bool
    plugin: Any = None
    error: str | None = None


class PluginLoader:
    def __init__(self) -> None:
        self._discovered_plugins: dict[str, PluginEntryPoint] = {}
        self._loaded_plugins: dict[str, Any] = {}

    def load_plugin(self, name: str) -> PluginLoadResult:
        if name in self._loaded_plugins:
            return PluginLoadResult(success=True, plugin=self._loaded_plugins[name])
        try:
            plugin_class = self._discovered_plugins[name].load()
            self._loaded_plugins[name] = plugin_class()
        except Exception as error:
            return PluginLoadResult(success=False, error=f"Failed to load {name}: {error}")
        return PluginLoadResult(success=True, plugin=self._loaded_plugins[name])

    def unload_plugin(self, name: str) -> bool:
        if name in self._loaded_plugins:
            del self._loaded_plugins[name]
            return True
        return False
