"""The post whose views the periodic task counts."""

from typing import Any

from django.db import migrations


def create_first_post(apps: Any, schema_editor: Any) -> None:
    """Create a post in an empty table, where the database gives it the number 1.

    Given by us, PostgreSQL's sequence would stay behind, and the next post be refused as a duplicate.
    """
    post = apps.get_model("app", "Post")
    if not post.objects.exists():
        post.objects.create(title="The first post", text="A periodic task counts one view of it every minute.")


class Migration(migrations.Migration):
    """Nothing to undo: the table goes with the migration before."""

    dependencies = (("app", "0001_initial"),)
    operations = (migrations.RunPython(create_first_post, migrations.RunPython.noop),)
