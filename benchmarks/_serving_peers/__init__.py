"""The servers that serving.py measures: one file each, so that another one is another file here.

A file has `NAME`, `REQUIREMENTS` (for pip; "{repository}" is this one, "{onnxruntime}" the version that all share), `SETTINGS` (what
was chosen and where it is documented, for the report), `PATH` and `HEADERS` of a request, and

- `body(values) -> bytes`: a request with one sample, from its raw little-endian float32;
- `logits(data) -> list[float]`: the answer's numbers, so that a wrong answer is no result;
- `main(file, port, threads, folder)`: serve the ONNX file on that port of loopback until SIGTERM, with a session of so many threads.
  It runs as a script in the server's own environment, which has no deploykit; `folder` is empty and its own.

Its module is imported by serving.py too, without the server's package: that is imported where the script runs. No file may have
the name of a package.
"""
