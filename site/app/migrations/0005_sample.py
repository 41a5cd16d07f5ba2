"""What the graphs are drawn from."""

from django.db import migrations, models


class Migration(migrations.Migration):
    """Create the table."""

    dependencies = (("app", "0004_schedule_defaults_and_tokens"),)

    operations = (
        migrations.CreateModel(
            name="Sample",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("minute", models.DateTimeField()),
                ("series", models.CharField(max_length=255)),
                ("value", models.FloatField()),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(fields=("minute", "series"), name="app_sample_once_a_minute"),
                ],
            },
        ),
    )
