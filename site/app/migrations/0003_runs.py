"""What was revoked, and the daily reports."""

import django.utils.timezone
from django.db import migrations, models


def _key() -> models.BigAutoField:  # type: ignore[type-arg]  # takes none when it runs
    return models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")


class Migration(migrations.Migration):
    """Create the two tables."""

    dependencies = (("app", "0002_first_post"),)

    operations = (
        migrations.CreateModel(
            name="Revocation",
            fields=[
                ("id", _key()),
                ("task_id", models.CharField(max_length=255, unique=True)),
                ("terminate", models.BooleanField(default=False)),
                ("revoked_by", models.CharField(blank=True, max_length=150)),
                ("revoked_at", models.DateTimeField(db_index=True, default=django.utils.timezone.now)),
            ],
        ),
        migrations.CreateModel(
            name="DailyReport",
            fields=[
                ("id", _key()),
                ("day", models.DateField(unique=True)),
                ("text", models.TextField()),
                ("created_at", models.DateTimeField(auto_now_add=True)),
            ],
            options={"ordering": ("-day",)},
        ),
    )
