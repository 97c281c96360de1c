"""An exported version for devices: LiteRT and ONNX, in fewer bits where that keeps the recommendations."""
