"""What is wrong with a dataset, in numbers: `belfry data audit`."""

from pipelines.data.audit.audit import AuditReport, audit

__all__ = ["AuditReport", "audit"]
