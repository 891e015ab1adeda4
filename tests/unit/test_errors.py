"""The exceptions: each is ours and also what a caller who knows nothing of us would catch."""

from __future__ import annotations

import pytest

from stratatrace import errors


@pytest.mark.parametrize(
    ("kind", "builtin"),
    [
        (errors.DamagedEntryError, ValueError),
        (errors.InvalidTypeError, TypeError),
        (errors.InvalidValueError, ValueError),
        (errors.IsolationError, RuntimeError),
        (errors.IsolationTimeoutError, TimeoutError),
        (errors.MemoryLimitExceeded, MemoryError),
        (errors.MissingExtraError, ImportError),
        (errors.NotReadyError, RuntimeError),
        (errors.OutputError, OSError),
        (errors.ProbeError, RuntimeError),
        (errors.SpillError, OSError),
        (errors.StoreChangedError, RuntimeError),
        (errors.CommandError, Exception),
    ],
)
def test_every_error_is_ours_and_a_builtin(kind: type[Exception], builtin: type[Exception]) -> None:
    """Both `except StratatraceError` and `except` of the fitting builtin catch it."""
    assert issubclass(kind, errors.StratatraceError)
    assert issubclass(kind, builtin)
    assert kind.__doc__


def test_all_of_them_are_public() -> None:
    """`__all__` names every exception of the module."""
    kinds = {name for name, kind in vars(errors).items() if isinstance(kind, type)}
    assert kinds == set(errors.__all__)


def test_a_missing_extra_says_what_to_install() -> None:
    """The message is a command that can be run."""
    assert "pip install 'stratatrace[otlp]'" in str(errors.MissingExtraError("OTLP", "otlp"))


def test_a_command_error_carries_its_exit_code() -> None:
    """The command line exits with 2 unless told otherwise."""
    assert errors.CommandError("no").exit_code == 2
    assert errors.CommandError("no", exit_code=5).exit_code == 5
