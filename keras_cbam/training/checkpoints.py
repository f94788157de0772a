"""Checkpoints of a training, and the random state that is not in the model."""

import json
import os
import re

import keras
import numpy as np

from keras_cbam.errors import TrainingError, first_line

# One to continue from, and one before it in case the last is damaged.
KEPT = 2
_NAME = re.compile(r"step-(\d+)\.npz")
KEYS = {"identity", "epoch", "step", "steps", "history", "seconds", "counts"}


def write_checkpoint(folder, step, state, arrays):
    """Writes a checkpoint of a dict for JSON and lists of tensors, whole or not at all.

    All checkpoints except the last two are removed.
    """
    target = folder / f"step-{step:010d}.npz"
    scratch = target.with_suffix(".partial")
    counts = {name: len(tensors) for name, tensors in arrays.items()}
    parts = {"state": np.frombuffer(json.dumps({**state, "counts": counts}).encode(), "uint8")}
    for name, tensors in arrays.items():
        for index, tensor in enumerate(tensors):
            parts[f"{name}-{index}"] = keras.ops.convert_to_numpy(tensor)
    try:
        with open(scratch, "wb") as file:
            np.savez(file, **parts)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(target)
    finally:
        scratch.unlink(missing_ok=True)
    for old in checkpoint_files(folder)[:-KEPT]:
        old.unlink()


def checkpoint_files(folder):
    """The paths of a folder's checkpoints, the oldest first; none if there is no folder."""
    return sorted(path for path in folder.glob("*") if _NAME.fullmatch(path.name))


def read_checkpoint(folder):
    """The state and the arrays of the newest whole checkpoint, or `None`; `{damaged: reason}`."""
    damaged = {}
    for path in reversed(checkpoint_files(folder)):
        try:
            # NumPy leaves a damaged file open that it opened itself.
            with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
                state = json.loads(archive["state"].tobytes())
                if set(state) != KEYS:
                    raise ValueError("not a checkpoint of this version")
                arrays = {
                    name: [archive[f"{name}-{index}"] for index in range(count)]
                    for name, count in state["counts"].items()
                }
        except Exception as error:
            # A damaged archive fails in zipfile, zlib, json or NumPy, each with its own errors.
            damaged[path] = first_line(error)
        else:
            return (state, arrays), damaged
    return None, damaged


def assign_arrays(variables, arrays):
    """Sets variables; TrainingError if the arrays are of other ones."""
    shapes = [tuple(variable.shape) for variable in variables]
    if shapes != [array.shape for array in arrays]:
        raise TrainingError("The checkpoint is of another model: its arrays have other shapes.")
    for variable, array in zip(variables, arrays):
        variable.assign(array)


def random_state():
    """The random state outside the model, as arrays: only PyTorch has one."""
    if keras.backend.backend() != "torch":
        return []
    import torch

    return [state.numpy() for state in (torch.get_rng_state(), *torch.cuda.get_rng_state_all())]


def seed_epoch(seed, epoch):
    """Sets the random state to a function of the two."""
    if keras.backend.backend() == "torch":
        import torch

        torch.manual_seed(int(np.random.default_rng([seed, epoch]).integers(2**63 - 1)))


def set_random_state(arrays):
    """Sets what `random_state` gave."""
    if arrays:
        import torch

        first, *rest = map(torch.from_numpy, arrays)
        torch.set_rng_state(first)
        torch.cuda.set_rng_state_all(rest)
