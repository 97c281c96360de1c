"""What FastAPI does not say of the API in its document."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from serving.gateway.guard import route_of


def complete_document(app: FastAPI, max_k: int) -> None:
    """Say in the document which scope an operation needs; the guard is what asks for keys."""
    written = app.openapi

    def document() -> dict[str, Any]:
        content = written()
        if "securitySchemes" in content.setdefault("components", {}):
            return content
        content["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        for path, operations in content["paths"].items():
            for method, operation in operations.items():
                scope = route_of(method.upper(), path).scope
                operation["security"] = [] if scope is None else [{}, {"key": []}]
                if scope is not None:
                    operation["description"] = f"{operation.get('description', '')}\n\nScope: `{scope}`."
        content["components"]["schemas"]["RecommendationRequest"]["properties"]["k"]["maximum"] = max_k
        for parameter in content["paths"]["/v1/items/{item_id}/similar"]["get"]["parameters"]:
            if parameter["name"] == "k":
                parameter["schema"]["maximum"] = max_k
        # FastAPI's own shape of an error is not ours.
        for name in ("HTTPValidationError", "ValidationError"):
            content["components"]["schemas"].pop(name, None)
        return content

    app.openapi = document  # type: ignore[method-assign]
