"""Devices and processes: the one place that maps a per-device function over them."""

import hashlib
import os
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from robustjax.errors import UserError

PyTree = Any

AXIS = "batch"
"""Name of the mapped axis; collectives inside the step reduce over it."""


HEARTBEAT_SECONDS = 30
"""How long the processes of a run wait for a sign of life of each other; JAX's default is 100.

A process that dies is noticed at once where its connections break; one whose machine is gone, and
those that wait for it in a collective of their devices, end when this is over.
"""


def initialize_processes(
    coordinator_address: str | None, num_processes: int = 0, process_id: int = 0
) -> None:
    """Joins the processes of one run; to be called before anything touches a device.

    Args:
      coordinator_address: host:port of process 0; "auto" finds the processes of a Cloud TPU pod,
        a Slurm or an Open MPI job by itself; None does nothing, for a run of one process.
      num_processes: how many processes the run has; not needed with "auto".
      process_id: this process's number from 0; not needed with "auto".

    Raises:
      ValueError: the three do not fit each other, or the processes do not find each other.
    """
    if coordinator_address is None:
        if num_processes or process_id:
            raise UserError(
                f"num_processes={num_processes} process_id={process_id}: several processes "
                "need coordinator_address=host:port too (or auto on a TPU pod or under Slurm)"
            )
        return
    place: dict[str, Any] = {}
    if coordinator_address != "auto":
        if not 0 <= process_id < num_processes:
            raise UserError(
                f"coordinator_address={coordinator_address} needs num_processes=N (it is "
                f"{num_processes}) and process_id from 0 to N - 1 (it is {process_id})"
            )
        place = {
            "coordinator_address": coordinator_address,
            "num_processes": num_processes,
            "process_id": process_id,
        }
    try:
        jax.distributed.initialize(**place, heartbeat_timeout_seconds=HEARTBEAT_SECONDS)
    except (ValueError, RuntimeError, IndexError) as error:  # The last: of an address without port.
        reason = str(error).strip().splitlines()
        raise UserError(
            f"coordinator_address={coordinator_address}: the processes of the run do not find "
            f"each other ({reason[0] if reason else type(error).__name__})"
        ) from error


def local_devices(limit: int | None = None) -> list[jax.Device]:
    """The devices of this process that the run uses.

    Args:
      limit: how many of them; None: all.

    Raises:
      ValueError: there are fewer than `limit`.
    """
    devices = jax.local_devices()
    if limit is None:
        return devices
    if not 1 <= limit <= len(devices):
        raise UserError(
            f"devices={limit}: this process has {len(devices)} {devices[0].platform} device(s); "
            f"accepted are 1 to {len(devices)}"
        )
    return devices[:limit]


def per_device_batch(batch_size: int, num_devices: int, flag: str = "batch_size") -> int:
    """How many examples of a batch each device of the whole run gets.

    Raises:
      ValueError: the devices do not divide the batch.
    """
    if batch_size < 1 or batch_size % num_devices:
        smaller = max(batch_size // num_devices, 1) * num_devices
        raise UserError(
            f"{flag}={batch_size} cannot be divided among {num_devices} devices; "
            f"use a multiple of {num_devices}, such as {smaller}"
        )
    return batch_size // num_devices


def map_over_devices(
    function: Callable,
    devices: Sequence[jax.Device],
    *,
    in_axes: Sequence[int | None],
    donate: Sequence[int] = (),
) -> Callable:
    """Compiles a pure per-device function and runs it on every device at once.

    Args:
      function: what one device computes; collectives name the axis `AXIS`.
      devices: this process's devices (the other processes bring theirs).
      in_axes: for each argument, 0 if its leaves have a leading device axis, None if every device
        gets the same value.
      donate: arguments whose memory may be reused for the outputs.
    """
    return jax.pmap(
        function,
        axis_name=AXIS,
        in_axes=tuple(in_axes),
        donate_argnums=tuple(donate),
        devices=_in_all_processes(devices),
    )


def _in_all_processes(devices: Sequence[jax.Device]) -> list[jax.Device]:
    """The devices of the whole run: as many of every process as of this one."""
    if jax.process_count() == 1:
        return list(devices)
    by_process: dict[int, list[jax.Device]] = {}
    for device in jax.devices():
        by_process.setdefault(device.process_index, []).append(device)
    return [device for own in by_process.values() for device in own[: len(devices)]]


def replicate(tree: PyTree, devices: Sequence[jax.Device]) -> PyTree:
    """A copy of every leaf on every device, with a leading device axis.

    The arrays are laid out exactly as a mapped function returns them: a function that takes its own
    outputs is then compiled once, and can reuse the memory of the very first ones too.
    """
    mesh = jax.sharding.Mesh(np.asarray(devices), (AXIS,))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(AXIS))

    def copies(leaf: np.ndarray) -> jax.Array:
        leaf = np.asarray(leaf)
        return jax.device_put(np.broadcast_to(leaf, (len(devices), *leaf.shape)), sharding)

    return jax.tree.map(copies, tree)


def unreplicate(tree: PyTree) -> PyTree:
    """The first device's copy of every leaf, as NumPy arrays.

    Indexing a mapped array costs milliseconds a leaf; its first addressable shard does not.
    """

    def first_copy(leaf: jax.Array) -> np.ndarray:
        shard = np.asarray(leaf.addressable_data(0))
        return shard.reshape(leaf.shape[1:])

    return jax.tree.map(first_copy, tree)


def split_over_devices(tree: PyTree, num_devices: int) -> PyTree:
    """Adds the leading device axis: leaves [B, ...] become [num_devices, B / num_devices, ...]."""
    return jax.tree.map(lambda leaf: leaf.reshape(num_devices, -1, *leaf.shape[1:]), tree)


def share_rows(tree: PyTree, devices: Sequence[jax.Device]) -> PyTree:
    """Spreads the leading axis of every leaf over devices, for functions that are jit-compiled.

    What is computed from such arrays row by row is computed where the rows lie.

    Args:
      tree: arrays whose leading axis the number of devices divides.
      devices: of this process; fewer than two change nothing.
    """
    return _laid_out(tree, devices, jax.sharding.PartitionSpec(AXIS))


def copy_to_all(tree: PyTree, devices: Sequence[jax.Device]) -> PyTree:
    """Puts a copy of every leaf on every device, beside rows that are shared by `share_rows`."""
    return _laid_out(tree, devices, jax.sharding.PartitionSpec())


def _laid_out(
    tree: PyTree, devices: Sequence[jax.Device], spec: jax.sharding.PartitionSpec
) -> PyTree:
    if len(devices) < 2:
        return tree
    mesh = jax.sharding.Mesh(np.asarray(devices), (AXIS,))
    return jax.device_put(tree, jax.sharding.NamedSharding(mesh, spec))


def process_share(batch_size: int) -> slice:
    """The rows of a global batch that this process loads."""
    share = batch_size // jax.process_count()
    return slice(jax.process_index() * share, (jax.process_index() + 1) * share)


def force_cpu_devices(count: int) -> None:
    """Makes XLA offer `count` CPU devices, unless XLA_FLAGS already says how many.

    Has an effect only before the first use of a device.
    """
    option = "--xla_force_host_platform_device_count"
    flags = os.environ.get("XLA_FLAGS", "")
    if option not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {option}={count}".strip()


def is_one_of_several() -> bool:
    """Whether this process has joined others by `initialize_processes`; touches no device."""
    return jax.distributed.is_initialized()


def is_main_process() -> bool:
    """Whether this process writes the files of the run."""
    return jax.process_index() == 0


def require_agreement(value: str, complaint: str) -> None:
    """Makes sure that every process of the run has the same value; all have to call this.

    Raises:
      ValueError: they differ; on every process, with the complaint as its text.
    """
    if jax.process_count() == 1:
        return
    digest = np.frombuffer(hashlib.sha256(value.encode()).digest(), np.uint8)
    everywhere = multihost_utils.process_allgather(digest)
    if not np.all(everywhere == digest):
        raise UserError(complaint)
