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
    """Keeps the outcome of the last request by backend; the outcomes of changed or removed backends are dropped."""

    def __init__(self) -> None:
        self._problems: dict[str, tuple[Backend, BackendProblem]] = {}  # by id

    def works(self, backend: Backend) -> None:
        """Record that the backend has accepted a request."""
        self._problems.pop(backend.id, None)

    def fails(self, backend: Backend, problem: BackendProblem) -> None:
        """Record that a request failed because of the backend, the network, or the configuration."""
        self._problems[backend.id] = backend, problem

    def problem(self, backend: Backend) -> BackendProblem | None:
        """Return why the last request failed; ``None`` if it did not, or if the backend's settings have changed."""
        asked, problem = self._problems.get(backend.id, (backend, None))
        return problem if (asked.secret, asked.urls) == (backend.secret, backend.urls) else None
