"""Ask a deployed file about images; the whole of what an app needs.

python examples/embed.py trained/lenet5/model.onnx three.png four.png
"""

import sys

from deploykit.runtime import Predictor

with Predictor(sys.argv[1]) as model:
    for answer in model.predict_many(sys.argv[2:], top=3):
        print(answer.path, answer.error or ", ".join(f"{c.label} {c.score:.1%}" for c in answer.top), sep=": ")
