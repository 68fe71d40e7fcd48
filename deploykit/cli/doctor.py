"""What this machine can run on, and why not CUDA."""

from __future__ import annotations

import click

from deploykit.cli._common import Common, common_options, device_option


@click.command()
@device_option
@common_options
def command(device: str, common: Common) -> None:
    """Say which devices really work here, which library is missing, and what to do.

    Exit status 0; 3 if --device cuda was asked for and does not work.
    """
    from deploykit.runtime import doctor
    from deploykit.runtime.diagnosis import require
    from deploykit.views.diagnosis import report

    diagnosis = doctor()
    common.emit(report(diagnosis))
    require(diagnosis, device)
