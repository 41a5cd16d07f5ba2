"""A token of the API may have an end."""

from django.db import migrations, models


class Migration(migrations.Migration):
    """Add the column; tokens that are there have none."""

    dependencies = (("app", "0005_sample"),)

    operations = (
        migrations.AddField(
            model_name="apitoken",
            name="expires_at",
            field=models.DateTimeField(blank=True, null=True),
        ),
    )
