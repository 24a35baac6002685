"""Calls go down, foreign keys point down, pure modules stay pure, and the web process stays light."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
from django.apps import apps
from django.db import models

from tests.house.tree import APPS, ROOT, dotted, modules

# From the story down to the ledger. Django's own apps lie below all of them.
ORDER = {"config": 4, "jobs": 3, "minting": 2, "provenance": 1, "receipts": 0}
DJANGOS_OWN = {"auth", "contenttypes", "sessions", "admin"}
HEAVY = ("torch", "diffusers", "transformers", "accelerate", "safetensors", "numpy", "PIL")
CHAIN = ("web3", "eth_account", "eth_abi")
# What one page or one deed needs, and imports when it comes to it: `manage.py check` and every start do without.
LATE = (
    "celery",
    "cryptography",  # signing credentials
    "django.test",  # drf-spectacular's generator brings it
    "drf_spectacular.openapi",
    "jinja2",
    "jobs.client.verify",  # a job's page in the console
    "jsonschema",
    "markdown_it",  # the documentation
    "nacl",
    "provenance.sign",
    "redis",
)
# Its enums are Django's choices; nothing else of Django is touched.
ENUMS_ALONE = {"jobs.states"}
# Pure by the design, whether or not they say so.
PURE = {
    "receipts.canonical",
    "receipts.checkpoint",
    "receipts.events",
    "receipts.keys",
    "receipts.merkle",
    "receipts.tiles",
    "receipts.witness_request",
    "receipts.committers.erc7053",
    "provenance.digests",
    "provenance.manifest",
    "provenance.verify",
    "minting.eip712",
    "minting.usage",
    "jobs.claims",
    "jobs.market.auction",
}
# One row a tenant can own names its tenant; these can't be owned by one, each for the reason beside it.
OWNED_BY_NO_TENANT = {
    "receipts.Tenant": "is the tenant",
    "receipts.Pending": "is its receipt's, until the leaf",
    "receipts.Uncommitted": "is its receipt's, until its commit is an intent",
    "receipts.Erasure": "is the house's act",
    "receipts.LogHead": "is the log's",
    "receipts.Bundle": "is the log's",
    "receipts.Checkpoint": "is the log's",
    "receipts.Commit": "is its checkpoint's or receipt's",
    "receipts.Cosignature": "is its checkpoint's",
    "receipts.WitnessAlarm": "is its checkpoint's",
    "receipts.WitnessStatus": "is the house's",
    "receipts.WitnessedLog": "is another house's",
    "receipts.WitnessedCheckpoint": "is another house's",
    "receipts.Misbehaviour": "is another house's",
    "receipts.TransactionHash": "is its transaction's",
    "receipts.NumbersAttempt": "is its order's",
    "receipts.NumbersPlace": "is the log's",
    "receipts.SenderStatus": "is the house's key's",
    "provenance.Blob": "is bytes, the same for whoever made them",
    "jobs.Attempt": "is its job's",
}


def run_python(code: str) -> str:
    """Run code in a fresh interpreter that knows no setting of this one."""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip()


def test_the_import_contracts_are_kept() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([linter], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:]


def upward(found: Iterable[type[models.Model]]) -> list[str]:
    """Name every relation that points to an app on the left of its own."""
    wrong = []
    for model in found:
        here = model._meta.app_label
        for field in model._meta.get_fields(include_hidden=True):
            if field.auto_created or not field.is_relation or field.related_model is None:
                continue
            there = field.related_model._meta.app_label
            fits = there in DJANGOS_OWN if there not in ORDER else here in DJANGOS_OWN or ORDER[there] <= ORDER[here]
            if not fits:
                wrong.append(f"{model._meta.label}.{field.name} -> {there}")
    return wrong


def test_foreign_keys_point_to_their_own_app_or_further_down() -> None:
    assert upward(apps.get_models(include_auto_created=True)) == []


def test_a_foreign_key_by_string_does_not_escape_the_rule() -> None:
    """import-linter does not see "jobs.Job"; this rule does."""

    class Climber(models.Model):
        job = models.ForeignKey("jobs.Job", on_delete=models.PROTECT)

        class Meta:
            app_label = "receipts"

        def __str__(self) -> str:
            return "climber"

    try:
        assert upward([Climber]) == ["receipts.Climber.job -> jobs"]
    finally:
        # The registry forgets what was only made up.
        del apps.all_models["receipts"]["climber"]
        apps.clear_cache()


def test_every_row_that_a_client_can_own_names_its_tenant() -> None:
    for model in apps.get_models():
        if model._meta.app_label in ORDER:
            named = any(field.name == "tenant" or field.name == "tenant_id" for field in model._meta.fields)
            assert named is not (model._meta.label in OWNED_BY_NO_TENANT), model._meta.label


def test_no_row_holds_a_float() -> None:
    for model in apps.get_models():
        for field in model._meta.get_fields():
            assert not isinstance(field, models.FloatField), f"{model._meta.label}.{field.name}"
            if isinstance(field, models.DecimalField):
                assert field.decimal_places == 0, f"{model._meta.label}.{field.name} counts the smallest unit"


def pure_modules() -> list[str]:
    """The modules whose first words call them pure."""
    found = []
    for path, tree in modules():
        if re.search(r"\bPure\b[.;,]|\bPure but\b", ast.get_docstring(tree) or ""):
            found.append(dotted(path))
    return sorted(set(found) - ENUMS_ALONE | PURE)


def test_what_calls_itself_pure_imports_neither_django_nor_a_chain_nor_a_model() -> None:
    names = pure_modules()
    assert len(names) > len(PURE), "modules that say so in their first words are held to it too"
    code = (
        "import sys, importlib\n"
        f"forbidden = {('django', 'rest_framework', 'celery', *CHAIN, 'torch', 'diffusers', 'c2pa')!r}\n"
        f"for name in {names!r}:\n"
        "    importlib.import_module(name)\n"
        "    print(*[f'{name} imports {other}' for other in forbidden if other in sys.modules], end='')\n"
    )
    assert run_python(code) == ""


@pytest.mark.parametrize("package", ["jobs.client", "jobs.runners"])
def test_what_runs_on_other_peoples_machines_knows_no_django(package: str) -> None:
    names = [
        dotted(path) for path, _ in modules("jobs") if dotted(path).startswith(package) and "models" not in path.parts
    ]
    assert len(names) > 2
    code = (
        "import sys, importlib\n"
        f"for name in {names!r}: importlib.import_module(name)\n"
        "forbidden = ('django', 'rest_framework', 'celery', 'psycopg', 'torch', 'web3')\n"
        "print(*[name for name in forbidden if name in sys.modules])"
    )
    assert run_python(code) == ""


def test_the_web_process_loads_neither_models_nor_a_chain_client() -> None:
    code = (
        "import sys, os\n"
        "os.environ['DJANGO_SETTINGS_MODULE'] = 'config.settings'\n"
        "import config.wsgi\n"
        "from django.urls import get_resolver\n"
        "get_resolver().url_patterns\n"
        f"print(*[name for name in {(*HEAVY, *CHAIN)!r} if name in sys.modules])"
    )
    assert run_python(code) == ""


def test_manage_py_check_loads_neither_models_nor_a_chain_client_nor_what_is_for_later(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code = (
        "import sys, os, time\n"
        "began = time.perf_counter()\n"
        "os.environ['DJANGO_SETTINGS_MODULE'] = 'config.settings'\n"
        "import django; django.setup()\n"
        "from django.core.management import call_command\n"
        "call_command('check')\n"
        "print(round(time.perf_counter() - began, 2), *[name for name in "
        f"{(*HEAVY, *CHAIN, *LATE, 'c2pa')!r} if name in sys.modules])"
    )
    seconds, *loaded = run_python(code).splitlines()[-1].split()
    with capsys.disabled():
        print(f"\nmanage.py check: {seconds} s inside the process (target: below 1 s on an idle machine)")
    assert loaded == []


def test_apps_stand_in_their_order_in_the_contract() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    assert f"layers = [{', '.join(repr(app).replace(chr(39), chr(34)) for app in APPS)}]" in text
