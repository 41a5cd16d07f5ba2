"""Note which entry of the schedule has sent a task."""

from typing import ClassVar

from django.db import migrations, models


class Migration(migrations.Migration):
    """A column that every row has at once, and an index of those that a schedule sent."""

    dependencies: ClassVar = [("celeriac_ledger", "0001_initial")]

    operations: ClassVar = [
        migrations.AddField(
            model_name="dispatch",
            name="entry",
            field=models.CharField(blank=True, db_default="", max_length=255),
        ),
        migrations.AddIndex(
            model_name="dispatch",
            index=models.Index(
                condition=models.Q(("entry", ""), _negated=True),
                fields=["entry", "-id"],
                name="celeriac_ledger_entry",
            ),
        ),
    ]
