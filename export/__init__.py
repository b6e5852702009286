"""Offline, once per model: `python -m export` turns an encoder into the data files of the model repository.

 name or folder ──► Encoder ──► model.onnx ──► verified ──► moved into model_repository, manifest last
                  encoder.py    graphs.py      verify.py    artifacts.py

This file imports nothing: the server reads `export.manifest` at start and must load neither torch nor transformers.
"""
