"""Every torchvision classification network at its own crop size: our count beside what torchvision publishes, and the peers'.

    pip install torchinfo fvcore thop ptflops      # optional: the peers beside it
    python benchmarks/flops_against_peers.py [--only NAME ...] [--no-peers]

Exit status 1 if a parameter count is off at all, a MAC count by more than 0.001 G, the precision torchvision publishes, or if
the whole takes more than two minutes.
Peers that are installed are shown beside it. torchinfo and thop give the same figures for networks without weights, so they are
asked about those; fvcore and ptflops must compute for real. "-" stands where one fails or the network is too large for that.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from _results import keep
from torchvision import models

from deploykit.profiler.pytorch.layers import count_layers
from deploykit.reports import Column, Report, Table

TOLERANCE = 0.001  # G
LONGEST = 120.0  # seconds
LARGE = 18.0  # GMACs; peers that compute for real are not asked about networks above this
ON_META = frozenset({"torchinfo", "thop"})


def build(name: str, side: int, device: str) -> torch.nn.Module:
    """The network in eval mode, for images of that side, as torchvision counted it.

    The published parameters of inception_v3 include its auxiliary head, those of googlenet do not.
    """
    extra: dict[str, Any] = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    if name == "googlenet":
        extra["aux_logits"] = False
    if name.startswith("vit_"):
        extra["image_size"] = side
    with torch.device(device):
        return models.get_model(name, weights=None, **extra).eval()


def ours(name: str, side: int) -> tuple[int, float, str]:
    """(parameters, GMACs, what was not counted)."""
    try:
        network = build(name, side, "meta")
    except (RuntimeError, NotImplementedError):
        network = build(name, side, "cpu")
    found = count_layers(network, [torch.empty(1, 3, side, side, device="meta")])
    return found.totals.params, found.totals.ops / 1e9, ", ".join(found.uncounted)


def where(network: torch.nn.Module) -> torch.device:
    """The device of its parameters."""
    return next(network.parameters()).device


def peers() -> dict[str, Callable[[torch.nn.Module, int], float]]:
    """Installed reporters: each gives GMACs of a real network."""
    found: dict[str, Callable[[torch.nn.Module, int], float]] = {}
    with contextlib.suppress(ImportError):
        import torchinfo

        found["torchinfo"] = lambda net, side: (
            torchinfo.summary(
                net, input_data=torch.zeros(1, 3, side, side, device=where(net)), device=where(net), verbose=0
            ).total_mult_adds
            / 1e9
        )
    with contextlib.suppress(ImportError):
        from fvcore.nn import FlopCountAnalysis

        logging.getLogger("fvcore").setLevel(logging.ERROR)
        found["fvcore"] = lambda net, side: FlopCountAnalysis(net, torch.zeros(1, 3, side, side)).total() / 1e9
    with contextlib.suppress(ImportError):
        import thop

        found["thop"] = lambda net, side: (
            thop.profile(net, (torch.zeros(1, 3, side, side, device=where(net)),), verbose=False)[0] / 1e9
        )
    with contextlib.suppress(ImportError):
        import ptflops

        quiet = {"as_strings": False, "print_per_layer_stat": False}
        found["ptflops"] = lambda net, side: ptflops.get_model_complexity_info(net, (3, side, side), **quiet)[0] / 1e9
    return found


def of_zeros(name: str, side: int) -> torch.nn.Module:
    """The network with zeros for weights: first weights cost more than some peers' whole count."""
    try:
        network = build(name, side, "meta").to_empty(device="cpu")
    except (RuntimeError, NotImplementedError):
        return build(name, side, "cpu")
    with torch.no_grad():
        for tensor in (*network.parameters(), *network.buffers()):
            tensor.zero_()
    return network


def ask(peer: Callable[[torch.nn.Module, int], float], make: Callable[[], torch.nn.Module], side: int) -> float | None:
    """A peer's figure, or `None` where it fails; it gets a fresh network, because some leave theirs changed."""
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), torch.no_grad():
            warnings.simplefilter("ignore")
            return peer(make(), side)
    except Exception:
        return None


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="*", help="names of networks; all by default")
    parser.add_argument("--no-peers", action="store_true", help="only our own count")
    chosen = parser.parse_args()
    asked = {} if chosen.no_peers else peers()
    rows, wrong, began = [], [], time.perf_counter()
    for name in chosen.only or models.list_models(module=models):
        weights = models.get_model_weights(name).DEFAULT
        published = {
            w: (w.meta["num_params"], w.meta["_ops"], int(w.transforms().crop_size[0])) for w in models.get_model_weights(name)
        }
        params, ops, side = published[weights]
        clock = time.perf_counter()
        our_params, our_macs, uncounted = ours(name, side)
        row: dict[str, Any] = {"name": name, "side": side, "params": our_params, "published": ops, "deploykit": our_macs,
                               "seconds": time.perf_counter() - clock, "uncounted": uncounted}  # fmt: skip
        if our_params != params or abs(our_macs - ops) > TOLERANCE:
            wrong.append(f"{name}: {our_params:,} parameters and {our_macs:.4f} G, published are {params:,} and {ops}")
        for peer, call in asked.items():
            if peer in ON_META:
                row[peer] = ask(call, partial(build, name, side, "meta"), side)
            if row.get(peer) is None and ops <= LARGE:
                row[peer] = ask(call, partial(of_zeros, name, side), side)
        rows.append(row)
    spent, whole = sum(row["seconds"] for row in rows), time.perf_counter() - began
    report = table(rows, list(asked), wrong, spent, whole)
    keep("flops_against_peers", report)
    return 1 if wrong or whole > LONGEST else 0


def table(rows: list[dict[str, Any]], asked: list[str], wrong: list[str], spent: float, whole: float) -> Report:
    """The figures, how many of each peer's lie within 1 % of the published ones, and what is wrong."""
    columns = [Column("name", "network"), Column("side", "crop", "count"), Column("params", "parameters", "count"),
               Column("published", "published GMACs", "number"), Column("deploykit", "deploykit", "number"),
               *(Column(peer, peer, "number") for peer in asked)]  # fmt: skip
    facts = []
    for who in ("deploykit", *asked):
        known = [row for row in rows if row.get(who) is not None]
        close = sum(abs(row[who] - row["published"]) <= 0.01 * row["published"] for row in known)
        facts.append((who, f"{close} of {len(rows)} within 1 %, {len(rows) - len(known)} failed or not asked"))
    return Report(
        title=f"{len(rows)} networks of torchvision",
        document=rows,
        headline=f"{len(rows) - len(wrong)} of {len(rows)} as torchvision publishes; counted in {spent:.1f} s of {whole:.0f} s",
        good=not wrong,
        facts=facts,
        tables=[Table("", columns, rows)],
        notes=wrong,
    )


if __name__ == "__main__":
    sys.exit(main())
