"""Ask a server for tensors with Triton's own client; needs `pip install "tritonclient[http]"`.

deploykit serve trained/lenet5/model.onnx
python examples/clients/tensors.py 127.0.0.1:8000 lenet5
"""

import sys

import numpy as np
import tritonclient.http as triton

with triton.InferenceServerClient(sys.argv[1]) as client:
    (told,) = client.get_model_metadata(sys.argv[2])["inputs"]
    sizes = [4, *(size if size > 0 else 64 for size in told["shape"][1:])]  # four samples; -1 stands where any size goes
    batch = np.random.default_rng(0).normal(size=sizes).astype(np.float32)
    given = triton.InferInput(told["name"], batch.shape, told["datatype"])
    given.set_data_from_numpy(batch)  # raw bytes, no JSON
    output = client.get_model_metadata(sys.argv[2])["outputs"][0]["name"]
    answer = client.infer(sys.argv[2], [given]).as_numpy(output)
    print(output, answer.shape, answer.dtype)
