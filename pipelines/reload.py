"""Answers questions with a SavedModel, in a process that has nothing but TensorFlow and TF.Text, as a server has.

Run as a file, never imported: `python -I reload.py MODEL ASKED.npz ANSWERS.npz`. The questions are arrays named
`signature/input`, the answers arrays named `signature/output`. It fails if the model needs Keras or Belfry.
"""

import importlib.util
import sys
from pathlib import Path


def main(model_folder: str, asked_file: str, answers_file: str) -> None:
    # TensorFlow imports an installed Keras by itself. Hidden like this, every use of it fails.
    for hidden in ("keras", "tf_keras", "keras_hub", "towers", "pipelines", "serving"):
        sys.modules[hidden] = None  # type: ignore[assignment]
    import numpy as np
    import tensorflow as tf

    spec = importlib.util.find_spec("tensorflow_text")
    folders = spec.submodule_search_locations if spec else None
    # The ops without the package, which would import Keras.
    for library in sorted(Path(next(iter(folders or ["."]))).glob("python/*/_*.so")):
        tf.load_op_library(str(library))
    model = tf.saved_model.load(model_folder)
    answers = {}
    with np.load(asked_file, allow_pickle=False) as asked:
        for signature in sorted({name.split("/")[0] for name in asked.files}):
            names = [name for name in asked.files if name.startswith(f"{signature}/")]
            inputs = {name.split("/")[1]: tf.constant(asked[name]) for name in names}
            for output, value in model.signatures[signature](**inputs).items():
                found = value.numpy()
                answers[f"{signature}/{output}"] = found.astype("S") if found.dtype == object else found
    np.savez(answers_file, **answers)


if __name__ == "__main__":
    main(*sys.argv[1:])
