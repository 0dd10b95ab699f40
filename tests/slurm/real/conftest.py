"""One real SLURM cluster for all tests of this folder, with its logs in reports of failures."""

import os
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from cluster import Cluster, clean_environment, temporary_cluster

_HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test of this folder as one that needs a real SLURM."""
    for item in items:
        if _HERE in item.path.parents:
            item.add_marker(pytest.mark.slurm)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the last lines of the daemons' logs to the report of a failed test."""
    report = yield
    if report.failed and isinstance(item, pytest.Function):
        clusters = {
            value.folder: value for value in item.funcargs.values() if isinstance(value, Cluster)
        }
        for folder, cluster in clusters.items():
            report.sections.append((f"logs of {folder}", cluster.report()))
    return report


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A running cluster, which all commands of this process use.

    No data folder is set: some tests need it to be missing.
    """
    with temporary_cluster() as cluster, pytest.MonkeyPatch.context() as patch:
        kept = clean_environment() | cluster.environment
        kept.pop("PAIBENCH_DATA", None)
        for name in set(os.environ) - set(kept):
            patch.delenv(name)
        for name, value in kept.items():
            patch.setenv(name, value)
        yield cluster


@pytest.fixture
def quiet_cluster(cluster: Cluster) -> Cluster:
    """The cluster with every daemon running, no jobs, and idle nodes."""
    cluster.quiet()
    return cluster
