"""Create the tables."""

from typing import ClassVar

import django.utils.timezone
from django.db import migrations, models


class Migration(migrations.Migration):
    """The first one."""

    initial = True

    dependencies: ClassVar[list[tuple[str, str]]] = []

    operations: ClassVar = [
        migrations.CreateModel(
            name="Counter",
            fields=[
                ("name", models.CharField(max_length=40, primary_key=True, serialize=False)),
                ("value", models.BigIntegerField(default=0)),
                ("changed_at", models.DateTimeField(default=django.utils.timezone.now)),
            ],
        ),
        migrations.CreateModel(
            name="Dispatch",
            fields=[
                (
                    "id",
                    models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID"),
                ),
                ("task_id", models.CharField(max_length=255)),
                ("publication", models.CharField(blank=True, max_length=32)),
                ("retries", models.PositiveIntegerField(default=0)),
                ("name", models.CharField(max_length=255)),
                ("args", models.TextField(null=True)),
                ("kwargs", models.TextField(null=True)),
                ("queue", models.CharField(blank=True, max_length=255)),
                ("priority", models.PositiveSmallIntegerField(null=True)),
                ("eta", models.DateTimeField(null=True)),
                ("expires", models.DateTimeField(null=True)),
                ("parent", models.CharField(blank=True, max_length=255)),
                ("sent_by", models.CharField(blank=True, max_length=150)),
                ("sent_at", models.DateTimeField(default=django.utils.timezone.now)),
                ("started_at", models.DateTimeField(null=True)),
                ("worker", models.CharField(blank=True, max_length=255)),
                ("starts", models.PositiveIntegerField(default=0)),
                ("overdue_at", models.DateTimeField(null=True)),
                ("ended_at", models.DateTimeField(null=True)),
            ],
            options={
                "verbose_name_plural": "dispatches",
                "ordering": ("-pk",),
                "indexes": [
                    models.Index(fields=["name", "-id"], name="celeriac_ledger_name"),
                    models.Index(fields=["sent_at"], name="celeriac_ledger_sent_at"),
                    models.Index(
                        condition=models.Q(("ended_at", None)),
                        fields=["overdue_at"],
                        name="celeriac_ledger_open",
                    ),
                    models.Index(
                        condition=models.Q(("starts__gt", 1)),
                        fields=["starts"],
                        name="celeriac_ledger_doubled",
                    ),
                    models.Index(
                        condition=models.Q(("parent", ""), _negated=True),
                        fields=["parent"],
                        name="celeriac_ledger_parent",
                    ),
                ],
                "constraints": [models.UniqueConstraint(fields=("task_id",), name="celeriac_ledger_task_id")],
            },
        ),
    ]
