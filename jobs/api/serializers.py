"""Show rows to the parties they belong to."""

from typing import Any, ClassVar

from rest_framework import serializers
from rest_framework.request import Request

from jobs.api.requests import AMOUNT
from jobs.models import Job, Provider
from provenance.models import Artifact
from receipts.api.access import access_of
from receipts.canonical import utc

BASE = "/api/v1"


class Moment(serializers.DateTimeField):
    """A time as receipts write it: UTC, milliseconds, `Z`."""

    def to_representation(self, value: Any) -> str:
        """Write the time."""
        return utc(value)


class Amount(serializers.RegexField):
    """An integer of the token's smallest unit, as decimal text: larger than others' numbers hold."""

    def __init__(self, **options: Any) -> None:
        super().__init__(rf"^{AMOUNT}$", **options)

    def to_representation(self, value: Any) -> str:
        """Write the amount without exponent or point."""
        return str(int(value))


class Progress(serializers.Serializer[Job]):
    """How far the work is."""

    step = serializers.IntegerField()
    steps = serializers.IntegerField()


class Links(serializers.Serializer[Job]):
    """Where the rest of a job is."""

    self = serializers.URLField()
    receipts = serializers.URLField()
    tally = serializers.URLField()
    artifact = serializers.URLField()
    cancel = serializers.URLField()

    def to_representation(self, job: Job) -> dict[str, str]:
        """Build the addresses from the one that was asked for."""
        return links_of(job.pk, self.context.get("request"))


def links_of(job_id: str, request: Request | None) -> dict[str, str]:
    """Give the addresses of one job's pages."""
    path = f"{BASE}/jobs/{job_id}"
    here = request.build_absolute_uri(path) if request else path
    return {"self": here} | {name: f"{here}/{name}" for name in ("receipts", "tally", "artifact", "cancel")}


class JobSerializer(serializers.ModelSerializer[Job]):
    """A job and where it stands."""

    tenant = serializers.CharField(source="tenant_id")
    progress = Progress(source="*")
    max_price = Amount(allow_null=True)
    created_at = Moment()
    started_at = Moment(allow_null=True)
    finished_at = Moment(allow_null=True)
    expires_at = Moment()
    links = Links(source="*")

    class Meta:
        model = Job
        fields: ClassVar[list[str]] = [
            "job_id",
            "nid",
            "tenant",
            "kind",
            "model",
            "origin",
            "state",
            "attempt",
            "progress",
            "priority",
            "max_price",
            "created_at",
            "started_at",
            "finished_at",
            "expires_at",
            "evidence",
            "evidence_reason",
            "failure_class",
            "links",
        ]
        read_only_fields = fields


class ArtifactSerializer(serializers.ModelSerializer[Artifact]):
    """A file of a job, as it left the house."""

    sha256 = serializers.CharField(source="blob_id")
    size = serializers.IntegerField(source="blob.size")
    mime = serializers.CharField(source="blob.mime")

    class Meta:
        model = Artifact
        fields: ClassVar[list[str]] = ["name", "sha256", "size", "mime"]
        read_only_fields = fields


class JobDetailSerializer(JobSerializer):
    """A job with what only its parties see: inputs, their salts, the promise, its signed files."""

    OWNERS_ALONE: ClassVar = ("inputs", "salts")

    client_key = serializers.CharField(help_text="the key that signed the request; empty if it came unsigned")
    inputs = serializers.DictField(required=False, help_text="in their normal form; its owner's alone")
    salts = serializers.DictField(
        child=serializers.CharField(), required=False, help_text="of the inputs' digests; its owner's alone"
    )
    promise = serializers.DictField(help_text="the hub's signed word that the receipt is in the log by then")
    artifacts = serializers.SerializerMethodField()

    class Meta(JobSerializer.Meta):
        fields: ClassVar[list[str]] = [
            *JobSerializer.Meta.fields[:-1],
            "failure_detail",
            "client_key",
            "inputs",
            "salts",
            "promise",
            "artifacts",
            "links",
        ]
        read_only_fields = fields

    def to_representation(self, job: Job) -> dict[str, Any]:
        """Leave out what is its owner's alone: auditors check digests, they read no prompts."""
        shown: dict[str, Any] = super().to_representation(job)
        if access_of(self.context["request"]).tenant_id != job.tenant_id:
            for name in self.OWNERS_ALONE:
                del shown[name]
        return shown

    def get_artifacts(self, job: Job) -> list[dict[str, Any]]:
        """List the signed files."""
        rows = Artifact.objects.select_related("blob").filter(
            tenant_id=job.tenant_id, subject=job.pk, role=Artifact.Role.SIGNED
        )
        return [dict(row) for row in ArtifactSerializer(rows, many=True).data]


class PromiseSerializer(serializers.Serializer[Any]):
    """The hub's signed word that a receipt is in the log by a stated time."""

    claim = serializers.CharField(help_text="the exact text that is signed")
    sig = serializers.DictField(child=serializers.CharField(), help_text="alg, key_id, sig")


class SubmittedSerializer(serializers.Serializer[Any]):
    """The first answer to a job; a repeated request is told the same."""

    job_id = serializers.CharField()
    nid = serializers.CharField(help_text="of its JobSubmitted receipt: the job's name everywhere")
    kind = serializers.CharField()
    model = serializers.CharField()
    state = serializers.CharField()
    attempt = serializers.IntegerField()
    created_at = serializers.CharField()
    inputs = serializers.DictField(child=serializers.CharField(), help_text="salted digests, as the receipt holds them")
    salts = serializers.DictField(child=serializers.CharField(), help_text="keep them: they disclose inputs one by one")
    promise = PromiseSerializer()
    links = serializers.DictField(child=serializers.URLField())


class ReceiptSerializer(serializers.Serializer[Any]):
    """A receipt of a job. `bytes` is what was hashed; the other fields are read from it for convenience."""

    nid = serializers.CharField(help_text="CIDv1 of the bytes")
    eventType = serializers.CharField()  # noqa: N815  the wire's name
    jobId = serializers.CharField(allow_null=True)  # noqa: N815  the wire's name
    seq = serializers.IntegerField()
    prev = serializers.CharField(allow_null=True)
    leaf = serializers.IntegerField(allow_null=True, help_text="its place in the log; null until it is sequenced")
    receipt = serializers.DictField()
    bytes = serializers.CharField(help_text="the exact text, UTF-8")


class ProviderSerializer(serializers.ModelSerializer[Provider]):
    """Who serves, at which price, and how it has fared."""

    price = Amount(help_text="smallest token units for each unit served")
    last_seen = Moment(allow_null=True)

    class Meta:
        model = Provider
        fields: ClassVar[list[str]] = [
            "slug",
            "name",
            "key_id",
            "payout",
            "kinds",
            "unit_type",
            "price",
            "capacity",
            "active",
            "last_seen",
            "successes",
            "failures",
        ]
        read_only_fields = fields


class ProblemFieldSerializer(serializers.Serializer[Any]):
    """Which field broke which rule."""

    field = serializers.CharField()
    value = serializers.JSONField(allow_null=True, help_text="what came, cut short")
    rule = serializers.CharField()


class ProblemSerializer(serializers.Serializer[Any]):
    """Every error of this API (RFC 9457). `type` leads to the table of them."""

    type = serializers.CharField()
    title = serializers.CharField()
    status = serializers.IntegerField()
    detail = serializers.CharField()
    may_retry = serializers.BooleanField(help_text="the same request may succeed later")
    errors = ProblemFieldSerializer(many=True, required=False)  # type: ignore[assignment]  # a field, not the property
