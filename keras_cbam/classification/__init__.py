"""A task: image classifiers, trained, measured, explained and exported."""
