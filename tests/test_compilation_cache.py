"""Compiled programs are kept between processes, where nobody has said otherwise."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from robustjax.cache import cache_directory, compiled_programs
from robustjax.data.prepared import cache as prepared

ATTACK = """
import jax, jax.numpy as jnp
from robustjax import attacks
hits = []
jax.monitoring.register_event_listener(lambda event, **_: hits.append("cache_hits" in event))
if {folder!r}:
    jax.config.update("jax_compilation_cache_dir", {folder!r})
jnp.arange(3).sum().block_until_ready()
weights = jnp.ones((12, 3))
logits_fn = jax.tree_util.Partial(lambda w, x: x.reshape(len(x), -1) @ w, weights)
images, labels = jnp.full((2, 2, 2, 3), 0.5), jnp.zeros(2, jnp.int32)
threat = attacks.ThreatModel("linf", 0.1)
attacks.pgd(jax.random.key(0), logits_fn, images, labels, threat, steps=2, step_size=0.1)
print(sum(hits))
"""


def attack(cache, folder="", **environment):
    kept = {
        name: value
        for name, value in os.environ.items()
        if "CACHE" not in name or "ROBUSTJAX" in name
    }
    found = subprocess.run(
        [sys.executable, "-c", ATTACK.format(folder=str(folder))],
        env=kept | {"ROBUSTJAX_CACHE": str(cache)} | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    return int(found.stdout)


def test_an_attack_is_compiled_once_for_two_processes(tmp_path):
    assert attack(tmp_path) == 0
    assert any((tmp_path / "xla").iterdir())
    assert attack(tmp_path) > 0


@pytest.mark.slow
def test_another_folder_or_none_is_respected(tmp_path):
    attack(tmp_path / "cache", folder=tmp_path / "own")
    attack(tmp_path / "cache", JAX_ENABLE_COMPILATION_CACHE="false")
    assert not (tmp_path / "cache").exists()


def set_variables(monkeypatch, **variables):
    for name in (
        "ROBUSTJAX_CACHE", "XDG_CACHE_HOME", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS",
    ):  # fmt: skip
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    ("variables", "folder"),
    [
        ({}, "/home/me/.cache/robustjax"),
        ({"XDG_CACHE_HOME": ""}, "/home/me/.cache/robustjax"),
        ({"XDG_CACHE_HOME": "/fast"}, "/fast/robustjax"),
        ({"XDG_CACHE_HOME": "/fast", "ROBUSTJAX_CACHE": "/own"}, "/own"),
        ({"ROBUSTJAX_CACHE": "~/own"}, "/home/me/own"),
    ],
)
def test_where_it_is(variables, folder, monkeypatch):
    set_variables(monkeypatch, HOME="/home/me", **variables)
    assert cache_directory() == Path(folder)


SECONDS = "jax_persistent_cache_min_compile_time_secs"


def updates(monkeypatch, folder=None, seconds=1.0):
    """What is changed of JAX's configuration, which has this folder and these seconds."""
    changed = {}
    config = SimpleNamespace(
        **{"jax_compilation_cache_dir": folder, SECONDS: seconds, "update": changed.__setitem__}
    )
    monkeypatch.setattr(compiled_programs, "jax", SimpleNamespace(config=config))
    compiled_programs.enable_compilation_cache()
    return changed


def test_what_is_said_of_it_stays(monkeypatch):
    folder = "jax_compilation_cache_dir"
    set_variables(monkeypatch, ROBUSTJAX_CACHE="/own")
    assert updates(monkeypatch) == {folder: "/own/xla", SECONDS: 0.0}
    assert updates(monkeypatch, folder="/theirs") == {}
    assert updates(monkeypatch, seconds=5.0) == {folder: "/own/xla"}
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "5")
    assert updates(monkeypatch) == {folder: "/own/xla"}


def test_a_user_without_a_home_has_none(monkeypatch):
    set_variables(monkeypatch)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    assert updates(monkeypatch) == {}
    prepared.write("images", "1", {"images": np.ones(1)})
    assert prepared.read("images", "1") is None
