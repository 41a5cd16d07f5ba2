"""Whether the broker that the inventory chooses lets the site in: a step of `celeriac.release`.

One on the host of the group `broker` does. One elsewhere is somebody else's: its name, its certificate, the password
and what stands behind the last slash are asked for here, before anything is migrated, and not by a worker that does not
get ready.
"""

import os
import re
from urllib.parse import urlsplit

from django.core.management import CommandError

from celeriac import quorum
from celeriac.broker import connect
from celeriac.configure import BROKER, RETRIES_IN_WEB, configure
from celeriac.project import celery_app

PATIENCE_SECONDS = 5.0

# What the client says, and what is wrong then: `{}` stands for the address. The first that fits counts.
_FAULTS = (
    (
        r"mismatch, certificate is not valid",
        "the certificate there is another one's. `site_broker` has the name that it is for: "
        "`site_broker: amqps://site@mq.mysite.org/site`, say.",
    ),
    (
        r"certificate has expired",
        "its certificate has expired.",
    ),
    (
        r"CERTIFICATE_VERIFY_FAILED",
        "this host does not trust the authority of its certificate. `site_ca_certificates` has the file of that: "
        "`site_ca_certificates: [files/company.crt]`, say.",
    ),
    (
        r"WRONG_VERSION_NUMBER|RECORD_LAYER_FAILURE|EOF occurred in violation",
        "it does not speak TLS there. `site_broker` begins with amqp:// or redis:// without it, or has another port.",
    ),
    (
        r"ACCESS_REFUSED|WRONGPASS|NOAUTH|[Ii]nvalid (?:username-)?password|without any password configured",
        "it refuses the log-in. `site_broker` has the user, and `vault_broker_password` the password: "
        "`vault_broker_password: \"{{ lookup('ansible.builtin.env', 'BROKER_PASSWORD') }}\"`, say.",
    ),
    (
        r"NOT_ALLOWED|vhost|DB index|NOPERM",
        "it knows the user, and refuses what `site_broker` has behind the last slash: the virtual host of a RabbitMQ, "
        "the number of a database in Redis.",
    ),
    (
        r"Name or service not known|name resolution|No address associated",
        "this host knows no such name. `site_broker` has it: `site_broker: amqps://site@mq.mysite.org/site`, say.",
    ),
    (
        r"timed out|refused|unreachable|No route|reset|closed",
        "it does not answer as a broker does. `site_broker` has its name and its port, and a firewall there has to let "
        "this host in; with amqp:// or redis:// it has to be a port without TLS.",
    ),
)


def check() -> str:
    """Log in to the broker once.

    Returns:
        Which it is.

    Raises:
        CommandError: it does not let the site in, or is a cluster that the project cannot use; with the choice that
            helps.
    """
    parts = urlsplit(os.environ.get(BROKER, ""))
    if not parts.hostname:
        return "the project says where it is"
    place = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    app = configure(celery_app(), result_retries=RETRIES_IN_WEB)
    if quorum.is_wanted() and (faults := [*quorum.faults(app)]):
        raise CommandError("\n".join(f"The broker is a cluster of RabbitMQ, and {fault}" for fault in faults))
    try:
        with connect(app, PATIENCE_SECONDS) as connection:
            connection.ensure_connection(max_retries=1, interval_start=0, interval_step=0)
    except Exception as error:
        raise CommandError(f"The broker {place} cannot be used: {_fault(error)}\n{_words(error)}") from error
    return f"{place} lets the site in"


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _fault(error: BaseException) -> str:
    said = f"{_words(error)} {error.__cause__!r}"
    return next((fault for pattern, fault in _FAULTS if re.search(pattern, said)), "`site_broker` has its address.")
