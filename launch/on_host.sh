#!/usr/bin/env bash
# What happens on each host of a TPU pod: install, start, status, stop, log. Started through ssh by
# launch/tpu_vm.py. A run is detached from the connection, so that a lost connection is not a lost run.
#
#   on_host.sh install EXTRA            environment for jax[EXTRA], beside this code
#   on_host.sh start LABEL -- COMMAND   starts a run in the background, unless it runs already
#   on_host.sh status LABEL             one line: launch-host NAME running | ended N | lost
#   on_host.sh stop LABEL               SIGTERM: the run saves and exits 75
#   on_host.sh end LABEL                SIGKILL to the command, for one that does not stop
#   on_host.sh log LABEL LINES          the end of the log
set -euo pipefail

code=$(cd "$(dirname "$0")/.." && pwd)
state=${LAUNCH_STATE:-$HOME/launch}
venv=$state/venv

fail() {
    echo "error: $*" >&2
    exit 2
}

install() {
    local extra=$1 python=""
    for candidate in python3.13 python3.12 python3.11; do
        if [ -z "$python" ] && command -v "$candidate" >/dev/null; then python=$candidate; fi
    done
    if [ ! -x "$venv/bin/python" ]; then
        if [ -n "$python" ]; then
            "$python" -m venv "$venv"
        else
            # The images of most TPU VMs come with Python 3.10, which is too old.
            python3 -m pip install --quiet --user uv
            python3 -m uv venv --quiet --seed --python 3.12 "$venv"
        fi
    fi
    "$venv/bin/pip" install --quiet --no-deps -r "$code/requirements.txt"
    "$venv/bin/pip" install --quiet --constraint "$code/requirements.txt" "jax[$extra]" gcsfs s3fs
    "$venv/bin/pip" install --quiet --no-deps --editable "$code"
}

# Whether the process that watches over a run is there. A pid alone may have been given to another.
running() {
    local pid
    pid=$(cat "$state/$1.pid" 2>/dev/null) || return 1
    tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep -q "on_host.sh watch $1 "
}

# Runs the command and keeps its status. SIGTERM is passed on to the command, whose end is awaited.
watch() {
    local label=$1 child status=0 again told=no
    shift 2
    cd "$code"
    PATH="$venv/bin:$PATH" "$@" &
    child=$!
    trap 'told=yes; kill -TERM "$child" 2>/dev/null || true' TERM
    wait "$child" || status=$?
    # A signal ends `wait`, not the command: ask again, unless the command's own status was told.
    while [ "$told" = yes ]; do
        told=no again=0
        wait "$child" || again=$?
        if [ "$again" != 127 ]; then status=$again; fi
    done
    echo "$status" >"$state/$label.status.new"
    mv "$state/$label.status.new" "$state/$label.status"
}

start() {
    local label=$1
    mkdir -p "$state"
    if running "$label"; then return; fi
    rm -f "$state/$label.status"
    nohup setsid bash "$code/launch/on_host.sh" watch "$@" </dev/null >>"$state/$label.log" 2>&1 &
    echo $! >"$state/$label.pid"
    # Until it shows as what it is, a second `start` could not tell that it is there.
    until running "$label" || [ -f "$state/$label.status" ]; do
        kill -0 $! 2>/dev/null || return 0
        sleep 0.05
    done
}

status() {
    local label=$1 text=lost
    if running "$label"; then
        text=running
    elif [ -f "$state/$label.status" ]; then
        text="ended $(cat "$state/$label.status")"
    fi
    echo "launch-host $(hostname) $text"
}

stop() {
    if running "$1"; then kill -TERM "$(cat "$state/$1.pid")"; fi
}

end() {
    if running "$1"; then pkill -KILL -P "$(cat "$state/$1.pid")"; fi
}

[ $# -ge 2 ] || fail "usage: on_host.sh install EXTRA | start LABEL -- COMMAND | status LABEL | stop LABEL | end LABEL | log LABEL LINES"
case $1 in
    install | status | stop | end) "$@" ;;
    start | watch)
        if [ "${3:-}" != -- ] || [ $# -lt 4 ]; then fail "no command: on_host.sh $1 LABEL -- COMMAND"; fi
        "$@"
        ;;
    log) tail -n "${3:-50}" "$state/$2.log" ;;
    *) fail "no such action: $1" ;;
esac
