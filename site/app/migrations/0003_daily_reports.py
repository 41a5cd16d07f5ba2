"""The daily reports."""

from django.db import migrations, models


class Migration(migrations.Migration):
    """Create the table."""

    dependencies = (("app", "0002_first_post"),)
    operations = (
        migrations.CreateModel(
            name="DailyReport",
            fields=[
                ("id", models.BigAutoField(primary_key=True, auto_created=True, serialize=False, verbose_name="ID")),
                ("day", models.DateField(unique=True)),
                ("text", models.TextField()),
                ("created_at", models.DateTimeField(auto_now_add=True)),
            ],
            options={"ordering": ("-day",)},
        ),
    )
