"""An ONNX graph: its layers counted from shapes and operators, and timed by onnxruntime's own profile."""
