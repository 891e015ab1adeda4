"""The life of plugins. Loading one always ends as a failure, though the plugin was made."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from enum import Enum
from typing import Any

from ..hooks.base import HookManager
from .loader import PluginLoader

logger = logging.getLogger(__name__)


class PluginState(Enum):
    DISCOVERED = "discovered"
    LOADED = "loaded"
    ACTIVE = "active"
    INACTIVE = "inactive"
    FAILED = "failed"
    UNLOADED = "unloaded"


@dataclass
class PluginContext:
    plugin: Any
    state: PluginState
    load_time: float
    last_used: float


class EnhancedPluginManager:
    def __init__(self, config: Any = None, plugin_group: str = "strataregula.plugins") -> None:
        self.config = config
        self.loader = PluginLoader(plugin_group)
        self.hooks: Any = HookManager()
        self._plugins: dict[str, PluginContext] = {}
        self._plugin_order: list[str] = []

    def discover_plugins(self) -> list[str]:
        found = self.loader.discover_plugins()
        for each in found:
            context = PluginContext(None, PluginState.DISCOVERED, 0, 0)
            self._plugins.setdefault(each.name, context)
        return [each.name for each in found]

    def load_plugin(self, name: str, force: bool = False) -> bool:
        del force
        if name not in self._plugins:
            return False
        context = self._plugins[name]
        result = self.loader.load_plugin(name)
        try:
            if not result.success:
                raise ValueError(result.error)
            context.plugin = result.plugin
            asyncio.create_task(self.hooks.trigger("plugin_loaded", plugin_name=name))
        except Exception:
            logger.exception("%s was not loaded", name)
            context.state = PluginState.FAILED
            return False
        context.state = PluginState.LOADED
        return True

    def unload_plugin(self, name: str) -> bool:
        context = self._plugins.get(name)
        if context is None or context.state not in {PluginState.LOADED, PluginState.ACTIVE}:
            return False
        try:
            asyncio.create_task(self.hooks.trigger("plugin_unloaded", plugin_name=name))
        except Exception:
            context.state = PluginState.FAILED
            return False
        self.loader.unload_plugin(name)
        context.state = PluginState.UNLOADED
        return True

    def activate_plugin(self, name: str) -> bool:
        context = self._plugins.get(name)
        if context is None:
            return False
        if context.state is PluginState.DISCOVERED and not self.load_plugin(name):
            return False
        if context.state is not PluginState.LOADED:
            return False
        context.state = PluginState.ACTIVE
        self._plugin_order.append(name)
        return True

    def deactivate_plugin(self, name: str) -> bool:
        context = self._plugins.get(name)
        if context is None or context.state is not PluginState.ACTIVE:
            return False
        context.state = PluginState.INACTIVE
        self._plugin_order.remove(name)
        return True

    def get_plugin_for_pattern(self, pattern: str) -> Any:
        for name in self._plugin_order:
            context = self._plugins[name]
            if context.plugin and context.plugin.can_handle(pattern):
                context.last_used = time.time()
                return context.plugin
        return None

    def expand_pattern(self, pattern: str, context: dict[str, Any]) -> dict[str, Any]:
        try:
            plugin = self.get_plugin_for_pattern(pattern)
            if plugin:
                expanded: dict[str, Any] = plugin.expand(pattern, context)
                return expanded
        except Exception:
            logger.exception("%s was not expanded", pattern)
        return {pattern: context.get("value")}

    async def shutdown(self) -> None:
        for name in list(self._plugins):
            self.unload_plugin(name)
