"""The outcome of the last signed request to each backend, for ``/readyz``."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.core.limits import Backend


@dataclass(frozen=True, slots=True)
class BackendProblem:
    """The reason why the last signed request to a backend failed; ``answered``: whether the backend was reached."""

    answered: bool
    reason: str


class BackendHealth:
    """Keeps the failure of the last request by backend; one under other settings of the backend is ignored."""

    def __init__(self) -> None:
        self._failures: dict[str, tuple[Backend, BackendProblem]] = {}  # by id

    def record_success(self, backend: Backend) -> None:
        """Record that the backend has accepted a request."""
        self._failures.pop(backend.id, None)

    def record_failure(self, backend: Backend, problem: BackendProblem) -> None:
        """Record that a request failed because of the backend, the network, or the configuration."""
        self._failures[backend.id] = backend, problem

    def problem(self, backend: Backend) -> BackendProblem | None:
        """Return the failure of the last request; ``None``: it succeeded, or the backend's settings have changed."""
        asked, problem = self._failures.get(backend.id, (backend, None))
        return problem if (asked.secret, asked.urls) == (backend.secret, backend.urls) else None
