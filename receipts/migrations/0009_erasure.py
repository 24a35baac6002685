"""Bytes may be erased by a logged act. The guard lets exactly that pass, and the application's role never may."""

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

GUARD = """
CREATE FUNCTION tallystick_keep_receipt() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'UPDATE' AND length(NEW.body) = 0 AND to_jsonb(NEW) - 'body' = to_jsonb(OLD) - 'body'
     AND EXISTS (SELECT FROM receipts_erasure WHERE receipt_id = OLD.id) THEN
    RETURN NEW;
  END IF;
  RAISE EXCEPTION '% is evidence: rows are added, never changed or removed', TG_TABLE_NAME
    USING ERRCODE = 'integrity_constraint_violation';
END $$;
DROP TRIGGER receipts_receipt_kept ON receipts_receipt;
CREATE TRIGGER receipts_receipt_kept BEFORE UPDATE OR DELETE ON receipts_receipt
  FOR EACH ROW EXECUTE FUNCTION tallystick_keep_receipt();
CREATE TRIGGER receipts_erasure_kept BEFORE UPDATE OR DELETE ON receipts_erasure
  FOR EACH ROW EXECUTE FUNCTION tallystick_refuse_change();
CREATE TRIGGER receipts_erasure_whole BEFORE TRUNCATE ON receipts_erasure
  FOR EACH STATEMENT EXECUTE FUNCTION tallystick_refuse_change();
"""
UNGUARD = """
DROP TRIGGER receipts_erasure_whole ON receipts_erasure;
DROP TRIGGER receipts_erasure_kept ON receipts_erasure;
DROP TRIGGER receipts_receipt_kept ON receipts_receipt;
CREATE TRIGGER receipts_receipt_kept BEFORE UPDATE OR DELETE ON receipts_receipt
  FOR EACH ROW EXECUTE FUNCTION tallystick_refuse_change();
DROP FUNCTION tallystick_keep_receipt();
"""


def revoke(apps, schema_editor):
    role = schema_editor.quote_name(settings.DATABASE_APP_ROLE)
    with schema_editor.connection.cursor() as cursor:
        cursor.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [settings.DATABASE_APP_ROLE])
        if cursor.fetchone() is not None:
            cursor.execute(f"REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON receipts_erasure FROM {role}")
            # On a first start the rights of all tables come later; here they may be there already.
            cursor.execute(f"GRANT SELECT ON receipts_erasure TO {role}")


class Migration(migrations.Migration):
    dependencies = [("receipts", "0005_commit_each")]
    operations = [
        migrations.CreateModel(
            name="Erasure",
            fields=[
                (
                    "nid",
                    models.CharField(
                        help_text="of the bytes: a receipt's, or an artifact's",
                        max_length=59,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                (
                    "sha256",
                    models.CharField(
                        help_text="the digest inside the NID, as blobs are named", max_length=64, unique=True
                    ),
                ),
                (
                    "reason",
                    models.CharField(
                        choices=[("law", "by law"), ("policy", "by policy"), ("owner", "by their owner's wish")],
                        max_length=6,
                    ),
                ),
                ("erased_at", models.DateTimeField()),
                (
                    "act",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.PROTECT, related_name="+", to="receipts.receipt"
                    ),
                ),
                (
                    "receipt",
                    models.OneToOneField(
                        help_text="if it was one",
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="erasure",
                        to="receipts.receipt",
                    ),
                ),
            ],
            options={"ordering": ["-erased_at"]},
        ),
        migrations.RunSQL(GUARD, UNGUARD),
        migrations.RunPython(revoke, migrations.RunPython.noop),
    ]
