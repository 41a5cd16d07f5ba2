"""What the code last said of the schedule, and the tokens of the API."""

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


def _key() -> models.BigAutoField:  # type: ignore[type-arg]  # takes none when it runs
    return models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")


class Migration(migrations.Migration):
    """Create the two tables."""

    dependencies = (
        ("app", "0003_runs"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    )

    operations = (
        migrations.CreateModel(
            name="ScheduleDefault",
            fields=[
                ("id", _key()),
                ("name", models.CharField(max_length=200, unique=True)),
                ("definition", models.JSONField()),
                ("removed", models.BooleanField(default=False)),
                ("disabled", models.BooleanField(default=False)),
            ],
        ),
        migrations.CreateModel(
            name="ApiToken",
            fields=[
                ("id", _key()),
                ("purpose", models.CharField(max_length=200)),
                ("digest", models.CharField(editable=False, max_length=64)),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                (
                    "user",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to=settings.AUTH_USER_MODEL
                    ),
                ),
            ],
            options={"verbose_name": "API token", "ordering": ("-pk",)},
        ),
    )
