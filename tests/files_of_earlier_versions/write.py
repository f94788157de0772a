"""Models with every attention layer, and the files of them that later versions must load.

`0.1.0.zip` was written by that version and is never written again. On TensorFlow,
`python -m tests.files_of_earlier_versions.write VERSION.zip` adds the files of another version.
"""

import pathlib
import sys
import tempfile
import zipfile

import keras
import numpy as np

from keras_cbam import BAM, CBAM, ChannelAttention, SpatialAttention
from tests.checks import random_input, randomize, to_numpy


def image_model():
    inputs = keras.Input((5, 4, 6), name="pictures")
    x = CBAM(2, 3, use_batch_norm=True, start_as_identity=True, name="cbam")(inputs)
    x = BAM(3, dilation_rate=1, start_as_identity=True, name="bam")(x)
    x = ChannelAttention(3, ("avg", "lse"), start_as_identity=True, name="channel")(x)
    x = SpatialAttention(3, ("conv", "max"), use_bias=True, name="spatial")(x)
    return keras.Model(inputs, x, name="image_model")


def sequence_model():
    inputs = keras.Input((7, 4), name="steps")
    x = CBAM(2, 3, residual=True, start_as_identity=True, name="cbam")(inputs)
    return keras.Model(inputs, x, name="sequence_model")


def write(path):
    """Writes `.keras`, `.weights.h5`, SavedModel and `.npz` of both models, in one zip file."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        for build in (image_model, sequence_model):
            model = build()
            randomize(model, seed=3)
            x = random_input((2, *model.input_shape[1:]))
            np.savez_compressed(folder / f"{model.name}.npz", inputs=x, outputs=to_numpy(model(x)))
            model.save(folder / f"{model.name}.keras")
            model.save_weights(folder / f"{model.name}.weights.h5")
            model.export(folder / f"{model.name}_served", format="tf_saved_model", verbose=False)
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
            for file in filter(pathlib.Path.is_file, folder.rglob("*")):
                archive.write(file, file.relative_to(folder))


if __name__ == "__main__":
    write(sys.argv[1])
