"""Batch inference on Ray: any number of inputs, on as many machines as there are, each answered once.

`predict` is the whole stage. `listing` finds the inputs, `planning` cuts them into parts, `answering` gives them to
`actors` (`worker` is what one does, `pool` how many there are, `work` what is missing), `folder` keeps the answers;
`connecting` finds the cluster and looks at its workers.

Importing this package loads nothing: Ray is an extra, and `deploykit.runtime` knows nothing of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from deploykit.lazy import attach

if TYPE_CHECKING:
    from deploykit.cluster.predicting import predict as predict
    from deploykit.cluster.result import ClusterPrediction as ClusterPrediction

__getattr__, __dir__, __all__ = attach(__name__, {"predicting": ["predict"], "result": ["ClusterPrediction"]})
