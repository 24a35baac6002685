"""The ledger's addresses: receipts in the API, the log's files, the well-known document."""

from django.urls import path, re_path, register_converter

from receipts.api import views
from receipts.api.metrics import metrics
from receipts.api.proofs import LogConsistency, LogProof, ReceiptProof
from receipts.api.witness import AddCheckpoint


class NidConverter:
    """A CIDv1 of raw bytes in its one spelling."""

    regex = "bafkrei[a-z2-7]{52}"

    def to_python(self, value: str) -> str:
        return value

    def to_url(self, value: str) -> str:
        return value


register_converter(NidConverter, "nid")

_receipt = views.ReceiptBytes.as_view()
api_urlpatterns = [
    path("receipts/<nid:nid>", _receipt, name="receipt"),
    path("receipts/<nid:nid>/", _receipt),
    path("receipts/<nid:nid>.tlog-proof", ReceiptProof.as_view(), name="receipt-proof"),
    path("log/proof", LogProof.as_view(), name="log-proof"),
    path("log/consistency", LogConsistency.as_view(), name="log-consistency"),
]
urlpatterns = [
    path("metrics", metrics, name="metrics"),
    path("tlog/checkpoint", views.CheckpointFile.as_view(), name="tlog-checkpoint"),
    re_path(r"^tlog/(?P<path>tile/.+)$", views.TileFile.as_view(), name="tlog-tile"),
    path("tlog/witness/add-checkpoint", AddCheckpoint.as_view(), name="witness-add-checkpoint"),
    path(".well-known/tallystick.json", views.WellKnown.as_view(), name="wellknown"),
]
