"""Runs on TPU pods, with a fake gcloud: what is called, in which order, and when it ends."""

import pytest
from fake_programs import FakePrograms, launch

START = "on_host.sh start run"
STATUS = "on_host.sh status run"
VM_STATE = "tpu-vm list"
STATE = "queued-resources list"
RUN = "--chip=none --poll=0 -- python -m flavars_jax.main --workdir=gs://b/r"
TRAIN = "python -m flavars_jax.main --workdir=gs://b/r --config.distributed.kind=tpu"
VM = "--tpu=pod --zone=z"
QUEUE = "--name=pod --zone=z --accelerator_type=v6e-64 --runtime_version=v2-alpha-tpuv6e --spot"
SSH = "gcloud compute tpus tpu-vm ssh pod --worker=all --zone=z"


@pytest.fixture
def gcloud(tmp_path):
    return FakePrograms(tmp_path, "gcloud")


def reports(*hosts: str) -> tuple[int, str]:
    lines = [f"launch-host w-{i} {what}\n" for i, what in enumerate(hosts)]
    return 0, "some banner\n" + "".join(lines)


def kinds(calls):
    """The calls by what they do, repeats left out."""
    words = {
        START: "start", STATUS: "status", "on_host.sh install": "install", " scp ": "copy",
        "on_host.sh stop": "stop", "on_host.sh end": "end", STATE: "state", VM_STATE: "vm state",
        "queued-resources create": "create", "queued-resources delete": "delete",
        "test -x": "installed?",
    }  # fmt: skip
    found = [next(word for key, word in words.items() if key in call) for call in calls]
    return [word for i, word in enumerate(found) if i == 0 or found[i - 1] != word]


def test_dry_run_of_a_tpu_vm_from_creation_to_deletion():
    create = launch(
        f"launch.tpu_vm create --dry_run {VM} --accelerator_type=v5litepod-16 --project=p "
        "--runtime_version=v2-alpha-tpuv5-lite --spot --gcloud_flags='--network=n --tags=a,b'"
    )
    assert create.stdout == (
        "gcloud compute tpus tpu-vm create pod --zone=z --project=p "
        "--accelerator-type=v5litepod-16 --version=v2-alpha-tpuv5-lite --spot "
        "--network=n --tags=a,b\n"
    )
    install = launch(f"launch.tpu_vm install --dry_run {VM}").stdout.splitlines()
    assert install[0].endswith("archive --format=tar.gz --output=launch-code.tar.gz HEAD")
    assert install[1:] == [
        "gcloud compute tpus tpu-vm scp launch-code.tar.gz pod:launch-code.tar.gz "
        "--worker=all --zone=z",
        f"{SSH} '--command=mkdir -p launch-code && tar -xzf launch-code.tar.gz -C launch-code "
        "&& bash launch-code/launch/on_host.sh install tpu'",
    ]
    run = launch(f"launch.tpu_vm run --dry_run {VM} {RUN}", {"XLA_FLAGS": "--a=1"})
    assert run.stdout.splitlines() == [
        f"{SSH} '--command=bash launch-code/launch/{START} -- env XLA_FLAGS=--a=1 {TRAIN}'",
        f"{SSH} '--command=bash launch-code/launch/{STATUS}'",
        "# asked until all hosts have ended; then all again on status 75, when one was killed, and "
        "once after a crash",
    ]
    for action, on_host in (("logs", "log run 50"), ("stop", "stop run")):
        result = launch(f"launch.tpu_vm {action} --dry_run {VM}")
        assert result.stdout == f"{SSH} '--command=bash launch-code/launch/on_host.sh {on_host}'\n"
    delete = launch(f"launch.tpu_vm delete --dry_run {VM}")
    assert delete.stdout == "gcloud compute tpus tpu-vm delete pod --zone=z --quiet\n"


def test_all_hosts_start_again_after_a_preemption(gcloud):
    gone = [
        reports("running", "running"),
        reports("ended 75", "running"),
        reports(*["ended 75"] * 2),
    ]
    gcloud.answer((STATUS, [*gone, reports("running", "running"), reports("ended 0", "ended 0")]))
    result = launch(f"launch.tpu_vm run {VM} {RUN}", gcloud.environment())
    assert result.returncode == 0, result.stderr
    assert kinds(gcloud.calls()) == ["start", "status", "start", "status"]
    assert "compiler settings for --chip=none" in result.stderr


@pytest.mark.parametrize(
    ("ends", "final"), [(["ended 3", "ended 134"], 3), (["ended 2", "ended 2"], 2)]
)
def test_any_other_status_ends_the_run(gcloud, ends, final):
    gcloud.answer((STATUS, [reports(*ends)]))
    result = launch(f"launch.tpu_vm run {VM} {RUN}", gcloud.environment())
    assert result.returncode == final
    assert kinds(gcloud.calls()) == ["start", "status"]


def test_hosts_that_outlive_the_others_are_stopped_then_killed(gcloud):
    half = reports("ended 1", "running")
    gcloud.answer((STATUS, [half, half, half, half, reports("ended 1", "ended 137")]))
    result = launch(f"launch.tpu_vm run {VM} --grace=0 {RUN}", gcloud.environment())
    assert result.returncode == 1
    assert kinds(gcloud.calls()) == [
        "start", "status", "stop", "status", "end", "status",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "ends", [["ended 137", "ended 134"], ["ended 143", "ended 75"], ["ended 134", "ended 134"]]
)
def test_hosts_whose_processes_were_killed_start_again(gcloud, ends):
    gcloud.answer((STATUS, [reports(*ends), reports("ended 0", "ended 0")]))
    result = launch(f"launch.tpu_vm run {VM} {RUN}", gcloud.environment())
    assert result.returncode == 0
    assert kinds(gcloud.calls()) == ["start", "status", "start", "status"]


def test_a_crash_of_one_host_is_run_again_once(gcloud):
    """The other hosts hang, and are killed for it: that does not make it a lost machine."""
    half, both = reports("ended 139", "running"), reports("ended 139", "ended 137")
    gcloud.answer((STATUS, [*[half] * 4, both] * 2))
    result = launch(f"launch.tpu_vm run {VM} --grace=0 {RUN}", gcloud.environment())
    assert result.returncode == 139 and "a crash after a crash" in result.stderr
    assert sum(START in call for call in gcloud.calls()) == 2


def test_a_host_that_was_started_anew_makes_all_start_again(gcloud):
    gcloud.answer((STATUS, [reports("lost", "ended 134"), reports("ended 0", "ended 0")]))
    result = launch(f"launch.tpu_vm run {VM} {RUN}", gcloud.environment())
    assert result.returncode == 0
    assert kinds(gcloud.calls()) == ["start", "status", "start", "status"]


def test_a_crash_loop_ends(gcloud):
    gcloud.answer((STATUS, [reports("ended 75")]))
    result = launch(f"launch.tpu_vm run {VM} --restarts_per_hour=2 {RUN}", gcloud.environment())
    assert result.returncode == 75 and "too many restarts" in result.stderr
    assert sum(START in call for call in gcloud.calls()) == 3


def test_a_silent_host_is_waited_for_while_the_pod_is_well(gcloud):
    both, one = reports("running", "running"), reports("running")
    end = reports("ended 0", "ended 0")
    gcloud.answer((STATUS, [both, one, (255, ""), end]), (VM_STATE, [(0, "READY\n")]))
    result = launch(f"launch.tpu_vm run {VM} {RUN}", gcloud.environment())
    assert result.returncode == 0
    assert kinds(gcloud.calls()).count("start") == 1


def test_a_pod_that_stays_silent_is_reported(gcloud):
    both, one = reports("running", "running"), reports("running")
    gcloud.answer((STATUS, [both, one]), (VM_STATE, [(0, "READY\n")]))
    result = launch(f"launch.tpu_vm run {VM} {RUN}", gcloud.environment())
    assert result.returncode == 2 and "no answer from w-1" in result.stderr


def test_a_cloud_that_cannot_be_asked_ends_nothing(gcloud):
    # More failed questions than a silent host gets: the network of this machine is down.
    down = [(1, "")] * 15
    gcloud.answer((STATUS, [reports("running"), *down, reports("ended 0")]), (VM_STATE, [(1, "")]))
    assert launch(f"launch.tpu_vm run {VM} {RUN}", gcloud.environment()).returncode == 0


def test_a_preempted_tpu_vm_ends_with_75_and_says_what_to_do(gcloud):
    gcloud.answer((STATUS, [reports("running"), (255, "")]), (VM_STATE, [(0, "PREEMPTED\n")]))
    result = launch(f"launch.tpu_vm run {VM} {RUN}", gcloud.environment())
    assert result.returncode == 75 and "create it again" in result.stderr


def test_a_queued_resource_is_asked_for_again_when_its_machines_are_taken(gcloud):
    states = ["", "WAITING_FOR_RESOURCES", "PROVISIONING", "ACTIVE", "ACTIVE", "SUSPENDING"]
    states += ["SUSPENDED", "DELETING", "", "PROVISIONING", "ACTIVE"]
    vm = [(0, "READY\n"), (0, "PREEMPTED\n"), (0, "PREEMPTED\n"), (0, "READY\n")]
    gcloud.answer(
        (STATE, [(0, f"{state}\n") for state in states]),
        (VM_STATE, vm),
        (STATUS, [reports("running"), (255, ""), reports("running"), reports("ended 0")]),
    )
    result = launch(f"launch.queued_resource run {QUEUE} {RUN}", gcloud.environment())
    assert result.returncode == 0, result.stderr
    calls = gcloud.calls()
    first = ["state", "create", "state", "vm state", "copy", "install", "start", "status"]
    assert kinds(calls) == [
        *first, "vm state", "state", "vm state", "state", "delete", *first,
    ]  # fmt: skip
    assert next(call for call in calls if " create " in call) == (
        "gcloud compute tpus queued-resources create pod --zone=z --node-id=pod "
        "--accelerator-type=v6e-64 --runtime-version=v2-alpha-tpuv6e --spot"
    )
    assert next(call for call in calls if " delete " in call) == (
        "gcloud compute tpus queued-resources delete pod --zone=z --force --quiet"
    )


def test_the_same_command_takes_up_a_run_that_is_under_way(gcloud):
    gcloud.answer(
        (STATE, [(0, "ACTIVE\n")]), (VM_STATE, [(0, "READY\n")]), (STATUS, [reports("ended 0")])
    )
    result = launch(f"launch.queued_resource run {QUEUE} {RUN}", gcloud.environment())
    assert result.returncode == 0
    assert kinds(gcloud.calls()) == ["state", "vm state", "installed?", "start", "status"]


def test_a_request_that_fails_at_once_is_not_repeated(gcloud):
    gcloud.answer((STATE, [(0, ""), (0, "FAILED\n")]))
    result = launch(f"launch.queued_resource run {QUEUE} {RUN}", gcloud.environment())
    assert result.returncode == 2 and "describe pod" in result.stderr
    assert kinds(gcloud.calls()) == ["state", "create", "state"]


def test_slices_are_reached_through_the_queued_resource():
    line = f"launch.queued_resource run --dry_run --slices=2 {QUEUE} {RUN}"
    lines = launch(line).stdout.splitlines()
    place = "pod --node=all --worker=all --zone=z"
    assert lines[2] == (
        "gcloud compute tpus queued-resources create pod --zone=z --node-count=2 "
        "--node-prefix=pod --accelerator-type=v6e-64 --runtime-version=v2-alpha-tpuv6e --spot"
    )
    assert lines[-2] == (
        f"gcloud compute tpus queued-resources ssh {place} "
        f"'--command=bash launch-code/launch/{STATUS}'"
    )


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (f"launch.tpu_vm run --tpu=pod {RUN}", "missing --zone"),
        (f"launch.tpu_vm run --zone=z {RUN}", "missing --tpu"),
        (f"launch.tpu_vm run {VM} -- true", "missing --chip"),
        (f"launch.tpu_vm run {VM} --chip=v5e", "no command to run"),
        (f"launch.tpu_vm create {VM} --runtime_version=r", "missing --accelerator_type"),
        (f"launch.tpu_vm dance {VM}", "'dance'"),
        (f"launch.queued_resource run --name=pod --zone=z {RUN}", "missing --accelerator_type"),
        (f"launch.queued_resource run --zone=z {RUN}", "missing --name"),
        (f"launch.queued_resource run {QUEUE} --slice=2 {RUN}", "--slice=2"),
        (f"launch.tpu_vm run {VM} {RUN}", "no program 'gcloud'"),
    ],
)
def test_what_is_missing_is_one_line_and_status_2(line, complaint, tmp_path):
    result = launch(line, {"PATH": str(tmp_path)})
    assert result.returncode == 2
    errors = [text for text in result.stderr.splitlines() if text.startswith("error: ")]
    assert len(errors) == 1 and complaint in errors[0]


def test_the_zone_may_come_from_gclouds_own_variable():
    environment = {"CLOUDSDK_COMPUTE_ZONE": "zz", "CLOUDSDK_CORE_PROJECT": "pp", "TPU_NAME": "t"}
    result = launch("launch.tpu_vm delete --dry_run", environment)
    assert result.stdout == "gcloud compute tpus tpu-vm delete t --zone=zz --project=pp --quiet\n"
