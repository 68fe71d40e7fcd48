"""`GET /metrics`: what the models have done, in the text format of Prometheus, with the meaning that Triton's counters have."""

from __future__ import annotations

from collections.abc import Iterable

from deploykit._version import __version__
from deploykit.serving.app import Service
from deploykit.serving.latencies import BOUNDS
from deploykit.serving.models import Served

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def text(service: Service) -> str:
    """Every metric of every model, one family after the other."""
    served = service.models.loaded()
    figures = [(one, one.batcher.figures()) for one in served]
    lines = [*_head("deploykit_info", "gauge", "The version."), f'deploykit_info{{version="{__version__}"}} 1']
    lines += [*_head("deploykit_ready", "gauge", "1 where every model answers."), f"deploykit_ready {int(service.ready)}"]
    lines += _family(
        "deploykit_request_success_total",
        "counter",
        "Requests that the network answered.",
        ((one, {}, f.requests) for one, f in figures),
    )
    lines += _family(
        "deploykit_request_failure_total", "counter", "Requests that got no answer, by reason.",
        ((one, {"reason": reason}, count) for one in served for reason, count in sorted(dict(one.refused).items())),
    )  # fmt: skip
    lines += _family("deploykit_rows_total", "counter", "Rows of answered requests.", ((one, {}, f.rows) for one, f in figures))
    lines += _family(
        "deploykit_executions_total", "counter", "Runs of the network: rows by executions is the mean batch.",
        ((one, {}, f.executions) for one, f in figures),
    )  # fmt: skip
    lines += _family(
        "deploykit_pending_requests",
        "gauge",
        "Requests that wait or run.",
        ((one, {}, f.waiting + f.running) for one, f in figures),
    )
    lines += _family(
        "deploykit_queue_seconds_total",
        "counter",
        "Seconds that answered requests waited.",
        ((one, {}, f.queued) for one, f in figures),
    )
    lines += _family(
        "deploykit_compute_seconds_total", "counter", "Seconds that the runs of answered requests took, once for each request.",
        ((one, {}, f.computed) for one, f in figures),
    )  # fmt: skip
    lines += _histogram(served)
    return "\n".join(lines) + "\n"


def _histogram(served: Iterable[Served]) -> list[str]:
    name = "deploykit_request_seconds"
    lines = _head(name, "histogram", "From the head of a request to its answer.")
    for one in served:
        counts, total = one.latencies.histogram()
        for bound, count in zip((*map(str, BOUNDS), "+Inf"), counts, strict=True):
            lines.append(f"{name}_bucket{_labels(one, {'le': bound})} {count}")
        lines += [f"{name}_sum{_labels(one, {})} {total:.9g}", f"{name}_count{_labels(one, {})} {counts[-1]}"]
    return lines


def _family(name: str, kind: str, about: str, values: Iterable[tuple[Served, dict[str, str], float]]) -> list[str]:
    return [*_head(name, kind, about), *(f"{name}{_labels(one, more)} {value:.9g}" for one, more, value in values)]


def _head(name: str, kind: str, about: str) -> list[str]:
    return [f"# HELP {name} {about}", f"# TYPE {name} {kind}"]


def _labels(served: Served, more: dict[str, str]) -> str:
    """Names of models and reasons hold no character that would have to be escaped."""
    pairs = {"model": served.name, "version": served.version, **more}
    return "{" + ",".join(f'{key}="{value}"' for key, value in pairs.items()) + "}"
