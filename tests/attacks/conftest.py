"""Counts compilations, so that a test can demand that there are none."""

import contextlib

import jax
import pytest

_compilations = []


def _on_duration(event: str, duration: float, **_: object) -> None:
    if event == "/jax/core/compile/backend_compile_duration":
        _compilations.append(duration)


@pytest.fixture(scope="session", autouse=True)
def _listen_to_compilations():
    jax.monitoring.register_event_duration_secs_listener(_on_duration)


@pytest.fixture
def count_compilations():
    """A context manager that yields a function: how many programs were compiled inside."""

    @contextlib.contextmanager
    def counting():
        before = len(_compilations)
        yield lambda: len(_compilations) - before

    return counting
