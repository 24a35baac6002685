"""Receipts that are committed by themselves, what a tenant's commits may cost in a day, why a queue waits."""

import django.db.models.deletion
from django.db import migrations, models
from django.db.models import Q

WAITING = [
    ("no-key", "The key that pays can't be used"),
    ("node", "The node can't be reached, or does not answer as it should"),
    ("wrong-chain", "The node serves another chain"),
    ("nonce", "The node's count of our transactions can't be right, or one of them can't be told of"),
    ("no-funds", "The sender can't pay"),
    ("fee-cap", "The chain asks for more than CHAIN_FEE_CAP_GWEI"),
    ("paused", "A contract is paused"),
    ("gas-budget", "A tenant's COMMIT_GAS_DAILY is used up until the next day"),
]


class Migration(migrations.Migration):
    dependencies = [("receipts", "0004_witnesses")]
    operations = [
        migrations.CreateModel(
            name="Uncommitted",
            fields=[
                (
                    "receipt",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.PROTECT,
                        primary_key=True,
                        serialize=False,
                        to="receipts.receipt",
                    ),
                ),
            ],
            options={"verbose_name_plural": "uncommitted"},
        ),
        migrations.AddField(
            "thread",
            "commit_each",
            models.BooleanField(
                db_default=False,
                help_text="whether each of its receipts is committed by itself; decided with the first one",
            ),
        ),
        migrations.AddField(
            "senderstatus", "waiting_for", models.CharField(blank=True, choices=WAITING, default="", max_length=12),
            preserve_default=False,
        ),
        migrations.AddIndex(
            "chaintransaction",
            models.Index(fields=["sent_at", "tenant"], condition=Q(purpose="commit"), name="commit_gas_of_a_day"),
        ),
        migrations.AddIndex(
            "chaintransaction",
            models.Index(
                fields=["sender", "block_number"], condition=Q(state="final"), name="transaction_final_by_block"
            ),
        ),
        migrations.AddIndex(
            "chaintransaction",
            models.Index(fields=["id"], condition=Q(state="replaced"), name="transaction_replaced"),
        ),
    ]
