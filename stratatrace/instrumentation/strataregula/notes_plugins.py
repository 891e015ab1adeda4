"""Notes of what is done with plugins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stratatrace.instrumentation.strataregula.notes import (
    Noted,
    Result,
    given,
    length,
    name_of,
    says_failure,
)
from stratatrace.noting import FAILED_RESULT
from stratatrace.recorder import active
from stratatrace.telemetry import semconv
from stratatrace.telemetry.strataregula import strataregula_metrics

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stratatrace.measurement import Measurement

__all__ = ["MovedPlugin", "Plugin", "Plugins", "RegisteredPlugin"]


class Plugin(Result):
    """What is done with one plugin; False says that it was not done."""

    component = "plugins"
    false_fails = True

    def called(self, arguments: tuple[Any, ...], keywords: Mapping[str, Any]) -> None:
        """Note the plugin."""
        self.note(semconv.STRATAREGULA_PLUGIN, name_of(given(arguments, keywords, 1, "name")))


class MovedPlugin(Plugin):
    """What loads or unloads the plugin itself: its memory is that of this call."""

    def __init__(self) -> None:
        super().__init__()
        self._moved = False

    def returned(self, result: Any) -> None:
        """Note whether it has failed."""
        super().returned(result)
        self._moved = self.failure is None

    def ended(self, measurement: Measurement) -> None:
        """Tell the memory of what was loaded, or let go."""
        plugin = self.attributes.get(semconv.STRATAREGULA_PLUGIN.name)
        net_bytes = measurement.heap_net_bytes
        if self._moved and isinstance(plugin, str) and net_bytes is not None:
            metrics = strataregula_metrics.of(active.recorder.meter_provider)
            metrics.add_plugin_memory(plugin, net_bytes)


class RegisteredPlugin(Plugin):
    """What is done with a plugin that exists already."""

    def called(self, arguments: tuple[Any, ...], keywords: Mapping[str, Any]) -> None:
        """Note the plugin."""
        plugin = given(arguments, keywords, 1, "plugin")
        information = vars(plugin).get("info") if hasattr(plugin, "__dict__") else None
        self.note(semconv.STRATAREGULA_PLUGIN, name_of(getattr(information, "name", None)))


class Plugins(Noted):
    """What is done with all plugins."""

    def returned(self, result: Any) -> None:
        """Note how many there are, and whether one of them failed."""
        self.note(semconv.STRATAREGULA_PLUGINS, length(result))
        if isinstance(result, list):
            errors = sum(map(says_failure, result))
            if errors:
                self.failure = FAILED_RESULT
                self.note(semconv.STRATAREGULA_ERRORS, errors)
