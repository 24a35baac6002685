"""Artifacts and their credentials in the console. Read-only."""

from typing import Any

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.utils.safestring import SafeString

from provenance.models import Artifact, Credential
from receipts.console import SHA256, EvidenceAdmin
from receipts.templatetags.console import badge, copyable, moment, size


@admin.register(Artifact)
class ArtifactAdmin(EvidenceAdmin):
    """Which bytes are whose output. The bytes themselves are served by their job's page alone."""

    keyset = ("id",)
    list_display = ("name", "role_word", "about", "digest", "mime", "bytes", "created")
    list_select_related = ("blob",)
    list_filter = (("role", admin.ChoicesFieldListFilter),)
    search_fields = ("blob",)
    search_help_text = "A whole SHA-256 digest or job id"
    fields = ("name", "role_word", "about", "tenant", "digest", "mime", "bytes", "created")
    readonly_fields = fields

    def find(self, rows: QuerySet[Artifact], term: str) -> QuerySet[Artifact]:
        return rows.filter(blob=term) if SHA256.fullmatch(term) else rows.filter(subject=term)

    @admin.display(description="Role")
    def role_word(self, row: Artifact) -> SafeString:
        return badge("completed" if row.role == Artifact.Role.SIGNED else "idle", row.role)

    @admin.display(description="Of")
    def about(self, row: Artifact) -> SafeString:
        return copyable(row.subject)

    @admin.display(description="SHA-256")
    def digest(self, row: Artifact) -> SafeString:
        return copyable(row.blob_id, what="digest")

    @admin.display(description="Type")
    def mime(self, row: Artifact) -> str:
        return row.blob.mime

    @admin.display(description="Size")
    def bytes(self, row: Artifact) -> Any:
        return size(row.blob.size)

    @admin.display(description="Kept")
    def created(self, row: Artifact) -> SafeString:
        return moment(row.created_at)


@admin.register(Credential)
class CredentialAdmin(EvidenceAdmin):
    """C2PA credentials: which signed file is the signed one."""

    keyset = ("id",)
    list_display = ("about", "unsigned", "signed_file", "mime", "where", "alg", "created")
    list_display_links = None
    list_select_related = ("signed",)
    search_fields = ("signed",)
    search_help_text = "A whole SHA-256 digest or job id"

    def find(self, rows: QuerySet[Credential], term: str) -> QuerySet[Credential]:
        return (
            rows.filter(Q(signed=term) | Q(unsigned_sha256=term))
            if SHA256.fullmatch(term)
            else rows.filter(subject=term)
        )

    @admin.display(description="Of")
    def about(self, row: Credential) -> SafeString:
        return copyable(row.subject)

    @admin.display(description="As it was made")
    def unsigned(self, row: Credential) -> SafeString:
        return copyable(row.unsigned_sha256, what="digest")

    @admin.display(description="As signed")
    def signed_file(self, row: Credential) -> SafeString:
        return copyable(row.signed_id, what="digest")

    @admin.display(description="Manifest")
    def where(self, row: Credential) -> str:
        return "inside the file" if row.embedded else "beside the file"

    @admin.display(description="Issued")
    def created(self, row: Credential) -> SafeString:
        return moment(row.created_at)
