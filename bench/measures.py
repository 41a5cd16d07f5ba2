"""What is measured. A measure is a function that is registered under a name for the command line.

It says what to time on our side and on the other; `side_by_side` takes turns, so that whatever else the
computer does meets both.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable

from stack.load import failures, percentile
from stack.releases import Release

from bench import cost
from bench import tasks as transports
from bench.console import FEW, LIST, PAGES, console
from bench.machines import Host, Lab
from bench.production import Production
from bench.shipment import Shipment, shipped, summary
from bench.timing import Row, Run, side_by_side, tell

MEASURES: dict[str, Callable[[Lab], Row]] = {}

# Between the end of a deploy and the time that the next one is compared with.
SETTLE_SECONDS = 5


def measure(name: str) -> Callable[[Callable[[Lab], Row]], Callable[[Lab], Row]]:
    """Register a measure; the first line of its docstring is its line in --help."""

    def register(function: Callable[[Lab], Row]) -> Callable[[Lab], Row]:
        MEASURES[name] = function
        return function

    return register


@measure("converge")
def converge(lab: Lab) -> Row:
    """site.yml on a bare machine, against bench/reference.sh on one like it."""

    def ours() -> Run:
        with lab.bare("ours") as host:
            return host.converge()

    def reference() -> Run:
        with lab.bare("reference") as host:
            return host.reference()

    return side_by_side(lab.rounds or 3, ours, reference)


@measure("noop")
def noop(lab: Lab) -> Row:
    """site.yml where nothing is left to do, against `ansible -m ping`."""
    return noop_against_ping(lab)


@measure("noop-linear")
def noop_linear(lab: Lab) -> Row:
    """The same without Mitogen, on both sides."""
    return noop_against_ping(lab, ANSIBLE_STRATEGY="linear")


def noop_against_ping(lab: Lab, **environment: str) -> Row:
    """Compare a run that changes nothing with the least that Ansible can do."""
    host = lab.converged

    def ours() -> Run:
        run = host.ansible("ansible-playbook", lab.sizes.noop, **environment)
        if " changed=0 " not in run.output:
            tell("  this run did change something: the next figure is no no-op's")
        return run

    return side_by_side(lab.rounds or 5, ours, lambda: host.ping(**environment))


@measure("deploy")
def deploy(lab: Lab) -> Row:
    """playbooks/deploy.yml of a line that changed, against `ansible -m ping`."""
    host = lab.deployed
    return side_by_side(lab.rounds or 5, lambda: host.deploy(lab.workshop.make()), host.ping)


@measure("rollback")
def rollback(lab: Lab) -> Row:
    """playbooks/rollback.yml right after such a deploy, against `ansible -m ping`."""
    host = lab.deployed

    def ours() -> Run:
        host.deploy(lab.workshop.make())
        return host.rollback()

    return side_by_side(lab.rounds or 5, ours, host.ping)


@measure("deploy-script")
def deploy_script(lab: Lab) -> Row:
    """The same deploy against bench/deploy.sh, both under load, with what is lost."""
    ours: list[Shipment] = []
    reference: list[Shipment] = []

    def ship(host: Host, shipments: list[Shipment], command: Callable[[Release], Run]) -> Run:
        release = lab.workshop.make()
        shipments.append(shipped(host, lambda: command(release), lab.sizes.lost_seconds))
        return shipments[-1].run

    deployed, scripted = lab.deployed, lab.scripted
    row = side_by_side(
        lab.rounds or 3,
        lambda: ship(deployed, ours, deployed.deploy),
        lambda: ship(scripted, reference, scripted.deploy_by_script),
    )
    row.notes += [f"ours       {summary(ours)}", f"reference  {summary(reference)}"]
    return row


@measure("deploy-p99")
def deploy_p99(lab: Lab) -> Row:
    """99 of 100 requests due in a deploy were answered in, against as long just before."""
    row, host, rounds = Row(unit="ms", paired=True), lab.deployed, lab.rounds or 10
    deploy_seconds = host.deploy(lab.workshop.make()).seconds
    with host.load(seconds=rounds * 300) as load:
        for number in range(1, rounds + 1):
            time.sleep(SETTLE_SECONDS)
            quiet = time.time()
            time.sleep(deploy_seconds)
            began = time.time()
            run = host.deploy(lab.workshop.make())
            ended = time.time()
            deploy_seconds = ended - began
            during = load.settled(began, ended)
            before = load.answers(max(quiet, began - deploy_seconds), began)
            row.ours.append(Run(percentile(during, 99), run.load, ""))
            row.reference.append(Run(percentile(before, 99), run.load, ""))
            tell(
                f"  {number}/{rounds} p99 {row.ours[-1].seconds * 1000:.0f} ms in {deploy_seconds:.1f} s,"
                f" {row.reference[-1].seconds * 1000:.0f} ms before  (load {run.load:.1f})"
            )
        load.stop()
        failed, requests = failures(load.answers()), len(load.answers())
    ratios = ", ".join(f"{ratio:.2f}" for ratio in sorted(row.ratios()))
    row.notes += [f"each deploy: {ratios}", f"requests failed: {len(failed)} of {requests}", *failed[:5]]
    return row


@measure("site")
def site(lab: Lab) -> Row:
    """The console's list over 50,000 tasks, against over 50; also other lists, and starting a task."""
    browser, many_tasks = console(lab.converged, lab.sizes.requests), lab.sizes.many
    others: dict[str, dict[int, list[float]]] = {}
    queries: dict[int, dict[str, int]] = {}

    def look(tasks: int) -> Run:
        browser.fill(tasks)
        queries[tasks] = browser.queries()  # and warms the database up
        load = os.getloadavg()[0]
        for name, path in PAGES.items():
            others.setdefault(name, {}).setdefault(tasks, []).append(browser.seconds_of_page(path))
        starting = browser.seconds_of_enqueueing()
        others.setdefault("starting a task", {}).setdefault(tasks, []).append(starting)
        return Run(others[LIST][tasks][-1], load, "")

    try:
        row = side_by_side(lab.rounds or 3, lambda: look(many_tasks), lambda: look(FEW))
    finally:
        browser.empty()
    row.unit = "ms"
    for name, seconds in others.items():
        many, few = statistics.median(seconds[many_tasks]), statistics.median(seconds[FEW])
        asked = f", {queries[many_tasks][name]} queries, and {queries[FEW][name]}" if name in PAGES else ""
        row.notes.append(f"{name}: {many * 1000:.1f} ms, against {few * 1000:.1f} ms: {many / few:.2f}{asked}")
    return row


@measure("tasks")
def tasks(lab: Lab) -> Row:
    """Tasks a second of a busy worker, against plain Celery's as durable; also latency, CPU, long messages."""
    return transports.tasks(lab.rounds or 3, lab.sizes)


@measure("journal")
def journal(lab: Lab) -> Row:
    """A task in a busy worker, with and without the journal of what was sent; and its enqueueing."""
    return cost.cost(lab.rounds or 3, lab.sizes, "the journal", {"MORE_APPS": cost.APP})


@measure("metrics")
def metrics(lab: Lab) -> Row:
    """A task in a busy worker that counts for Prometheus, and in one that does not; and its enqueueing."""
    return cost.cost(lab.rounds or 3, lab.sizes, "metrics", {"CELERIAC_METRICS_TOKEN": "of-nobody"})


@measure("production")
def production(lab: Lab) -> Row:
    """site.yml with a certificate by ACME and backups, against without both; also a deploy."""
    sides = Production(lab)
    row = side_by_side(lab.rounds or 3, sides.on, sides.off)
    row.notes += sides.notes()
    return row
