"""Say what a caller may see and do. Authentication fills it in; every view asks it and nothing else."""

from dataclasses import dataclass

from rest_framework.request import Request


@dataclass(frozen=True, slots=True)
class Access:
    """Whose rows a caller sees, whether it may change them, and how receipts name it."""

    tenant_id: str | None = None
    reads_all: bool = False
    may_change: bool = False
    actor: str = ""

    def sees(self, tenant_id: str | None) -> bool:
        """Tell whether rows of this tenant are shown; rows of the house (None) only to who reads all."""
        return self.reads_all or (tenant_id is not None and tenant_id == self.tenant_id)


NOBODY = Access()


def access_of(request: Request) -> Access:
    """Give the access of whoever sent this request."""
    return request.auth if isinstance(request.auth, Access) else NOBODY
