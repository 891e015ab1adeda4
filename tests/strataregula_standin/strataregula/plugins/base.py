"""What plugins are."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any


@dataclass
class PluginInfo:
    name: str
    version: str
    description: str


class PatternPlugin(ABC):
    def __init__(self, info: PluginInfo) -> None:
        self.info = info

    @abstractmethod
    async def process(self, pattern: str, data: dict[str, Any]) -> dict[str, Any]: ...

    def initialize(self) -> bool:
        return True


class PluginManager:
    def __init__(self) -> None:
        self.plugins: dict[str, PatternPlugin] = {}

    def register_plugin(self, plugin: PatternPlugin) -> bool:
        try:
            if not plugin.initialize():
                return False
        except Exception:
            return False
        self.plugins[plugin.info.name] = plugin
        return True
