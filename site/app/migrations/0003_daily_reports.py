"""The daily reports."""

from django.db import migrations, models


def _key() -> models.BigAutoField:  # type: ignore[type-arg]  # takes none when it runs
    return models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")


class Migration(migrations.Migration):
    """Create the table."""

    dependencies = (("app", "0002_first_post"),)

    operations = (
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
