"""How far a training is: kept in checkpoints, and continued from there to the last bit."""

import contextlib
import json
import os
import signal
import sys
import threading
import time
import warnings

import keras
import numpy as np

from keras_cbam._compat import build_training_state, inner_layers
from keras_cbam.errors import DivergenceError, TrainingError, TrainingStopped
from keras_cbam.training.checkpoints import (
    assign_arrays,
    checkpoint_files,
    random_state,
    read_checkpoint,
    seed_epoch,
    set_random_state,
    write_checkpoint,
)

# With fewer training steps the averages of batch normalization are still those of the start.
FEW_STEPS = 100


class Progress(keras.callbacks.Callback):
    """The state of a training that is not in the model, its only `fit`, and a callback of that.

    It is at `step` of `epoch`; early stopping counts from the epoch `patient_from`, if any. Without
    a `RunFolder` no checkpoint is kept; to continue from one, `identity` must be the same.
    """

    def __init__(self, arguments, folder=None, identity=None):
        super().__init__()
        self.arguments = arguments
        self.folder = folder
        self.identity = json.loads(json.dumps(identity or {}))
        self.epoch = self.step = self._steps = self._first_step = self.patient_from = 0
        self.history = {}
        self.seconds = 0.0
        self._restored = self._signal = None
        self._metrics = self._random = ()
        self._start = time.perf_counter()

    def resume(self):
        """Goes to where the newest whole checkpoint is; to the start if there is none."""
        found, damaged = read_checkpoint(self.folder.checkpoints)
        for path, reason in damaged.items():
            warnings.warn(f"A damaged checkpoint is skipped: {path}: {reason}", stacklevel=2)
            if self.folder.is_writing:
                # Out of the way of those to come, which may be of earlier steps.
                path.rename(path.with_suffix(".damaged"))
        if found is None:
            return
        state, self._restored = found
        for name, ours in self.identity.items():
            theirs = state["identity"].get(name)
            if theirs != ours:
                raise TrainingError(
                    f"A run is resumed with the same data and devices only: its {name} was "
                    f"{theirs!r}, received {ours!r}."
                )
        self.epoch, self.step = state["epoch"], state["step"]
        self._steps, self.history, self.seconds = state["steps"], state["history"], state["seconds"]
        self.folder.write_history(self.history)

    @property
    def trained_seconds(self):
        """Seconds of training, those before it was stopped included."""
        return self.seconds + time.perf_counter() - self._start

    @property
    def has_run_out_of_patience(self):
        """Whether the validation loss has not fallen for so many epochs."""
        patience = self.arguments.early_stopping
        if patience is None or self.patient_from is None:
            return False
        losses = finite_losses(self.history)[self.patient_from :] or [np.inf]
        return len(losses) - 1 - int(np.argmin(losses)) >= patience

    def restore(self, model, first_epoch, stop_epoch, batch):
        """Sets a compiled model, and the optimizer of these epochs, from the checkpoint, if any."""
        build_training_state(model, batch)
        arrays = self._restored
        if arrays is None:
            return
        assign_arrays(model.variables, arrays["weights"])
        self._random = arrays["random"]
        if self.epoch < stop_epoch:
            self._restored = None
        if (first_epoch, 0) < (self.epoch, self.step) <= (stop_epoch, 0):
            assign_arrays(model.optimizer.variables, arrays["optimizer"])
            self._metrics = arrays["metrics"]

    def fit(self, model, epochs, epoch_batches, validation, stop_epoch, callbacks, verbose):
        """Trains a compiled model from where it is to `stop_epoch`, by one `model.fit` an epoch."""
        if verbose == "auto":
            # A bar that is drawn anew would fill a log file.
            verbose = 1 if sys.stdout.isatty() else 2
        with self._listening():
            while self.epoch < stop_epoch and not self.has_run_out_of_patience:
                train = epoch_batches(self.epoch, self.step)
                # A list of its own, as `fit` would count the epochs up to this one only.
                own = keras.callbacks.CallbackList(
                    [keras.callbacks.TerminateOnNaN(), *callbacks, self],
                    add_history=True,
                    add_progbar=verbose != 0,
                    model=model,
                    verbose=verbose,
                    epochs=epochs,
                    steps=len(train),
                )
                model.fit(
                    train,
                    validation_data=validation,
                    initial_epoch=self.epoch,
                    epochs=self.epoch + 1,
                    callbacks=own,
                    shuffle=False,
                    verbose=verbose,
                )
        self._stop_if_asked()

    def on_epoch_begin(self, epoch, logs=None):
        self._first_step = self.step
        if not self.step:
            seed_epoch(self.arguments.seed, self.epoch)
        if self._metrics:
            # What they had counted before the epoch was stopped.
            assign_arrays(self.model.metrics_variables, self._metrics)
            self._metrics = ()

    def on_train_batch_begin(self, batch, logs=None):
        # Not before: the iterator of a PyTorch data loader draws a number first.
        set_random_state(self._random)
        self._random = ()

    def on_train_batch_end(self, batch, logs=None):
        self.end_step(self._first_step + batch + 1, batch + 1 == self.params["steps"])

    def end_step(self, step, is_last):
        """Counts a step, and writes a checkpoint if one is due."""
        self._steps += 1
        if self.model.stop_training:
            kept = ""
            if self.folder is not None:
                for path in checkpoint_files(self.folder.checkpoints)[-1:]:
                    kept = f" The last checkpoint before it is kept: {path}."
            raise DivergenceError(
                f"The training diverged in epoch {self.epoch + 1}, step {step}: the loss is not "
                f"finite. Lower the learning rate.{kept}"
            )
        every = self.arguments.checkpoint_steps
        is_due = every is not None and step % every == 0
        # The last step is saved with the validation that follows it.
        if not is_last and (is_due or self._signal is not None):
            self.step = step
            self._save()

    def on_epoch_end(self, epoch, logs=None):
        for name in {**self.history, **logs}:
            # Of an earlier version, or of an epoch on several devices, there may be none.
            own = self.history.setdefault(name, [np.nan] * self.epoch)
            own.append(float(logs.get(name, np.nan)))
        self.epoch, self.step = epoch + 1, 0
        self._save()

    def _save(self):
        """Writes a checkpoint, and ends the training if a signal asked for it."""
        if self.folder is not None and self.folder.is_writing:
            arrays = {
                "weights": self.model.variables,
                "optimizer": self.model.optimizer.variables,
                "metrics": self.model.metrics_variables if self.step else (),
                "random": random_state() if self.step else (),
            }
            state = {
                "identity": self.identity,
                "epoch": self.epoch,
                "step": self.step,
                "steps": self._steps,
                "history": self.history,
                "seconds": self.trained_seconds,
            }
            write_checkpoint(self.folder.checkpoints, self._steps, state, arrays)
            self.folder.write_history(self.history)
        self._stop_if_asked()

    def _stop_if_asked(self):
        if self._signal is not None:
            raise TrainingStopped(self._signal, self.epoch, self.step)

    @contextlib.contextmanager
    def _listening(self):
        """Within the block, Ctrl-C or SIGTERM ends the training after its step and a checkpoint."""
        # Signals reach the main thread only.
        if self.folder is None or threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        # What the caller ignores, as in the background of a script, stays ignored.
        before = {number: own for number, own in before.items() if own is not signal.SIG_IGN}

        def restore():
            for number, own in before.items():
                signal.signal(number, own)

        def request(number, _):
            self._signal = number
            os.write(2, b"\nStopping after this step; a second signal stops at once.\n")
            restore()

        for number in before:
            signal.signal(number, request)
        try:
            yield
        finally:
            restore()


def finite_losses(history):
    """The validation losses, infinite where they are not numbers: none of these is the best."""
    return [loss if np.isfinite(loss) else np.inf for loss in history.get("val_loss", [])]


def announce(steps, model):
    """Prints what to expect of a training of so many steps."""
    norms = (x for x in inner_layers(model) if isinstance(x, keras.layers.BatchNormalization))
    if steps < FEW_STEPS and any(one.trainable for one in norms):
        print(
            f"The training has only {steps} steps, batch normalization needs about {FEW_STEPS}: "
            "raise the epochs or lower the batch size."
        )
    print("Compiling the first step: small networks take seconds, large ones minutes.")
