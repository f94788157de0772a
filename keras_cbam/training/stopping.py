"""Ctrl-C and SIGTERM end a training after its step and a checkpoint."""

import contextlib
import os
import signal
import threading


class StopRequest:
    """The number of the `signal` that has asked for the end of a training, or `None`."""

    signal = None

    @contextlib.contextmanager
    def listening(self):
        """Within the block, the first signal is a request, and the second ends the training."""
        # Signals reach the main thread only.
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        # What the caller ignores, as in the background of a script, stays ignored.
        before = {number: own for number, own in before.items() if own is not signal.SIG_IGN}

        def request(number, _):
            self.signal = number
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
