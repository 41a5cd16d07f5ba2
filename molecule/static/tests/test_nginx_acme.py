"""When a certificate is asked for, what is made of certbot's words, and what nginx is never given."""

from __future__ import annotations

import json
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from testkit.loading import load

ROOT = Path(__file__).resolve().parents[3]
NAME, ALIAS = "www.mysite.test", "mysite.test"
DIRECTORY = "https://acme.mysite.test/directory"
DAYS = 90


ACME = load(ROOT / "roles/nginx_acme/files/nginx_acme.py")
WANTED = ACME.Wanted(DIRECTORY, [NAME, ALIAS])


def had(folder: Path, *, days: int = DAYS, asked: object = WANTED, names: tuple[str, ...] = (NAME, ALIAS)) -> None:
    """Let a certificate be there, as certbot keeps it."""
    live = folder / "live/site"
    live.mkdir(parents=True, exist_ok=True)
    words = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc"]
    words += [
        "-days",
        str(days),
        "-subj",
        f"/CN={NAME}",
        "-addext",
        "subjectAltName=" + ",".join(f"DNS:{name}" for name in names),
        "-keyout",
        f"{live}/privkey.pem",
        "-out",
        f"{live}/fullchain.pem",
    ]
    subprocess.run(words, check=True, capture_output=True)
    (folder / "asked.json").write_text(json.dumps({"directory": asked.directory, "names": asked.names}))  # type: ignore[attr-defined]


# ── When ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("left", "asks"), [(89, False), (31, False), (29, True), (-1, True)])
def test_one_is_asked_for_when_a_third_of_its_life_is_left(tmp_path: Path, left: int, asks: bool) -> None:
    had(tmp_path)

    assert bool(ACME.due(tmp_path, WANTED, datetime.now(UTC) + timedelta(days=DAYS - left))) is asks


@pytest.mark.parametrize(
    "asked", [ACME.Wanted(DIRECTORY, [NAME]), ACME.Wanted("https://other.mysite.test/dir", [NAME, ALIAS])]
)
def test_one_is_asked_for_when_the_inventory_wants_another(tmp_path: Path, asked: object) -> None:
    had(tmp_path, asked=asked)

    assert "other names, or of another authority" in ACME.due(tmp_path, WANTED, datetime.now(UTC))


@pytest.mark.parametrize("gone", ["live/site/fullchain.pem", "asked.json"])
def test_one_is_asked_for_where_there_is_none_or_nobody_knows_what_it_is(tmp_path: Path, gone: str) -> None:
    had(tmp_path)
    (tmp_path / gone).unlink()

    assert ACME.due(tmp_path, WANTED, datetime.now(UTC)) == "there is none"


# ── Words ────────────────────────────────────────────────────────────────────────────────────────

LIMITED = """Saving debug log to /var/lib/nginx-acme/logs/letsencrypt.log
Requesting a certificate for www.mysite.test
An unexpected error occurred:
Error creating new order :: too many certificates (5) already issued for this exact set of identifiers
Ask for help or search for solutions at https://community.letsencrypt.org.
"""


def test_a_limit_of_the_authority_is_told_in_its_words_and_with_what_helps() -> None:
    said = ACME.reason(LIMITED, [("rateLimited", ""), ("badNonce", "")])

    assert "too many certificates (5) already issued" in said
    assert "later it will go" in said
    assert "Ask for help" not in said


def test_words_that_certbot_loses_are_found_in_its_log(tmp_path: Path) -> None:
    log = tmp_path / "letsencrypt.log"
    log.write_text(
        "acme.messages.Error: urn:ietf:params:acme:error:rateLimited :: There were too many :: five of them\n"
    )

    said = ACME.reason("An unexpected error occurred:\nAttributeError: can't set attribute\n", ACME.refusals_in(log))

    assert said.startswith("five of them")
    assert "later it will go" in said


def test_words_that_nobody_knows_are_passed_on() -> None:
    assert "the dog ate it" in ACME.reason("An unexpected error occurred:\nthe dog ate it\n", [])


# ── What nginx is given ──────────────────────────────────────────────────────────────────────────


@pytest.fixture
def nginx(tmp_path: Path) -> Path:
    """The folder of nginx, with the pair that serves."""
    folder = tmp_path / "nginx"
    folder.mkdir()
    for name in ("site.pem", "site.crt"):
        (folder / name).write_text("the one before")
    return folder


def state(folder: Path) -> dict[str, str]:
    """Return what the unit tells its processes."""
    return {"STATE_DIRECTORY": str(folder / "state"), "ACME_NAMES": f"{NAME} {ALIAS}"}


def test_a_pair_that_does_not_fit_is_not_given_to_nginx(tmp_path: Path, nginx: Path) -> None:
    had(tmp_path / "state")
    chain = (tmp_path / "state/live/site/fullchain.pem").read_text()
    had(tmp_path / "state")
    (tmp_path / "state/live/site/fullchain.pem").write_text(chain)

    with pytest.raises(ACME.AcmeError, match="does not fit its key"):
        ACME.install(state(tmp_path), nginx)

    assert (nginx / "site.pem").read_text() == "the one before"


def test_a_pair_for_other_names_is_not_given_to_nginx(tmp_path: Path, nginx: Path) -> None:
    had(tmp_path / "state", names=(NAME,))

    with pytest.raises(ACME.AcmeError, match=f"not for {ALIAS}"):
        ACME.install(state(tmp_path), nginx)

    assert (nginx / "site.pem").read_text() == "the one before"


def test_what_is_no_pair_is_told_to_nobody(tmp_path: Path, nginx: Path) -> None:
    """The program that gets it is not trusted: a link of its own shows no file of root's."""
    had(tmp_path / "state")
    secret = tmp_path / "secret"
    secret.write_text("of root")
    (tmp_path / "state/live/site/fullchain.pem").unlink()
    (tmp_path / "state/live/site/fullchain.pem").symlink_to(secret)

    with pytest.raises(ACME.AcmeError):
        ACME.install(state(tmp_path), nginx)

    assert {file.read_text() for file in nginx.iterdir()} == {"the one before"}


def test_a_pair_that_nginx_does_not_take_gives_way_to_the_one_before(
    tmp_path: Path, nginx: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    had(tmp_path / "state")
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "nginx").write_text("#!/bin/sh\necho no such directive >&2\nexit 1\n")
    (tools / "nginx").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")

    with pytest.raises(ACME.AcmeError, match="no such directive"):
        ACME.install(state(tmp_path), nginx)

    assert {file.read_text() for file in nginx.iterdir()} == {"the one before"}
