"""A scheduler of the project's own, as a project may have one."""

from typing import Any

from django_celery_beat.schedulers import DatabaseScheduler


class Renaming(DatabaseScheduler):
    """Calls the entries of the settings by other names."""

    def update_from_dict(self, mapping: dict[str, Any]) -> None:
        """Write the entries of the settings into the database, each with a prefix."""
        super().update_from_dict({f"ours {name}": entry for name, entry in mapping.items()})
