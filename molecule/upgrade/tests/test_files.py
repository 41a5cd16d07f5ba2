"""What outlives a release: who writes it, who reads it, and what nginx makes of it."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from stack.lab import UPLOAD_MB, Site
from stack.releases import Release
from stack.web import Answer, Website
from testinfra.host import Host

UNITS = ("gunicorn", "nginx")
MEDIA, PRIVATE = "/srv/site/data/media", "/srv/site/data/invoices"
BOUNDARY = "--of-the-tests"


@pytest.fixture
def browser(site: Site, serving: Release) -> Website:
    """A browser of somebody who is not logged in."""
    return Website(site.web.domain, site.web.address, site.web.certificate)


@pytest.fixture
def host(site: Site) -> Iterator[Host]:
    """The host as root, whose folders are empty in the end."""
    yield site.machine.root
    site.machine.root.check_output(f"find {MEDIA} {PRIVATE} -mindepth 1 -delete")


def upload(browser: Website, name: str, content: bytes) -> Answer:
    """Upload a file as a form does."""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'.encode()
    form = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
    body = head + content + f"\r\n--{BOUNDARY}--\r\n".encode()
    return browser.request("POST", "/probe/upload/", body, form, seconds=120)


def peaks(site: Site, host: Host) -> dict[str, int]:
    """Return how much memory each web process has had at most, in KiB."""
    group = site.machine.show("gunicorn", "ControlGroup")
    said = host.check_output(f"for pid in $(cat /sys/fs/cgroup{group}/cgroup.procs); do cat /proc/$pid/status; done")
    return dict(
        zip(re.findall(r"^Pid:\s+(\d+)", said, re.M), map(int, re.findall(r"^VmHWM:\s+(\d+)", said, re.M)), strict=True)
    )


def test_a_large_upload_needs_no_memory_of_a_process(site: Site, browser: Website, host: Host) -> None:
    content = b"x" * (UPLOAD_MB * 10**6)
    before = peaks(site, host)
    answer = upload(browser, "large.bin", content)
    after = peaks(site, host)

    assert answer.status == 200, answer.text
    assert before.keys() == after.keys()
    assert max(after[pid] - before[pid] for pid in after) < UPLOAD_MB * 1000 / 4
    served = browser.get(answer.text, seconds=120)
    assert (served.status, served.body == content) == (200, True)
    assert served.headers["X-Release"] is None, "gunicorn answered"


def test_one_that_is_larger_than_was_chosen_is_refused(browser: Website, host: Host) -> None:
    headers = {"Content-Length": str((UPLOAD_MB + 2) * 2**20)}
    assert browser.request("POST", "/probe/upload/", headers=headers).status == 413


@pytest.mark.parametrize(
    ("name", "policy"), [("page.html", "sandbox"), ("picture.svg", "sandbox"), ("paper.pdf", None), ("it", "sandbox")]
)
def test_what_a_stranger_uploads_runs_no_script_of_the_site(
    browser: Website, host: Host, name: str, policy: str | None
) -> None:
    served = browser.get(upload(browser, name, b"<script>alert(1)</script>").text)

    assert served.status == 200
    assert served.headers["Content-Security-Policy"] == policy
    assert served.headers["X-Content-Type-Options"] == "nosniff"


def test_a_symlink_leads_nowhere(browser: Website, host: Host) -> None:
    """Whoever can make one could let nginx show what it can read."""
    host.check_output(f"ln -s /etc/passwd {MEDIA}/passwd; ln -s /etc {MEDIA}/etc")
    assert {browser.get(f"/media/{path}").status for path in ("passwd", "etc/passwd")} <= {403, 404}


def test_a_private_file_comes_from_nginx_to_whom_a_view_sends_it(browser: Website, host: Host) -> None:
    host.check_output(
        f"runuser -u site -- sh -c 'umask 077; mkdir {PRIVATE}/2026; echo secret > {PRIVATE}/2026/1.html'"
    )
    sent = browser.get("/probe/private/?file=invoices/2026/1.html")

    assert (sent.status, sent.text) == (200, "secret\n")
    assert sent.headers["Content-Security-Policy"] == "sandbox"
    assert browser.get("/-/private/invoices/2026/1.html").status == 404
    assert browser.get("/probe/private/?file=media/1.html").status == 404


@pytest.mark.parametrize(("maker", "other"), [("site", "site_deploy"), ("site_deploy", "site")])
@pytest.mark.parametrize("umask", ["0077", "0027"])
def test_what_one_account_makes_the_other_can_change(
    browser: Website, host: Host, maker: str, other: str, umask: str
) -> None:
    host.check_output(f"runuser -u {maker} -- sh -c 'umask {umask}; mkdir -p {MEDIA}/a/b; echo one > {MEDIA}/a/b/it'")
    host.check_output(
        f"runuser -u {other} -- sh -c 'umask {umask}; echo two >> {MEDIA}/a/b/it; echo > {MEDIA}/a/b/new'"
    )

    assert browser.get("/media/a/b/it").text == "one\ntwo\n"
    assert host.run(f"runuser -u nobody -- ls {MEDIA}").rc != 0
    assert host.run(f"runuser -u www-data -- sh -c 'echo > {MEDIA}/of-nginx'").rc != 0


def test_what_a_process_is_told_of_its_home_it_can_write_to(site: Site, host: Host) -> None:
    code = "import pathlib; print((pathlib.Path.home() / 'probe').write_text('kept'))"
    assert site.machine.feed(code, "site-manage", "shell", "--no-imports").strip() == "4"
