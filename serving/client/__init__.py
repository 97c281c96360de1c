"""A client for TensorFlow Serving and for `serving.model_server`: REST, gRPC or in process, for threads or asyncio.

    with Client("grpc://127.0.0.1:8500") as client:
        answer = client.predict("feed", {"history_ids": [["a17", "a3"]], ...}, signature="recommend")
        answer.outputs["ids"], answer.version

NumPy in and out. TensorFlow is imported by a server in this process alone.
"""

from serving.client.calls import Answer, SignatureSpec, TensorSpec, VersionState
from serving.client.client import AsyncClient, Client
from serving.client.errors import BadCall, ClientError, DeadlineExceeded, NotServed, ServerFailed, Unavailable

__all__ = [
    "Answer",
    "AsyncClient",
    "BadCall",
    "Client",
    "ClientError",
    "DeadlineExceeded",
    "NotServed",
    "ServerFailed",
    "SignatureSpec",
    "TensorSpec",
    "Unavailable",
    "VersionState",
]
