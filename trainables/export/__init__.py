"""The packed file and the ONNX file of a network: written, decoded, checked and timed."""
