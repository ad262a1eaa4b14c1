"""The ONNX file of a network: written from the packed one, checked against it in onnxruntime, and timed."""
