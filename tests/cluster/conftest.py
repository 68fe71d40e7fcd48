"""Three machines in this one, and what they are asked about: started once for all tests that need them."""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path

import pytest

from deploykit.cluster.folder import Folder
from deploykit.cluster.planning import Part

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def digits(tmp_path_factory):
    """A folder of 300 digits, 8x8 as they come, one of them broken: `00007.png`."""
    from PIL import Image
    from sklearn.datasets import load_digits

    folder = tmp_path_factory.mktemp("many") / "digits"
    folder.mkdir()
    for number, pixels in enumerate(load_digits().images[:300]):
        Image.fromarray((pixels * 15).astype("uint8")).save(folder / f"{number:05}.png")
    (folder / "00007.png").write_bytes(b"no image")
    return folder


@pytest.fixture(scope="module")
def machines():
    """Ray's `Cluster` of three machines with a CPU each; this process is connected to it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'deploykit[ray]'")
        pytest.importorskip("pyarrow", reason="pyarrow is not installed: pip install 'deploykit[ray]'")
        from ray.cluster_utils import Cluster

    if sys.platform != "linux":
        pytest.skip("Ray's Cluster is tried on Linux")
    before = {name: os.environ.get(name) for name in ("PYTHONPATH", "RAY_AUTH_MODE", "RAY_USAGE_STATS_ENABLED")}
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [before["PYTHONPATH"]])])
    os.environ["RAY_AUTH_MODE"] = "disabled"  # or it writes into the home of whoever runs the tests
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    small = {"num_cpus": 1, "object_store_memory": 100 << 20}
    cluster = Cluster(initialize_head=True, head_node_args={**small, "include_dashboard": False})
    for _ in range(2):
        cluster.add_node(**small)
    ray.init(cluster.address, log_to_driver=False, logging_level="critical")
    yield cluster
    ray.shutdown()
    cluster.shutdown()
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


@pytest.fixture
def four_parts(tmp_path):
    """A folder of a run of four parts of two rows, none of them answered."""
    pytest.importorskip("pyarrow", reason="pyarrow is not installed: pip install 'deploykit[ray]'")
    folder = Folder(str(tmp_path))
    folder.begin({"file": "ab12"}, resume=False)
    folder.keep_list(Part(number, 2 * number, 2, [f"{number}.png"] * 2) for number in range(4))
    return folder
