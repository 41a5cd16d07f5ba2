"""What our workers do beside Celery's own: one file for each extension.

======================  ===========================================================================
`~.extensions`          which there are, and how a worker gets them
`~.status`              tells systemd how the worker is, and bounds its drain
`~.liveness`            the watchdog of a worker: one that hangs is replaced
`~.deliveries`          which tasks began, and how they ended, for the broker
`~.figures`             how tasks end, how long they ran and waited, for metrics
`~.unfinished`          on RabbitMQ: what did not end is counted, and parked
`~.events`              on RabbitMQ: what a worker tells of itself holds up nothing
`~.requeue`             a stopping worker requeues what it has not started
`~.reconnect`           messages are kept across a reconnect to Redis
`~.unregistered`        tasks that this worker does not know are parked for one that does
`~.moving`              what waits in the broker before is moved to the one that is now
`~.wakeup`              what a thread tells the event loop is done at once, before kombu 5.7
`~.mingle`              a start waits for the other workers no longer than they need
`~.pruning`             results and the admin's log are pruned (`~.admin_log`)
`~.background`          a thread with a broker connection of its own
======================  ===========================================================================
"""
