"""Starts Triton and the REST shim and keeps them alive: `python -m server`."""
