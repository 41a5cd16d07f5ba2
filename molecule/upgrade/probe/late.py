"""Imported by a task in its last second only: it must be the module of the release that the task started in."""

MARKER = "base"
