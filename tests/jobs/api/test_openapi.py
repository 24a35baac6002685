"""The API describes itself: OpenAPI 3.1 for programs, pages for people."""

import json
import re
from typing import Any

import pytest
from django.core.management import call_command
from django.test import Client
from drf_spectacular.validation import validate_schema
from jsonschema import Draft202012Validator

from jobs.api.request_schema import JOB_REQUEST
from jobs.models import User
from jobs.runners import RUNNERS
from tests.jobs.api.cast import CIRCLE, Program, person
from tests.jobs.api.test_submitting import BAD_FIELDS


@pytest.fixture(scope="module")
def described() -> dict[str, Any]:
    answer = Client().get("/api/v1/openapi.json")
    assert answer.status_code == 200, answer.content[:500]
    told: dict[str, Any] = json.loads(answer.content)
    return told


def test_the_description_is_valid_openapi_31(described: dict[str, Any]) -> None:
    assert described["openapi"].startswith("3.1")
    validate_schema(described)  # type: ignore[no-untyped-call]  # drf-spectacular is untyped


def test_making_the_description_warns_of_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    call_command("spectacular", "--fail-on-warn", "--file", "/dev/null")
    assert "Warning" not in capsys.readouterr().err


def test_every_address_is_told_once(described: dict[str, Any]) -> None:
    assert set(described["paths"]) == {
        "/api/v1/jobs",
        "/api/v1/jobs/{job_id}",
        "/api/v1/jobs/{job_id}/artifact",
        "/api/v1/jobs/{job_id}/cancel",
        "/api/v1/jobs/{job_id}/receipts",
        "/api/v1/jobs/{job_id}/tally",
        "/api/v1/receipts/{nid}",
        "/api/v1/receipts/{nid}.tlog-proof",
        "/api/v1/log/proof",
        "/api/v1/log/consistency",
        "/api/v1/providers",
        "/api/v1/health",
    }


def test_each_kind_of_work_has_its_inputs_described(described: dict[str, Any]) -> None:
    body = described["paths"]["/api/v1/jobs"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert [one["properties"]["kind"]["const"] for one in body["oneOf"]] == list(RUNNERS)
    for one, spec in zip(body["oneOf"], RUNNERS.values(), strict=True):
        assert one["properties"]["inputs"] == spec.schema.json_schema()


def test_the_description_of_a_request_takes_what_the_api_takes() -> None:
    Draft202012Validator(JOB_REQUEST).validate(CIRCLE)


# A shape can't say which models and characters are known, nor which fields come together.
BEYOND_A_SHAPE = ("model", "claim")


@pytest.mark.parametrize(
    "body",
    [body for body, field, rule in BAD_FIELDS if field not in BEYOND_A_SHAPE and "control characters" not in rule],
)
def test_the_description_of_a_request_refuses_what_the_api_refuses(body: Any) -> None:
    assert not Draft202012Validator(JOB_REQUEST).is_valid(body)


def test_keys_are_described_as_bearers(described: dict[str, Any]) -> None:
    assert described["components"]["securitySchemes"]["apiKey"]["scheme"] == "bearer"
    assert described["paths"]["/api/v1/health"]["get"].get("security", [{}]) == [{}]


def test_what_is_shown_is_what_is_described(ada: Program, described: dict[str, Any]) -> None:
    schemas = described["components"]["schemas"]
    told = ada.submit().json()
    assert told.keys() == schemas["Submitted"]["properties"].keys()
    page = ada.get(f"/api/v1/jobs/{told['job_id']}").json()
    assert page.keys() == schemas["JobDetail"]["properties"].keys()
    (row,) = ada.get("/api/v1/jobs").json()["results"]
    assert row.keys() == schemas["Job"]["properties"].keys()
    (receipt,) = ada.get(f"/api/v1/jobs/{told['job_id']}/receipts").json()
    assert receipt.keys() == schemas["Receipt"]["properties"].keys()
    problem = ada.get("/api/v1/jobs?x=1").json()
    assert problem.keys() == schemas["Problem"]["properties"].keys()


def test_the_documentation_page_loads_nothing_from_elsewhere(house: None) -> None:
    page = Client().get("/api/v1/docs")
    assert page.status_code == 200
    loaded = re.findall(r'(?:src|href)="([^"]+)"', page.content.decode())
    assert loaded
    assert all(address.startswith(("/static/", "/api/v1/docs?")) for address in loaded), loaded


def test_a_person_finds_the_form_filled_with_a_body_that_works(ada: Program) -> None:
    eve = person("eve", User.Role.CLIENT, ada.tenant)
    page = eve.get("/api/v1/jobs", headers={"Accept": "text/html"}).content.decode()
    assert "Tallystick" in page
    filled = re.search(r"<textarea[^>]*>\s*(.*?)</textarea>", page, re.S)
    assert filled
    import html

    body = json.loads(html.unescape(filled[1]))
    assert ada.submit(body).status_code == 201
    assert "eve" in page
    assert "django-rest-framework.org" not in page


def test_a_stranger_finds_the_way_to_log_in(house: None) -> None:
    page = Client().get("/api/v1/", headers={"Accept": "text/html"})
    assert page.status_code == 200
    assert b"/api/v1/session/login/?next=/api/v1/" in page.content
    door = Client().get("/api/v1/session/login/?next=/api/v1/")
    assert door.status_code == 200
    assert b"Tallystick" in door.content
    assert b"Django REST framework" not in door.content


def test_the_front_door_leads_to_the_documentation(house: None) -> None:
    answer = Client().get("/", follow=True)
    assert answer.redirect_chain == [("/docs/", 302)]
    assert answer.status_code == 200, answer.content[:500]


def test_a_problem_is_shown_beside_the_form(ada: Program) -> None:
    eve = person("eve", User.Role.CLIENT, ada.tenant)
    page = eve.get("/api/v1/jobs?state=done", headers={"Accept": "text/html"})
    assert page.status_code == 422
    assert page["Content-Type"].startswith("text/html")
    assert b"must be one of" in page.content
