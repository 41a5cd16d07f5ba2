"""Note which entry of the schedule has sent a task."""

from typing import ClassVar

from django.db import migrations, models


class Migration(migrations.Migration):
    """A column that old rows and old releases leave empty, and an index of those that a schedule sent."""

    dependencies: ClassVar = [("celeriac_ledger", "0001_initial")]

    operations: ClassVar = [
        migrations.AddField(
            model_name="dispatch",
            name="entry",
            field=models.CharField(blank=True, max_length=255, null=True),
        ),
        migrations.AddIndex(
            model_name="dispatch",
            index=models.Index(
                condition=models.Q(("entry__gt", "")),
                fields=["entry", "-id"],
                name="celeriac_ledger_entry",
            ),
        ),
    ]
