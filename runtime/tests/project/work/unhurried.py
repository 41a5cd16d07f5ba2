"""A worker that writes what it has to say once an hour, and in the end."""

from celeriac.ledger import recorder

recorder.FLUSH_SECONDS = 3600
