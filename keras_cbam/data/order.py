"""In which order images are trained on: a function of the seed and the epoch alone."""

import dataclasses

import numpy as np

from keras_cbam.errors import DataError


@dataclasses.dataclass(frozen=True)
class Devices:
    """The devices that share each batch; this is process `process`, and number 0 writes files."""

    count: int = 1
    processes: int = 1
    process: int = 0


ONE_DEVICE = Devices()


def epoch_order(images: int, seed: int, epoch: int) -> tuple[np.ndarray, np.ndarray]:
    """The order of an epoch, from 0, and the numbers from which its images are augmented.

    Returns:
        Two int64 arrays `(images,)`: a permutation, and random numbers in [0, 2**63).
    """
    generator = np.random.default_rng([seed, epoch])
    return generator.permutation(images), generator.integers(2**63 - 1, size=images)


def share(
    rows: np.ndarray, batch_size: int, devices: Devices = ONE_DEVICE, first_step: int = 0
) -> np.ndarray:
    """What one process sees of the batches that all devices train on together.

    Every device gets equally many images: the few that are left over at the end are dropped.

    Args:
        rows: array `(images, ...)`, in the order of the epoch.
        batch_size: int, images a step on all devices, a multiple of their number.
        devices: `Devices`. Defaults to one.
        first_step: int, steps of the epoch that are left out. Defaults to `0`.

    Returns:
        The rows for this process, of which each step takes `batch_size // processes`.

    Raises:
        DataError: if there are fewer rows than devices.
    """
    if len(rows) < devices.count:
        raise DataError(f"{devices.count} devices need as many images, received {len(rows)}.")
    rows = rows[first_step * batch_size : len(rows) - len(rows) % devices.count]
    steps = [rows[start : start + batch_size] for start in range(0, len(rows), batch_size)]
    return np.concatenate([np.split(step, devices.processes)[devices.process] for step in steps])


def spread(count: int, number: int) -> np.ndarray:
    """At most `number` indices below `count`, evenly far from each other."""
    return np.unique(np.linspace(0, count - 1, min(number, count)).round().astype(int))
