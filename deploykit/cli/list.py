"""The architectures, datasets, backends or formats."""

from __future__ import annotations

import click

from deploykit.cli._common import Common, common_options, module_option

KINDS = ("architectures", "datasets", "backends", "formats")


@click.command()
@click.argument("kind", type=click.Choice(KINDS), default="architectures", metavar="[KIND]")
@module_option
@common_options
def command(kind: str, common: Common) -> None:
    """List the architectures, datasets, backends or formats."""
    from deploykit.views import listing

    common.emit(listing.report(kind))
