"""What a command fails with."""


class MachineError(Exception):
    """Why a command cannot be done, for the person who typed it."""
