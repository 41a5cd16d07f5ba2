"""The dispatch ledger: on Redis too, no task is lost.

Celery's worker takes a message from Redis, and notes in the next moment that it did. A worker that
is killed between the two loses the message, whatever ``acks_late`` says. So every task that is sent
is written down in the project's own database, and one that is nowhere any more is sent again. A
project adds the app, and runs its migrations::

    INSTALLED_APPS = [..., "celeriac.ledger"]

======================  ===========================================================================
`~.models`              a row for each task that was sent, and the counters
`~.publishing`          writes the row, in the moment before the broker gets the message
`~.requests`            what a worker notes of one task: started, acknowledged, ended
`~.marks`               brings that to the database, many at a time, beside the event loop
`~.receipts`            what Redis itself keeps of an acknowledgement until the database knows of it
`~.places`              where in Redis a message can be
`~.rule`                when a task is sent again: a function of what is known
`~.sweep`               looks, asks the rule, and sends
`~.retention`           forgets what is old
`~.report`              the counters, and what did not end, or was never sent by beat
`~.worker`              the parts that run in a worker
======================  ===========================================================================

==================================  ===============================================================
setting                             what it is
==================================  ===============================================================
``CELERIAC_LEDGER_ENABLED``         False switches all of it off; True by default
``CELERIAC_LEDGER_BOUND_SECONDS``   for so long a task must be nowhere until it is sent again; 60
``CELERIAC_LEDGER_KEEP_SECONDS``    rows are forgotten after so long; a week
``CELERIAC_LEDGER_KEEP_ROWS``       and of more than so many the oldest that ended; a million
``CELERIAC_LEDGER_REVOKED``         ``"pkg.mod.function"``: is given a set of task ids and returns
                                    those that are revoked, where a project keeps these itself
==================================  ===============================================================

Options of a task: ``ledger=False`` leaves it out; ``keep_arguments=False`` notes it without its
arguments, and then it cannot be sent again (it is counted as lost).

**What is promised.** Delivery is at least once, on Redis as on RabbitMQ: a task may still be
executed twice. A second start of one that has *ended* is dropped, where it can be known: when the
message says that it was given out before, and when the ledger has sent the task again. A second
start of one that *runs*, as far as is known, is executed and counted.

**What is not.** A publication whose row could not be written (the database is away) goes out, is
counted, and is not looked after. On RabbitMQ, which loses no message, nothing is ever sent again;
the ledger only reports there. A task that was acknowledged when it started (``acks_late`` is off)
and did not end is reported and not sent again. While a queue holds more than `places.LONGEST`
messages, what is lost from it waits until it is shorter.
"""
