"""Every job pays for each index. These serve nobody: text is looked up whole, and by tenant through a longer key."""

import django.db.models.deletion
from django.db import migrations, models

LIKE = [
    ("jobs_job_job_id_37102441_like", "jobs_job (job_id varchar_pattern_ops)"),
    ("jobs_job_nid_2ce3c7d1_like", "jobs_job (nid varchar_pattern_ops)"),
]


class Migration(migrations.Migration):
    dependencies = [("jobs", "0002_rights"), ("receipts", "0003_fewer_indexes")]
    operations = [
        migrations.AlterField(
            "job",
            "tenant",
            models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, to="receipts.tenant"),
        ),
        *(migrations.RunSQL(f"DROP INDEX IF EXISTS {name};", f"CREATE INDEX {name} ON {on};") for name, on in LIKE),
    ]
