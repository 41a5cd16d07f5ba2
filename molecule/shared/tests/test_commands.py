"""`site-manage` and `site-celery`: manage.py and celery, in the right release, as the right account."""

from __future__ import annotations

import pytest
from testinfra.host import Host

UNITS = ("celery-worker",)

pytestmark = [pytest.mark.once, pytest.mark.debian(13)]


@pytest.fixture(params=["root", "admin"])
def person(request: pytest.FixtureRequest, host: Host, admin: Host) -> Host:
    """Whoever types the command: root, or a person who may use sudo."""
    return {"root": host, "admin": admin}[request.param]


def test_site_manage_runs_manage_py(person: Host) -> None:
    assert "no issues" in person.check_output("site-manage check")


def test_site_manage_works_before_a_release_has_passed(host: Host) -> None:
    """As on a host whose first release is being built, or has failed."""
    host.check_output("mv /srv/site/current /srv/site/aside")
    try:
        ran = host.run("site-manage check")
    finally:
        host.check_output("mv /srv/site/aside /srv/site/current")
    assert ran.rc == 0
    assert "no issues" in ran.stdout
    assert "no release has passed on this host yet; this is " in ran.stderr


def test_site_celery_asks_the_worker(person: Host) -> None:
    assert "pong" in person.check_output("site-celery inspect ping")


def test_exit_status_is_passed_on(person: Host) -> None:
    assert person.run("site-manage shell --command 'raise SystemExit(7)'").rc == 7


def test_an_argument_is_passed_on_as_it_is(person: Host) -> None:
    """Names that `showmigrations` does not know are repeated by it, each in a sentence of its own."""
    words = ["$HOME", "a${HOME}b", "$$", "%h", "\\x41", "'\"`", "", "a\n\n"]
    said = person.run(f"site-manage showmigrations {' '.join(['%s'] * len(words))}", *words).stderr
    assert [word for word in words if f"label '{word}'." not in said] == []


def test_standard_input_is_passed_on(person: Host) -> None:
    assert person.check_output("echo 'print(6 * 7)' | site-manage shell").splitlines()[-1] == "42"


def test_site_manage_migrates(person: Host) -> None:
    assert "No migrations to apply" in person.check_output("site-manage migrate")


def test_site_manage_makes_a_table_for_a_cache(host: Host) -> None:
    """It changes the schema, as the processes may not."""
    host.check_output("site-manage createcachetable molecule_cache")
    host.check_output("echo 'DROP TABLE molecule_cache' | site-manage dbshell")


def test_deployed_settings_are_safe(host: Host) -> None:
    assert "no issues" in host.check_output("site-manage check --deploy --fail-level WARNING")


def test_commands_run_as_the_account_of_the_processes(host: Host) -> None:
    assert (
        host.check_output("site-manage shell --command 'import getpass; print(getpass.getuser())'").splitlines()[-1]
        == "site"
    )
