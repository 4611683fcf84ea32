"""The exceptions pyft raises. Invalid arguments are plain ValueError and TypeError."""


class Error(Exception):
    """Base of every failure that is not a wrong argument; raised itself for faults without a class of their own."""


class CheckpointError(Error):
    """A checkpoint file is absent, truncated, inconsistent, or lacks tensors; the message names file and tensor."""


class UnsupportedError(Error):
    """Understood, but this build, device or model cannot do it."""


class OutOfMemoryError(Error, MemoryError):
    """Host or device memory ran out. The model stays usable."""


class CancelledError(Error):
    """Loading was cancelled by its progress callback."""


class ParallelError(Error):
    """Another rank failed or was lost."""
