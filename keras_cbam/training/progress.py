"""How far a training is: kept in checkpoints, stopped by a signal, continued from there."""

import contextlib
import json
import os
import signal
import threading
import time

import keras
import numpy as np

from keras_cbam.errors import TrainingError, TrainingStopped
from keras_cbam.training.checkpoints import read_checkpoint, write_checkpoint
from keras_cbam.training.random_state import random_state, seed_epoch, set_random_state


class Progress:
    """The state of a training that is not in the model.

    Args:
        folder: `pathlib.Path` of the checkpoints, or `None` to keep none. Defaults to `None`.
        every: int, steps between checkpoints within an epoch, or `None` for one at the end of each
            epoch only. Defaults to `None`.
        identity: dict that JSON has a form for, of what must be the same for a training to be
            continued: `"arguments"` and `"data"`. Defaults to `None`: nothing.
        seed: int, of the training. Defaults to `0`.
        is_writing: bool, whether this process writes the checkpoints. Defaults to `True`.

    Attributes:
        epoch: int, epochs that are complete.
        step: int, further steps.
        history: dict of lists, one number for each complete epoch.
        seconds: float, of training before it was stopped.
        damaged: `{path: reason}` of checkpoints that cannot be read.
    """

    def __init__(self, folder=None, every=None, identity=None, seed=0, is_writing=True):
        self.folder = folder
        self.every = every
        self.seed = seed
        self.identity = json.loads(json.dumps(identity or {}, default=_name))
        self.is_writing = is_writing and folder is not None
        self.epoch = self.step = 0
        self.history = {}
        self.seconds = 0.0
        self.damaged = {}
        self._steps = 0
        self._signal = None
        self._restored = self._metrics = None
        self._random = []
        self._start = time.perf_counter()

    def resume(self):
        """Goes to where the newest whole checkpoint is; to the start if there is none.

        Raises:
            ValueError: if the checkpoint is of other arguments or data.
        """
        if self.folder is None:
            return
        found, self.damaged = read_checkpoint(self.folder)
        if self.is_writing:
            for path in self.damaged:
                # Out of the way of those to come, which may be of earlier steps.
                path.rename(path.with_suffix(".damaged"))
        if found is None:
            return
        state, arrays = found
        self._check_identity(state["identity"])
        self.epoch, self.step = state["epoch"], state["step"]
        self._steps, self.history, self.seconds = state["steps"], state["history"], state["seconds"]
        self._restored = state, arrays

    def _check_identity(self, theirs):
        for part, ours in self.identity.items():
            for name, value in ours.items():
                if theirs.get(part, {}).get(name) != value:
                    raise ValueError(
                        f"A training can be resumed with the same arguments and data only: {name} "
                        f"was {theirs.get(part, {}).get(name)!r}. Received: {name}={value!r}"
                    )

    @property
    def trained_seconds(self):
        """Seconds of training, those before it was stopped included."""
        return self.seconds + time.perf_counter() - self._start

    @contextlib.contextmanager
    def until_stopped(self):
        """Within the block, Ctrl-C and SIGTERM end the training after the step and a checkpoint.

        The second signal ends it at once, as without this. Signals reach the main thread only.
        """
        is_main = threading.current_thread() is threading.main_thread()
        if self.folder is None or not is_main:
            yield
            return
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        # What the caller ignores, as in the background of a script, stays ignored.
        before = {number: own for number, own in before.items() if own is not signal.SIG_IGN}

        def request(number, _):
            self._signal = number
            os.write(2, b"\nStopping after this step; a second signal stops at once.\n")
            for own, handler in before.items():
                signal.signal(own, handler)

        for number in before:
            signal.signal(number, request)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def restore(self, model, first_epoch, stop_epoch):
        """Makes the state of optimizer and metrics, and sets it from a checkpoint.

        The weights are set from it in any case, the optimizer's state if it is of these epochs.

        Args:
            model: compiled `keras.Model`, as it was when the checkpoint was written.
            first_epoch: int, the first epoch with this optimizer.
            stop_epoch: int, the first epoch after those with this optimizer.
        """
        # Keras makes these at the first step, and then traces the step a second time.
        model.optimizer.build(model.trainable_variables)
        classes = model.output_shape[-1]
        model.compute_metrics(None, np.zeros(1, "int32"), np.full((1, classes), 1 / classes))
        if self._restored is None:
            return
        state, arrays = self._restored
        model_part, rest = arrays[: state["weights"]], arrays[state["weights"] :]
        count = len(rest) - state["random"]
        rest, self._random = rest[:count], rest[count:]
        _assign(model.variables, model_part)
        if self.epoch < stop_epoch:
            self._restored = None
        if not (first_epoch, 0) < (self.epoch, self.step) < (stop_epoch, 0):
            return
        optimizer = model.optimizer.variables
        _assign(optimizer, rest[: len(optimizer)])
        if self.step:
            self._metrics = rest[len(optimizer) :]

    def fit(self, model, epochs, epoch_batches, test, stop_epoch, callbacks=(), verbose="auto"):
        """Trains from where it is up to an epoch, one `fit` an epoch.

        Args:
            model: compiled `keras.Model`.
            epochs: int, of the whole training.
            epoch_batches: callable `(epoch, first_step) -> tf.data.Dataset`.
            test: `tf.data.Dataset` that every epoch is validated on.
            stop_epoch: int, the first epoch that is not trained.
            callbacks: sequence of `keras.callbacks.Callback`. Defaults to `()`.
            verbose: see `keras.Model.fit`. Defaults to `"auto"`.

        Raises:
            TrainingStopped: if a signal came.
            OSError: if a checkpoint cannot be written.
        """
        verbose = 1 if verbose == "auto" else verbose
        with self.until_stopped():
            while self.epoch < stop_epoch:
                train = epoch_batches(self.epoch, self.step)
                # A list of its own, as `fit` would count the epochs up to this one only.
                own = keras.callbacks.CallbackList(
                    [*callbacks, _Keeper(self)],
                    add_history=True,
                    add_progbar=verbose != 0,
                    model=model,
                    verbose=verbose,
                    epochs=epochs,
                    steps=len(train),
                )
                model.fit(
                    train,
                    validation_data=test,
                    initial_epoch=self.epoch,
                    epochs=self.epoch + 1,
                    callbacks=own,
                    shuffle=False,
                    verbose=verbose,
                )
        self.stop_if_asked()

    def begin_epoch(self, model):
        """Sets what the metrics of an epoch had counted before it was stopped."""
        if not self.step:
            seed_epoch(self.seed, self.epoch)
        if self._metrics is not None:
            _assign(model.metrics_variables, self._metrics)
            self._metrics = None

    def begin_step(self):
        set_random_state(self._random)
        self._random = []

    def save(self, model):
        """Writes a checkpoint, and ends the training if a signal asked for it."""
        if self.is_writing:
            groups = [model.variables, model.optimizer.variables]
            if self.step:
                groups.append(model.metrics_variables)
            arrays = [keras.ops.convert_to_numpy(value) for group in groups for value in group]
            random = random_state() if self.step else []
            state = {
                "identity": self.identity,
                "epoch": self.epoch,
                "step": self.step,
                "steps": self._steps,
                "history": self.history,
                "seconds": self.trained_seconds,
                "weights": len(model.variables),
                "random": len(random),
            }
            write_checkpoint(self.folder, self._steps, state, arrays + random)
        self.stop_if_asked()

    def stop_if_asked(self):
        if self.is_stopping:
            raise TrainingStopped(self._signal, self.epoch, self.step)

    @property
    def is_stopping(self):
        """Whether a signal asks for the end of the training."""
        return self._signal is not None

    def count_step(self):
        self._steps += 1


class _Keeper(keras.callbacks.Callback):
    """Tells a `Progress` what a `fit` of one epoch has done."""

    def __init__(self, progress):
        super().__init__()
        self.progress = progress
        self.first_step = progress.step

    def on_epoch_begin(self, epoch, logs=None):
        self.progress.begin_epoch(self.model)

    def on_train_batch_begin(self, batch, logs=None):
        # Not before: the iterator of a PyTorch data loader draws a number first.
        self.progress.begin_step()

    def on_train_batch_end(self, batch, logs=None):
        progress = self.progress
        progress.count_step()
        step = self.first_step + batch + 1
        is_last = batch + 1 == self.params["steps"]
        is_due = progress.every is not None and step % progress.every == 0
        # The last step is saved with the validation that follows it.
        if not is_last and (is_due or progress.is_stopping):
            progress.step = step
            progress.save(self.model)

    def on_epoch_end(self, epoch, logs=None):
        progress = self.progress
        for name, value in (logs or {}).items():
            progress.history.setdefault(name, []).append(float(value))
        progress.epoch, progress.step = epoch + 1, 0
        progress.save(self.model)


def _name(value):
    """What JSON has no form for, without an address, which is another one in every process."""
    return getattr(value, "__qualname__", type(value).__qualname__)


def _assign(variables, arrays):
    shapes = [tuple(variable.shape) for variable in variables]
    if shapes != [array.shape for array in arrays]:
        raise TrainingError("The checkpoint is of another model: its arrays have other shapes.")
    for variable, array in zip(variables, arrays):
        variable.assign(array)
