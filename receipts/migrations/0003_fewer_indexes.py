"""Every receipt pays for each index. These serve nobody: text is looked up whole, and by tenant through a longer key."""

import django.db.models.deletion
from django.db import migrations, models

LIKE = [
    ("receipts_receipt_nid_051c5767_like", "receipts_receipt (nid varchar_pattern_ops)"),
    ("receipts_thread_subject_d682f20f_like", "receipts_thread (subject varchar_pattern_ops)"),
]


class Migration(migrations.Migration):
    dependencies = [("receipts", "0002_guard")]
    operations = [
        migrations.AlterField(
            "receipt",
            "tenant",
            models.ForeignKey(
                db_index=False, null=True, on_delete=django.db.models.deletion.PROTECT, to="receipts.tenant"
            ),
        ),
        migrations.AlterField(
            "thread",
            "tenant",
            models.ForeignKey(
                db_index=False, null=True, on_delete=django.db.models.deletion.PROTECT, to="receipts.tenant"
            ),
        ),
        *(migrations.RunSQL(f"DROP INDEX IF EXISTS {name};", f"CREATE INDEX {name} ON {on};") for name, on in LIKE),
    ]
