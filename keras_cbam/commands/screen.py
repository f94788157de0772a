"""The screen shows only what is ours, and Keras' progress."""

import contextlib
import logging
import os
import sys
import warnings


@contextlib.contextmanager
def own_lines_only(options):
    """Within the block, other packages print nothing, and warnings of ours are notes."""
    # For TensorFlow, which is not imported yet, and for the processes that the verbs start.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

    def note(message, *_, **__):
        if not options.quiet:
            sys.stderr.write(f"Note: {' '.join(str(message).split())}\n")

    logged = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.ExitStack() as stack:
            warnings.showwarning = note
            if not sys.warnoptions:
                warnings.simplefilter("ignore")
                warnings.filterwarnings("default", category=UserWarning, module="keras_cbam")
                # The command tells it as an error.
                warnings.filterwarnings("ignore", "The model is trained and saved, but")
            if options.json or options.quiet:
                nowhere = stack.enter_context(open(os.devnull, "w"))
                stack.enter_context(contextlib.redirect_stdout(nowhere))
            yield
    finally:
        logging.disable(logged)


@contextlib.contextmanager
def without_start_up_lines():
    """Hides what TensorFlow writes as it is imported, unless `TF_CPP_MIN_LOG_LEVEL` is 0 or 1."""
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL") in ("0", "1"):
        yield
        return
    sys.stderr.flush()
    shown = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(shown, 2)
        os.close(shown)
