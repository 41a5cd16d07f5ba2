"""The site's console on a deployed host, with few and with many tasks in its database."""

from __future__ import annotations

import http.client
import json
import shlex
import socket
import ssl
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from stack.web import Website

from bench.machines import Host
from bench.timing import MeasureError

FEW = 50
LIST = "the list"
# Of the same length however many tasks there are: what differs is the way to them.
PAGES = {
    LIST: "/tasks/",
    "of a state": "/tasks/?state=SUCCESS&name=app.tasks.add",
    "of a state that none is in": "/tasks/?state=REVOKED",
}

# A tenth of them has failed. The oldest was sent as many seconds ago as there are.
FILL = """
TRUNCATE celeriac_ledger_dispatch, django_celery_results_taskresult;
INSERT INTO celeriac_ledger_dispatch (task_id, publication, name, args, kwargs, priority, parent, sent_by, sent_at,
  ended_at, retries, queue, worker, starts)
SELECT 'filler-' || n, '', 'app.tasks.add', '[2, 3]', '{{}}', 5, '', '', now() - interval '1 second' * ({rows} - n),
  now(), 0, 'celery', 'celery@host', 1
FROM generate_series(1, {rows}) AS n;
INSERT INTO django_celery_results_taskresult (task_id, task_name, task_args, task_kwargs, status, worker, content_type,
  content_encoding, result, date_created, date_started, date_done, meta)
SELECT 'filler-' || n, 'app.tasks.add', '"(2, 3)"', '"{{}}"', CASE WHEN n % 10 = 0 THEN 'FAILURE' ELSE 'SUCCESS' END,
  'celery@host', 'application/json', 'utf-8',
  CASE WHEN n % 10 = 0 THEN '{{"exc_type": "ValueError", "exc_message": ["no"], "exc_module": "app"}}' ELSE '5' END,
  now(), now(), now(), '{{"children": []}}'
FROM generate_series(1, {rows}) AS n;
"""
# What PostgreSQL would do in the next minute, beside the measurement.
SETTLE = "VACUUM ANALYZE celeriac_ledger_dispatch, django_celery_results_taskresult", "CHECKPOINT"

# Inside the site, where its queries can be counted.
COUNT = """
import json
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
client = Client(headers={{"accept": "text/html"}})
client.force_login(User.objects.filter(is_superuser=True).first())
counts = {{}}
for name, path in {pages}.items():
    with CaptureQueriesContext(connection) as queries:
        answer = client.get(path, HTTP_HOST="{domain}", secure=True)
    assert answer.status_code == 200, answer.status_code
    counts[name] = len(queries)
print(json.dumps(counts))
"""


@dataclass(frozen=True)
class Console:
    """A member of staff at a browser, which keeps its connection open.

    Attributes:
        host: that serves the site.
        site: the browser, logged in.
        requests: of which the time is the median.
    """

    host: Host
    site: Website
    requests: int

    def fill(self, rows: int) -> None:
        """Let the database hold so many tasks with their results, and no others."""
        self._psql(FILL.format(rows=rows), *SETTLE)

    def empty(self) -> None:
        """Take them away again."""
        self._psql("TRUNCATE celeriac_ledger_dispatch, django_celery_results_taskresult")

    def queries(self) -> dict[str, int]:
        """Return how many queries each page takes."""
        code = COUNT.format(pages=PAGES, domain=self.site.domain)
        printed = self.host.shell(f"site-manage shell -v0 --command {shlex.quote(code)}")
        counts: dict[str, int] = json.loads(printed.splitlines()[-1])
        return counts

    def seconds_of_page(self, path: str) -> float:
        """Return how long a page takes from the first byte of the request to the last of the answer, the median."""
        with self._connection() as connection:
            return self._median(connection, "GET", path, "", {"Accept": "text/html"}, 200)

    def seconds_of_enqueueing(self) -> float:
        """Return how long the request takes that starts a task, the median."""
        headers = {"Content-Type": "application/json", "X-CSRFToken": self.site.cookies["csrftoken"].value}
        with self._connection() as connection:
            body = json.dumps({"task": "app.tasks.simple_function", "kwargs": {"text": "hello"}})
            return self._median(connection, "POST", "/tasks/api/runs", body, headers, 202)

    def _median(
        self,
        connection: http.client.HTTPSConnection,
        method: str,
        path: str,
        body: str,
        headers: dict[str, str],
        status: int,
    ) -> float:
        own = {"Referer": f"https://{self.site.domain}/", **headers}
        own["Cookie"] = "; ".join(f"{name}={item.value}" for name, item in self.site.cookies.items())
        took = []
        for _ in range(self.requests):
            began = time.perf_counter()
            connection.request(method, path, body or None, own)
            answer = connection.getresponse()
            text = answer.read()
            took.append(time.perf_counter() - began)
            if answer.status != status:
                raise MeasureError(f"{method} {path} was answered with {answer.status}:\n{text.decode()[:2000]}")
        return statistics.median(took)

    @contextmanager
    def _connection(self) -> Iterator[http.client.HTTPSConnection]:
        """Open a connection that serves many requests."""
        connection = http.client.HTTPSConnection(self.site.domain, timeout=30)
        context = ssl.create_default_context(cadata=self.site.certificate)
        plain = socket.create_connection((self.site.address, 443), timeout=30)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # head and body of a request go at once
        connection.sock = context.wrap_socket(plain, server_hostname=self.site.domain)
        try:
            yield connection
        finally:
            connection.close()

    def _psql(self, *commands: str) -> None:
        """Run SQL, each command in a transaction of its own."""
        words = shlex.join(f"--command={command}" for command in commands)
        self.host.shell(f"runuser -u postgres -- psql --no-psqlrc --quiet --set=ON_ERROR_STOP=1 site {words}")


def console(host: Host, requests: int) -> Console:
    """Return the console of a host, for its admin."""
    site = Website(host.address, host.address, host.certificate)
    password = (host.inventory / ".secrets/admin_password").read_text().split()[0]
    answer = site.log_in("admin", password)
    if answer.status != 302:
        raise MeasureError(f"the admin cannot log in: {answer.status}")
    return Console(host, site, requests)
