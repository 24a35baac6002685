"""Production's files agree with the code: every name is a setting, every command starts what exists."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from config import bootstrap

ROOT = Path(__file__).resolve().parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
DOCKERFILE = (ROOT / "config" / "Dockerfile").read_text()
SETTINGS = set(re.findall(r'env\.[a-z]+\(\s*"([A-Z0-9_]+)"', (ROOT / "config" / "settings.py").read_text()))
# Read beside settings.py: by the worker, by the model catalogue, and by settings.py itself before the others.
ELSEWHERE = {"TALLYSTICK_PROVIDER", "TALLYSTICK_MODELS", "TALLYSTICK_DATA_DIR", "DATABASE_OWNER_URL"}
# Read by docker-compose.yml and the role script alone.
OF_COMPOSE = {"POSTGRES_PASSWORD", "OWNER_PASSWORD", "APP_PASSWORD", "TRIAL_CHAIN"}
EXAMPLE = (ROOT / ".env.example").read_text()
OURS = ("web", "hub", "gpu", "beat", "found")


def example_names() -> list[str]:
    return re.findall(r"^#?([A-Z][A-Z0-9_]+)=", EXAMPLE, re.MULTILINE)


def test_the_services_are_those_of_the_house() -> None:
    assert set(COMPOSE["services"]) == {*OURS, "postgres", "redis", "chain"}


@pytest.mark.parametrize("name", OURS)
def test_a_service_is_told_nothing_that_no_code_reads(name: str) -> None:
    assert set(COMPOSE["services"][name]["environment"]) <= SETTINGS | ELSEWHERE


@pytest.mark.parametrize("name", ["web", "hub", "gpu", "beat"])
def test_no_serving_process_gets_a_password_that_can_rewrite_evidence(name: str) -> None:
    told = str(COMPOSE["services"][name]["environment"])
    assert "OWNER" not in told
    assert "POSTGRES_PASSWORD" not in told


@pytest.mark.parametrize("name", OURS)
def test_a_service_may_not_write_its_own_code_or_gain_rights(name: str) -> None:
    service = COMPOSE["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]


def test_only_the_founding_may_write_keys() -> None:
    writes = [name for name in OURS if "keys:/keys" in COMPOSE["services"][name]["volumes"]]
    assert writes == ["found"]


def test_only_the_web_server_is_reachable_and_from_this_machine_alone() -> None:
    published = {name: service["ports"] for name, service in COMPOSE["services"].items() if "ports" in service}
    assert published == {"web": ["127.0.0.1:8000:8000"]}


def test_every_setting_stands_in_the_example_once() -> None:
    names = example_names()
    assert sorted(names) == sorted(set(names))
    assert set(names) - ELSEWHERE - OF_COMPOSE <= SETTINGS, "the example names what no code reads"
    assert set(names) >= SETTINGS, "a setting is missing from .env.example"


def test_every_name_that_compose_asks_for_stands_in_the_example() -> None:
    asked = set(re.findall(r"\$\{([A-Z_]+)", (ROOT / "docker-compose.yml").read_text()))
    assert asked <= set(example_names())


def test_the_worker_listens_to_the_queue_of_its_provider() -> None:
    gpu = COMPOSE["services"]["gpu"]
    queue = gpu["command"][gpu["command"].index("-Q") + 1]
    assert queue == f"provider-{gpu['environment']['TALLYSTICK_PROVIDER']}"


def test_every_build_names_a_stage_of_the_dockerfile() -> None:
    stages = set(re.findall(r"^FROM \S+ AS (\S+)$", DOCKERFILE, re.MULTILINE))
    builds = {service["build"]["target"] for service in COMPOSE["services"].values() if "build" in service}
    assert builds <= stages


def test_what_the_dockerfile_copies_exists() -> None:
    copied = re.findall(r"^COPY (?!--from)(\S+) ", DOCKERFILE, re.MULTILINE)
    assert copied
    assert [source for source in copied if not (ROOT / source).exists()] == []


def test_the_image_does_not_run_as_root_and_takes_the_torch_that_set_up_takes() -> None:
    assert "USER tallystick" in DOCKERFILE
    assert bootstrap.TORCH in DOCKERFILE
