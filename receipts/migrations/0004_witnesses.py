"""Witnesses: evidence is only ever added here too, and what was cosigned of another's log never goes back."""

import django.contrib.postgres.fields
import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

EVIDENCE = [
    "receipts_cosignature",
    "receipts_witnessalarm",
    "receipts_witnessedcheckpoint",
    "receipts_misbehaviour",
]
NEVER_REMOVED = ["receipts_witnessedlog"]

ONLY_GROWS = """
CREATE FUNCTION tallystick_refuse_going_back() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NEW.size < OLD.size OR (NEW.size = OLD.size AND NEW.root <> OLD.root) OR NEW.origin <> OLD.origin THEN
    RAISE EXCEPTION '% was cosigned at % leaves: a witness never goes back', OLD.origin, OLD.size
      USING ERRCODE = 'integrity_constraint_violation';
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER receipts_witnessedlog_grows BEFORE UPDATE ON receipts_witnessedlog
  FOR EACH ROW EXECUTE FUNCTION tallystick_refuse_going_back();
CREATE TRIGGER receipts_witnessedlog_stays BEFORE DELETE ON receipts_witnessedlog
  FOR EACH ROW EXECUTE FUNCTION tallystick_refuse_change();
"""
MAY_GO_BACK = """
DROP TRIGGER receipts_witnessedlog_grows ON receipts_witnessedlog;
DROP TRIGGER receipts_witnessedlog_stays ON receipts_witnessedlog;
DROP FUNCTION tallystick_refuse_going_back();
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


def revoke(apps, schema_editor):
    role = schema_editor.quote_name(settings.DATABASE_APP_ROLE)
    with schema_editor.connection.cursor() as cursor:
        cursor.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [settings.DATABASE_APP_ROLE])
        if cursor.fetchone() is None:
            return
        for table in EVIDENCE:
            cursor.execute(f"REVOKE UPDATE, DELETE, TRUNCATE ON {table} FROM {role}")
        for table in NEVER_REMOVED:
            cursor.execute(f"REVOKE DELETE, TRUNCATE ON {table} FROM {role}")


class Migration(migrations.Migration):
    # The rights that are taken here are given there, to all tables there are then and later.
    dependencies = [("receipts", "0003_fewer_indexes"), ("jobs", "0002_rights")]
    operations = [
        migrations.CreateModel(
            name='WitnessedLog',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('origin', models.CharField(max_length=200, unique=True)),
                ('vkeys', django.contrib.postgres.fields.ArrayField(base_field=models.CharField(max_length=300), help_text="the keys that sign this log's checkpoints", size=None)),
                ('url', models.CharField(blank=True, help_text='where people find that house', max_length=300)),
                ('watched', models.BooleanField(default=True)),
                ('size', models.BigIntegerField(default=0)),
                ('root', models.BinaryField()),
                ('added_at', models.DateTimeField(auto_now_add=True)),
            ],
            options={
                'verbose_name': 'witnessed log',
                'ordering': ['origin'],
            },
        ),
        migrations.CreateModel(
            name='WitnessStatus',
            fields=[
                ('vkey', models.CharField(max_length=300, primary_key=True, serialize=False)),
                ('failures', models.IntegerField(default=0, help_text='in a row')),
                ('ask_after', models.DateTimeField()),
                ('claimed_until', models.DateTimeField(help_text='somebody is asking it; ends by itself after a crash', null=True)),
                ('told', models.TextField(blank=True, help_text='the last answer, in our words')),
                ('told_at', models.DateTimeField()),
            ],
            options={
                'verbose_name_plural': 'witness status',
            },
        ),
        migrations.CreateModel(
            name='Cosignature',
            fields=[
                ('id', models.BigAutoField(primary_key=True, serialize=False)),
                ('vkey', models.CharField(max_length=300)),
                ('line', models.TextField(help_text='the signature line, with its newline')),
                ('signed_at', models.DateTimeField(help_text="by the witness's clock")),
                ('received_at', models.DateTimeField(help_text="by the database's clock")),
                ('checkpoint', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='cosignatures', to='receipts.checkpoint')),
            ],
            options={
                'ordering': ['id'],
                'constraints': [models.UniqueConstraint(fields=('checkpoint', 'vkey'), name='one_cosignature_a_witness')],
            },
        ),
        migrations.CreateModel(
            name='WitnessAlarm',
            fields=[
                ('id', models.BigAutoField(primary_key=True, serialize=False)),
                ('vkey', models.CharField(max_length=300)),
                ('kind', models.CharField(choices=[('refused', 'It finds that our checkpoint does not go on from an earlier one'), ('ahead', 'It has cosigned more leaves than we have'), ('went-back', 'It forgot what it had cosigned'), ('bad-cosignature', 'Its cosignature does not fit')], max_length=15)),
                ('status', models.IntegerField(help_text="HTTP's")),
                ('answer', models.TextField(help_text='what it said, cut to a page')),
                ('seen_at', models.DateTimeField(help_text="by the database's clock")),
                ('checkpoint', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='alarms', to='receipts.checkpoint')),
            ],
            options={
                'ordering': ['-id'],
                'constraints': [models.UniqueConstraint(fields=('checkpoint', 'vkey', 'kind'), name='one_alarm_a_kind')],
            },
        ),
        migrations.CreateModel(
            name='WitnessedCheckpoint',
            fields=[
                ('id', models.BigAutoField(primary_key=True, serialize=False)),
                ('size', models.BigIntegerField()),
                ('root', models.BinaryField()),
                ('note', models.TextField(help_text='the note as its log signed it')),
                ('cosigned_at', models.DateTimeField(help_text="by the database's clock; the cosignature tells the same second")),
                ('log', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='cosigned', to='receipts.witnessedlog')),
            ],
            options={
                'verbose_name': 'witnessed checkpoint',
                'ordering': ['-id'],
                'constraints': [models.UniqueConstraint(fields=('log', 'size'), name='one_root_a_size')],
            },
        ),
        migrations.CreateModel(
            name='Misbehaviour',
            fields=[
                ('id', models.BigAutoField(primary_key=True, serialize=False)),
                ('kind', models.CharField(choices=[('fork', 'Two roots for one size'), ('bad-proof', 'No proof that it only grew')], max_length=9)),
                ('size', models.BigIntegerField()),
                ('root', models.BinaryField()),
                ('note', models.TextField(help_text='the checkpoint that was refused, as its log signed it')),
                ('old_size', models.BigIntegerField(help_text='from which size the proof was said to lead')),
                ('proof', django.contrib.postgres.fields.ArrayField(base_field=models.BinaryField(), help_text='the hashes that came as proof', size=None)),
                ('cosigned_note', models.TextField(help_text='the checkpoint that was cosigned before, as its log signed it')),
                ('reason', models.TextField()),
                ('seen_at', models.DateTimeField(help_text="by the database's clock")),
                ('log', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='misbehaviours', to='receipts.witnessedlog')),
            ],
            options={
                'ordering': ['-id'],
                'constraints': [models.UniqueConstraint(fields=('log', 'kind', 'size', 'root'), name='one_row_a_misbehaviour')],
            },
        ),
        *(migrations.RunSQL(guard(table), unguard(table)) for table in EVIDENCE),
        migrations.RunSQL(ONLY_GROWS, MAY_GO_BACK),
        migrations.RunPython(revoke, migrations.RunPython.noop),
    ]
