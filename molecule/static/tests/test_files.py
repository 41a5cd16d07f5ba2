"""Several files of a host are as they should be after one round trip, and what they hold is in no log."""

from __future__ import annotations

import base64
import getpass
import grp
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.celeriac.site.plugins.module_utils import site_files
from ansible_collections.celeriac.site.plugins.modules import files

OWNER, GROUP = getpass.getuser(), grp.getgrgid(os.getgid()).gr_name
# What a template may bring: an empty line in the end, signs beyond ASCII, and quotes.
TEXT = 'café "$x"\n\n'

Put = Callable[..., dict[str, Any]]


@pytest.fixture
def put(capsys: pytest.CaptureFixture[str]) -> Put:
    """What the module says of files."""

    def run(*wanted: dict[str, Any], **options: bool) -> dict[str, Any]:
        given = [{"owner": OWNER, "group": GROUP, **each} for each in wanted]
        with patch_module_args({"files": given, **options}), pytest.raises(SystemExit):
            files.main()
        said: dict[str, Any] = json.loads(capsys.readouterr().out)
        return said

    return run


def encoded(text: str) -> str:
    """Return a text as the action plugin hands it over."""
    return base64.b64encode(text.encode()).decode()


def a_file(path: Path, text: str = TEXT, **more: Any) -> dict[str, Any]:
    """Return the options of a file."""
    return {"path": str(path), "content": encoded(text), **more}


def mode(path: Path) -> int:
    """Return who may do what with a file."""
    return path.stat().st_mode & 0o777


def of_each_kind(folder: Path) -> list[dict[str, Any]]:
    """Return a file in a folder that is not there, a symlink to it, and what is to go."""
    return [
        {"path": str(folder / "new/deeper"), "state": "directory", "mode": "0700"},
        a_file(folder / "new/deeper/file", mode="0640"),
        {"path": str(folder / "link"), "state": "link", "src": "new/deeper/file"},
        {"path": str(folder / "old"), "state": "absent"},
        {"path": str(folder / "gone"), "state": "absent"},
    ]


def test_all_are_put_there_in_their_order_and_a_second_time_nothing_changes(tmp_path: Path, put: Put) -> None:
    (tmp_path / "old/inside").mkdir(parents=True)

    first, second = put(*of_each_kind(tmp_path)), put(*of_each_kind(tmp_path))

    assert first["changed_files"] == [str(tmp_path / name) for name in ("new/deeper", "new/deeper/file", "link", "old")]
    assert (tmp_path / "link").read_text() == TEXT
    assert (mode(tmp_path / "new/deeper"), mode(tmp_path / "new/deeper/file")) == (0o700, 0o640)
    assert not (tmp_path / "old").exists()
    assert (second["changed"], second["changed_files"]) == (False, [])


def test_under_check_the_same_is_said_and_nothing_done(tmp_path: Path, put: Put) -> None:
    (tmp_path / "old").mkdir()

    said = put(*of_each_kind(tmp_path), _ansible_check_mode=True)

    assert said["changed_files"] == put(*of_each_kind(tmp_path))["changed_files"]
    assert said["changed"]


def test_what_somebody_changed_by_hand_is_mended(tmp_path: Path, put: Put) -> None:
    file, link, elsewhere = tmp_path / "file", tmp_path / "link", tmp_path / "elsewhere"
    file.write_text(TEXT)
    file.chmod(0o666)
    elsewhere.write_text(TEXT)
    link.symlink_to(elsewhere)
    wanted = [a_file(file), a_file(link)]

    # Who may write is said under --check, too.
    assert put(*wanted, _ansible_check_mode=True)["changed_files"] == [str(file), str(link)]
    assert put(*wanted)["changed_files"] == [str(file), str(link)]

    assert mode(file) == 0o644
    # It stands where the symlink was; what that pointed to is somebody else's.
    assert (link.is_symlink(), link.read_text(), elsewhere.read_text()) == (False, TEXT, TEXT)


def test_a_difference_is_shown_but_of_a_secret(tmp_path: Path, put: Put) -> None:
    open_file, secret = tmp_path / "open", tmp_path / "secret"
    open_file.write_text("before")
    secret.write_text("before")

    said = put(a_file(open_file), a_file(secret, "after of a secret", secret=True), _ansible_diff=True)

    assert [(each["before_header"], each["before"], each["after"]) for each in said["diff"]] == [
        (str(open_file), "before", TEXT)
    ]
    assert "after of a secret" not in json.dumps(said)
    assert encoded("after of a secret") not in json.dumps(said)


def test_a_command_must_take_what_a_file_is_to_hold(tmp_path: Path, put: Put) -> None:
    file = tmp_path / "file"
    file.write_text("before")
    wanted = a_file(file, "after\n", validate="grep -q '^aft' %s")
    unwanted = a_file(file, "other\n", validate="sh -c 'grep -q ^aft $0 || { echo no such line; exit 1; }' %s")

    assert put(unwanted)["msg"] == f"{file} was left as it was: no such line"
    assert file.read_text() == "before"
    assert put(wanted)["changed_files"] == [str(file)]
    # Who has it already is not asked.
    assert put({**wanted, "validate": "false %s"})["changed"] is False


def test_one_that_cannot_be_put_there_is_named(tmp_path: Path, put: Put) -> None:
    (tmp_path / "file").write_text("")

    said = put(a_file(tmp_path / "good"), a_file(tmp_path / "file/below"))

    assert said["failed"]
    assert said["msg"] == f"{tmp_path / 'file/below'}: Not a directory"
    assert said["changed_files"] == [str(tmp_path / "good")]


def test_a_text_arrives_as_it_is(tmp_path: Path, ansible_playbook: Any) -> None:
    play = {
        "hosts": "localhost",
        "connection": "local",
        "gather_facts": False,
        "tasks": [
            {
                "celeriac.site.files": {
                    "files": [
                        {"path": str(tmp_path / "file"), "content": "{{ text }}", "owner": OWNER, "group": GROUP},
                        {"path": str(tmp_path / "folder"), "state": "directory", "owner": OWNER, "group": GROUP},
                    ]
                },
                "vars": {"text": TEXT},
            }
        ],
    }
    playbook = tmp_path / "play.json"
    playbook.write_text(json.dumps([play]))

    done = ansible_playbook("-i", "localhost,", playbook)

    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "file").read_text() == TEXT


def test_what_is_written_anew_is_another_file_of_the_same_account(tmp_path: Path) -> None:
    """Who reads it meanwhile has the old one, whole; who may read it is as before."""
    path = tmp_path / "settings.conf"
    path.write_text("old")
    path.chmod(0o640)
    os.chown(path, 12345, 23456)
    with path.open() as before:
        site_files.write_atomically(path, b"new", 0o640, (12345, 23456))
        assert before.read() == "old"
    now = path.stat()
    assert (path.read_text(), now.st_mode & 0o777, now.st_uid, now.st_gid) == ("new", 0o640, 12345, 23456)
    assert [each.name for each in tmp_path.iterdir()] == ["settings.conf"]
