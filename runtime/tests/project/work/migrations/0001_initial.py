"""Create the table."""

from typing import ClassVar

from django.db import migrations, models


class Migration(migrations.Migration):
    """The only one."""

    initial = True
    operations: ClassVar = [
        migrations.CreateModel(
            name="Note",
            fields=[
                (
                    "id",
                    models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID"),
                ),
                ("text", models.CharField(max_length=80)),
            ],
        )
    ]
