"""A task: image classifiers, trained, measured, explained and exported."""

from typing import TYPE_CHECKING

from keras_cbam._lazy import import_lazily

if TYPE_CHECKING:
    from keras_cbam.classification.evaluate import classification_report as classification_report
    from keras_cbam.classification.evaluate import evaluate_run as evaluate_run
    from keras_cbam.classification.evaluate import top_errors as top_errors
    from keras_cbam.classification.explain import explain_images as explain_images
    from keras_cbam.classification.explain import explain_run as explain_run
    from keras_cbam.classification.export import export_run as export_run
    from keras_cbam.classification.predict import predict_run as predict_run
    from keras_cbam.classification.task import ClassificationTask as ClassificationTask
    from keras_cbam.classification.task import compare as compare
    from keras_cbam.classification.task import fit_classifier as fit_classifier
    from keras_cbam.classification.task import train_classifier as train_classifier

import_lazily(__name__)
