"""The verbs of `keras-cbam`: each adds its parser, runs by the rooms below, and prints.

A verb's docstring is the description in its help. `run(options)` returns a dict that JSON has a
form for, and `show(options, found)` prints it. Its `"problems"`, `{what: sentence}`, are errors.
"""

import importlib
import inspect
import re

from keras_cbam.commands.screen import without_start_up_lines
from keras_cbam.errors import ModelError
from keras_cbam.training import saved_run

TASKS = ("classification", "detection")


def room(name):
    """A module of the package, which may import Keras: it is called once the options are right."""
    with without_start_up_lines():
        importlib.import_module("tensorflow")
    # Keras can load models with our layers from then on.
    importlib.import_module("keras_cbam.attention")
    return importlib.import_module(f"keras_cbam.{name}")


def call_task(options, *names, **renamed):
    """Calls the function of the verb for the task of the run, with those options that are given.

    `renamed` gives options that the function calls otherwise, `{argument: option}`.
    """
    path, verb = options.run_path, options.command
    run = saved_run.find_run(path)
    task = run.task or _task_of_file(run)
    if run.task is None and task == "classification":
        print("There is no run beside the file: images are cropped as for ImageNet.")
    if task not in TASKS:
        raise ModelError(f"{path!r} is a run of {task!r}, which is not one of {', '.join(TASKS)}.")
    function = getattr(room(f"{task}.{verb}"), f"{verb}_run")
    given = {}
    for name, option in {**dict(zip(names, names)), **renamed}.items():
        value = getattr(options, option)
        if value is not None and name not in inspect.signature(function).parameters:
            option = f"--{option.replace('_', '-')}"
            raise ValueError(f"{option} is not for a run of {task}. Received: {option} {value}")
        if value is not None:
            given[name] = value
    return function(run, **given)


def _task_of_file(run):
    """The task of a model without a run: what is no detector of ours is taken for a classifier."""
    detectors = r'"registered_name": "keras_cbam>(SSD|StairNet|FasterRCNN)"'
    return "detection" if re.search(detectors, run.config()) else "classification"
