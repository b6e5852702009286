"""What can go wrong before the service is ready.

StartError            the service cannot start; the message says why and what to do
├── PlatformError     this machine lacks something: architecture, glibc, shared libpython, Triton itself
├── PortTakenError    a port that is needed is in use
├── ModelError        the model repository has no usable export
└── ProcessError      a process died, or did not get ready in time; carries the end of its log
"""

from __future__ import annotations

__all__ = ["ModelError", "PlatformError", "PortTakenError", "ProcessError", "StartError"]


class StartError(Exception):
    """The service cannot start."""


class PlatformError(StartError):
    """This machine lacks something."""


class PortTakenError(StartError):
    """A port that is needed is in use."""


class ModelError(StartError):
    """The model repository has no usable export."""


class ProcessError(StartError):
    """A process died, or did not get ready in time."""
