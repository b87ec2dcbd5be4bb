"""What running a model takes without torch: pictures, pixels, its ONNX file, answers.

NumPy alone, with Pillow to decode (`pictures`), ONNX Runtime to run (`session`) and safetensors for
the gates of other budgets (`exported`).
"""
