"""Training of image classifiers: data sets in, a `fit` run, its artefacts out."""
