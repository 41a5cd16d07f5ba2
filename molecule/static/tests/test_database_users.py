"""PostgreSQL is given what it would have made of a password."""

from __future__ import annotations

import base64

from ansible_collections.celeriac.site.plugins.modules.database_users import account_of, verifier


def test_a_password_is_kept_as_postgresql_keeps_it() -> None:
    """The example of RFC 7677."""
    kept = verifier("pencil", base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ=="))

    assert kept == (
        "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY="
        ":wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
    )


def test_a_user_acts_as_the_account_in_its_name() -> None:
    assert account_of("site_deploy_0123abcd") == "site_deploy"
