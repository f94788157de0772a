"""Random state that is not in a model: PyTorch's dropout draws from its global generators."""

import keras
import numpy as np


def random_state():
    """A list of arrays; empty but for PyTorch."""
    if keras.backend.backend() != "torch":
        return []
    import torch

    return [state.numpy() for state in (torch.get_rng_state(), *torch.cuda.get_rng_state_all())]


def seed_epoch(seed, epoch):
    """Sets the state to a function of the two."""
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
