"""Show the API to people: DRF's pages, with a body to start from."""

import json
from typing import Any

from rest_framework.renderers import BrowsableAPIRenderer


class ApiPage(BrowsableAPIRenderer):
    """The browsable page; its form is filled with the view's `example`."""

    def get_raw_data_form(self, data: Any, view: Any, method: str, request: Any) -> Any:
        """Fill the form with a body that works."""
        form = super().get_raw_data_form(data, view, method, request)
        example = getattr(view, "example", None)
        if form and example is not None and method == "POST":
            form.initial["_content"] = json.dumps(example, indent=2, ensure_ascii=False)
        return form

    def get_context(self, data: Any, accepted_media_type: str | None, renderer_context: Any) -> dict[str, Any]:
        """Leave out the OPTIONS button: the schema says more."""
        context: dict[str, Any] = super().get_context(data, accepted_media_type, renderer_context)
        context["options_form"] = None
        return context
