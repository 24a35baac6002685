"""Give the application's database role what it needs, and no right to change or remove evidence.

Tables made by later migrations get the same rights by default; a migration that adds evidence revokes
UPDATE, DELETE and TRUNCATE on it, as this one does.
"""

from django.conf import settings
from django.db import migrations

EVIDENCE = ["receipts_receipt", "receipts_bundle", "receipts_checkpoint"]
NEVER_REMOVED = ["receipts_chaintransaction", "receipts_transactionhash", "receipts_commit", "minting_usage"]


def grant(apps, schema_editor):
    role = schema_editor.quote_name(settings.DATABASE_APP_ROLE)
    with schema_editor.connection.cursor() as cursor:
        cursor.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [settings.DATABASE_APP_ROLE])
        if cursor.fetchone() is None:
            # One role for everything is a choice of the operator; the triggers on evidence hold all the same.
            return
        everything = "SELECT, INSERT, UPDATE, DELETE"
        cursor.execute(f"GRANT USAGE ON SCHEMA public TO {role}")
        cursor.execute(f"GRANT {everything} ON ALL TABLES IN SCHEMA public TO {role}")
        cursor.execute(f"GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO {role}")
        cursor.execute(f"ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT {everything} ON TABLES TO {role}")
        cursor.execute(f"ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT USAGE, SELECT ON SEQUENCES TO {role}")
        for table in EVIDENCE:
            cursor.execute(f"REVOKE UPDATE, DELETE, TRUNCATE ON {table} FROM {role}")
        for table in NEVER_REMOVED:
            cursor.execute(f"REVOKE DELETE, TRUNCATE ON {table} FROM {role}")
        cursor.execute(f"REVOKE INSERT, UPDATE, DELETE ON django_migrations FROM {role}")


class Migration(migrations.Migration):
    dependencies = [
        ("jobs", "0001_initial"),
        ("minting", "0001_initial"),
        ("provenance", "0001_initial"),
        ("receipts", "0002_guard"),
        ("sessions", "0001_initial"),
    ]
    operations = [migrations.RunPython(grant, migrations.RunPython.noop)]
