"""A new job's row names what is known of it; the database fills in the rest."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('jobs', '0003_fewer_indexes'),
    ]

    operations = [
        migrations.AlterField(
            model_name='job',
            name='attempt',
            field=models.IntegerField(db_default=0, default=0, help_text='how often it was leased'),
        ),
        migrations.AlterField(
            model_name='job',
            name='client_key',
            field=models.CharField(blank=True, db_default='', default='', help_text='who signed the request; empty if unsigned', max_length=66),
        ),
        migrations.AlterField(
            model_name='job',
            name='evidence',
            field=models.CharField(choices=[('none', 'None: the job has no output yet'), ('credential', 'Credential due'), ('usage', 'Usage receipt due'), ('attestation', 'Attestation due'), ('mint', 'Mint due'), ('complete', 'Complete')], db_default='none', default='none', max_length=12),
        ),
        migrations.AlterField(
            model_name='job',
            name='evidence_reason',
            field=models.CharField(blank=True, db_default='', default='', help_text='why its evidence waits, if it does', max_length=300),
        ),
        migrations.AlterField(
            model_name='job',
            name='evidence_tries',
            field=models.IntegerField(db_default=0, default=0),
        ),
        migrations.AlterField(
            model_name='job',
            name='failure_class',
            field=models.CharField(blank=True, db_default='', default='', max_length=20),
        ),
        migrations.AlterField(
            model_name='job',
            name='failure_detail',
            field=models.TextField(blank=True, db_default='', default='', help_text='private: parties and auditors only'),
        ),
        migrations.AlterField(
            model_name='job',
            name='origin',
            field=models.CharField(choices=[('hosted', 'Hosted: our fleet ran it'), ('reported', 'Reported: another cluster says so'), ('simulated', 'Simulated: nothing was computed')], db_default='hosted', default='hosted', max_length=10),
        ),
        migrations.AlterField(
            model_name='job',
            name='priority',
            field=models.SmallIntegerField(db_default=0, default=0),
        ),
        migrations.AlterField(
            model_name='job',
            name='state',
            field=models.CharField(choices=[('submitted', 'Submitted: waiting for a provider'), ('scheduled', 'Scheduled: leased to a provider that has not started'), ('running', 'Running: a worker holds the lease and reports'), ('completed', 'Completed: its output is kept'), ('failed', 'Failed: it will not be tried again'), ('cancelled', 'Cancelled: its client or an operator called it off')], db_default='submitted', default='submitted', max_length=10),
        ),
        migrations.AlterField(
            model_name='job',
            name='step',
            field=models.IntegerField(db_default=0, default=0),
        ),
        migrations.AlterField(
            model_name='job',
            name='steps',
            field=models.IntegerField(db_default=0, default=0),
        ),
    ]
