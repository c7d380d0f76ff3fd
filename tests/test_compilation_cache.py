"""Compiled programs are kept between processes, where nobody has said otherwise."""

import os
import subprocess
import sys

import pytest

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
