"""The table of executions."""

import django.utils.timezone
from django.db import migrations, models


class Migration(migrations.Migration):
    """Create it."""

    initial = True
    dependencies = ()
    operations = (
        migrations.CreateModel(
            name="Run",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("task", models.CharField(db_index=True, max_length=64)),
                ("name", models.CharField(db_index=True, max_length=64)),
                ("release", models.CharField(max_length=64)),
                ("marker", models.CharField(max_length=64)),
                ("at", models.DateTimeField(default=django.utils.timezone.now)),
            ],
        ),
    )
