"""Settings of the cluster, as a run file gives them under ``plugins: {dask: ...}``."""

from __future__ import annotations

from pydantic import Field, model_validator

from scorefold.config import Config


class DaskConfig(Config):
    """Cluster for the jobs: a running cluster, or local processes that are started for the run."""

    address: str | None = Field(
        None,
        min_length=1,
        description="Scheduler of a running cluster, such as tcp://10.0.0.1:8786; null starts one on this machine",
    )
    workers: int | None = Field(
        None, ge=1, description="Processes of the cluster that is started here; null is 2. None with an address"
    )
    threads: int | None = Field(
        None,
        ge=1,
        description="CPU threads of torch in each job; null takes those that the run has in its own process, with "
        "which results are the same bit by bit",
    )
    timeout: float = Field(
        30.0,
        gt=0,
        description="Seconds to wait for the scheduler, for its first worker, and for another when all are lost",
    )

    @model_validator(mode="after")
    def _whose_workers(self) -> DaskConfig:
        if self.address is not None and self.workers is not None:
            raise ValueError("the cluster at 'address' has its own workers: leave out 'workers', or the address")
        return self
