"""An app with periodic tasks in a table of its own, as large projects have it. It has no migrations: `--run-syncdb`."""
