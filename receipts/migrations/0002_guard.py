"""Evidence is only ever added: the database itself refuses to change or remove it."""

from django.db import migrations

EVIDENCE = ["receipts_receipt", "receipts_bundle", "receipts_checkpoint"]

REFUSE = """
CREATE FUNCTION tallystick_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION '% is evidence: rows are added, never changed or removed', TG_TABLE_NAME
    USING ERRCODE = 'integrity_constraint_violation';
END $$;
"""


def guard(table):
    return [
        f"CREATE TRIGGER {table}_kept BEFORE UPDATE OR DELETE ON {table} "
        f"FOR EACH ROW EXECUTE FUNCTION tallystick_refuse_change();",
        f"CREATE TRIGGER {table}_whole BEFORE TRUNCATE ON {table} "
        f"FOR EACH STATEMENT EXECUTE FUNCTION tallystick_refuse_change();",
    ]


def unguard(table):
    return [f"DROP TRIGGER {table}_kept ON {table};", f"DROP TRIGGER {table}_whole ON {table};"]


class Migration(migrations.Migration):
    dependencies = [("receipts", "0001_initial")]
    operations = [
        migrations.RunSQL(REFUSE, "DROP FUNCTION tallystick_refuse_change();"),
        *(migrations.RunSQL(guard(table), unguard(table)) for table in EVIDENCE),
    ]
