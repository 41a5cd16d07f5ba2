"""The journal: what was sent, by whom, with which arguments, and when it started and ended.

Celery keeps no list of what was sent, and a result has arguments only as a text that is cut at a
length. So every task that is sent is written down in the project's own database, from which it can
be sent again as it was. A project adds the app, and runs its migrations::

    INSTALLED_APPS = [..., "celeriac.ledger"]

======================  ===========================================================================
`~.models`              a row for each task that was sent, and the counters
`~.publishing`          writes the row, in the moment before the broker gets the message
`~.bounded`             waits for the database no longer than a moment
`~.requests`            what a worker records of one task: started, ended
`~.recorder`            brings that to the database, many at a time, beside the event loop
`~.retention`           forgets what is old
`~.report`              the counters, and what did not end, or was never sent by beat
`~.worker`              the parts that run in a worker
======================  ===========================================================================

==================================  ===============================================================
setting                             what it is
==================================  ===============================================================
``CELERIAC_LEDGER_ENABLED``         False switches all of it off; True by default
``CELERIAC_LEDGER_KEEP_SECONDS``    rows are forgotten after so long; a week
``CELERIAC_LEDGER_KEEP_ROWS``       and of more than so many the oldest that ended; a million
==================================  ===============================================================

Options of a task: ``ledger=False`` leaves it out; ``keep_arguments=False`` records it without its
arguments. What it returned is never in here: that is the result backend's, and Celery's
``ignore_result=True`` keeps it from there, with the state.

**What is promised.** Nothing is decided here: no task is sent, started or dropped because of what
the journal has, or has not. A row is of the last publication under its task id, be it a retry, a
task that replaced itself, or another one under the same id; what a worker says of an earlier one
does not change it. A publication is not held up for longer than a second by a database that hangs,
and the next ones not at all (`~.bounded`).

**What is not.** A row or a mark can be missing: of what is sent while the database is away
(counted), of what a worker had to say when it was killed, of what starts before the transaction is
committed in which it was sent. What Redis loses is lost here, too: the journal only has it as a
task that has not started.
"""
