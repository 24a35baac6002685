"""Orders on Numbers Protocol: the intent, every attempt, how far the log has been read."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('receipts', '0009_erasure'),
    ]

    operations = [
        migrations.CreateModel(
            name='NumbersPlace',
            fields=[
                ('network', models.CharField(choices=[('mainnet', 'Mainnet'), ('testnet', 'Testnet')], max_length=8, primary_key=True, serialize=False)),
                ('next_leaf', models.BigIntegerField()),
                ('waiting_reason', models.CharField(blank=True, help_text='why the queue waits, if it does', max_length=300)),
                ('turned_at', models.DateTimeField(blank=True, null=True)),
            ],
        ),
        migrations.CreateModel(
            name='NumbersOrder',
            fields=[
                ('id', models.BigAutoField(primary_key=True, serialize=False)),
                ('network', models.CharField(choices=[('mainnet', 'Mainnet'), ('testnet', 'Testnet')], max_length=8)),
                ('purpose', models.CharField(choices=[('register', 'Register'), ('commit', 'Commit')], max_length=8)),
                ('door', models.CharField(choices=[('assets', "the Capture API's assets"), ('commits', "the Capture API's commits"), ('chain', 'our own transaction')], max_length=8)),
                ('subject', models.CharField(help_text='the job', max_length=80)),
                ('asset', models.CharField(help_text='the NID of the asset that stands for the job there', max_length=59)),
                ('statement', models.TextField(help_text='the exact text that the author signed')),
                ('digest', models.CharField(help_text='SHA-256 of the statement: by this it is found again', max_length=64)),
                ('author', models.CharField(max_length=42)),
                ('file', models.BinaryField(help_text='what is registered; the asset tree where we send it ourselves')),
                ('payload', models.TextField(help_text="the request's fields or body, or commitData: made once, sent as they are")),
                ('state', models.CharField(choices=[('intended', 'Intended: written down; as far as can be told, nothing has been sent'), ('sent', 'Sent: a request is under way, or was taken and its transaction does not show yet'), ('unknown', 'Unknown: a request went out and nothing tells whether it took effect; it is looked for'), ('landed', "Landed: the asset's history or the chain shows it"), ('failed', 'Failed: refused for good')], default='intended', max_length=8)),
                ('reason', models.CharField(blank=True, help_text='why it failed or waits', max_length=300)),
                ('tries', models.IntegerField(default=0, help_text='looks and sends since its last progress: how long it backs off')),
                ('due_at', models.DateTimeField(help_text='when it is looked at again')),
                ('intended_at', models.DateTimeField(auto_now_add=True)),
                ('sent_at', models.DateTimeField(blank=True, help_text='when the newest request went out', null=True)),
                ('accepted_at', models.DateTimeField(blank=True, help_text='when the service was known to have taken it', null=True)),
                ('landed_at', models.DateTimeField(blank=True, null=True)),
                ('workflow_id', models.CharField(blank=True, help_text='work behind a registration; no transaction', max_length=64)),
                ('service_order', models.CharField(blank=True, help_text="the service's own order_id", max_length=200)),
                ('asset_tree_cid', models.CharField(blank=True, max_length=100)),
                ('tx_hash', models.CharField(blank=True, max_length=66)),
                ('verdict', models.CharField(choices=[('unknown', 'Unknown'), ('holds', 'Holds'), ('broken', 'Broken')], default='unknown', max_length=7)),
                ('verdict_detail', models.CharField(blank=True, max_length=300)),
                ('checked_at', models.DateTimeField(blank=True, null=True)),
                ('receipt', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, to='receipts.receipt')),
                ('tenant', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, to='receipts.tenant')),
                ('transaction', models.OneToOneField(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='numbers_order', to='receipts.chaintransaction')),
            ],
            options={
                'ordering': ['-id'],
            },
        ),
        migrations.CreateModel(
            name='NumbersAttempt',
            fields=[
                ('id', models.BigAutoField(primary_key=True, serialize=False)),
                ('act', models.CharField(choices=[('look', 'Look'), ('send', 'Send'), ('check', 'Check')], max_length=5)),
                ('begun_at', models.DateTimeField(auto_now_add=True)),
                ('ended_at', models.DateTimeField(blank=True, null=True)),
                ('outcome', models.CharField(blank=True, max_length=300)),
                ('order', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='attempts', to='receipts.numbersorder')),
            ],
            options={
                'ordering': ['id'],
            },
        ),
        migrations.AddIndex(
            model_name='numbersorder',
            index=models.Index(condition=models.Q(('state__in', ['intended', 'sent', 'unknown']), models.Q(('state', 'landed'), ('verdict', 'unknown')), _connector='OR'), fields=['due_at'], name='numbers_due'),
        ),
        migrations.AddIndex(
            model_name='numbersorder',
            index=models.Index(fields=['asset', 'id'], name='numbers_by_asset'),
        ),
        migrations.AddIndex(
            model_name='numbersorder',
            index=models.Index(fields=['subject'], name='numbers_by_subject'),
        ),
        migrations.AddIndex(
            model_name='numbersorder',
            index=models.Index(fields=['tx_hash'], name='numbers_by_transaction'),
        ),
        migrations.AddConstraint(
            model_name='numbersorder',
            constraint=models.UniqueConstraint(fields=('network', 'receipt'), name='one_order_a_receipt'),
        ),
        migrations.AddConstraint(
            model_name='numbersorder',
            constraint=models.UniqueConstraint(fields=('digest',), name='one_order_a_statement'),
        ),
        migrations.AddConstraint(
            model_name='numbersorder',
            constraint=models.UniqueConstraint(condition=models.Q(('purpose', 'register')), fields=('network', 'subject'), name='one_asset_a_job'),
        ),
        migrations.AddIndex(
            model_name='numbersattempt',
            index=models.Index(condition=models.Q(('act', 'send')), fields=['begun_at'], name='numbers_sends'),
        ),
    ]
