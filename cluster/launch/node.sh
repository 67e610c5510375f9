#!/bin/bash
# Starts the Ray of this machine for the profiler, and stays: what ends this program ends that Ray.
#
#   node.sh head                         this machine alone: everything listens on loopback
#   node.sh head ADDRESS                 the head of a cluster; ADDRESS: this machine's, on the network of the cluster
#   node.sh worker HEAD ADDRESS          joins the cluster whose head is at HEAD (or HEAD:PORT)
#   node.sh slurm                        in every task of `srun --ntasks-per-node=1`: the first node of the allocation is
#                                        the head, the others join it
#
# In the environment: RAY (the `ray` program, else the one in PATH), PROFILER_RAY_PORT (6379), PROFILER_RAY_TMP (Ray's
# folder for logs and sockets, else Ray's own choice), PROFILER_RAY_OPTIONS (more options of `ray start`).
#
# Clients and nodes need the cluster's token, in ~/.ray/auth_token or RAY_AUTH_TOKEN: `ray get-auth-token --generate`
# makes one; the same must be on every machine. With an ADDRESS Ray listens on all interfaces of the machine (it knows
# loopback or all): see docs/cluster.md for TLS and for closing the other networks out.
set -euo pipefail

die() {
    echo "node.sh: $*" >&2
    exit 2
}

usage() {
    sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p;}' "$0"
}

port=${PROFILER_RAY_PORT:-6379}
ray=${RAY:-ray}

common() {
    command -v "$ray" >/dev/null || die "no program $ray: activate the profiler's environment, or set RAY to its bin/ray"
    [[ -n ${RAY_AUTH_TOKEN:-} || -s ${RAY_AUTH_TOKEN_PATH:-$HOME/.ray/auth_token} ]] ||
        die "no token in ${RAY_AUTH_TOKEN_PATH:-$HOME/.ray/auth_token}: on the head make one with" \
            "'ray get-auth-token --generate', elsewhere copy that file"
    export RAY_AUTH_MODE=token          # who has no token is refused
    export RAY_USAGE_STATS_ENABLED=0    # nothing is told to anybody
    export RAY_worker_niceness=0        # trainings have the priority of any program
    export RAY_memory_monitor_refresh_ms=0 # short of memory, the kernel ends the trainer that took it
    export RAY_idle_worker_killing_time_threshold_ms=600000 # a background finds the worker of the one before
    options=(--block --resources '{"energy_slot": 1}')
    read -r -a more <<<"${PROFILER_RAY_OPTIONS:-}"
    options+=("${more[@]}")
}

head() {
    common
    options+=(--head "--port=$port" --dashboard-host=127.0.0.1)
    [[ -z ${PROFILER_RAY_TMP:-} ]] || options+=("--temp-dir=$PROFILER_RAY_TMP")
    if [[ -z ${1:-} ]]; then
        export RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0 # Ray's switch for "loopback means loopback"
        set -- 127.0.0.1
    fi
    exec "$ray" start "--node-ip-address=$1" "${options[@]}"
}

worker() {
    common
    local head=$1
    [[ $head == *:* ]] || head=$head:$port
    for _ in {1..60}; do # the head may come up later than we do
        (exec 3<>"/dev/tcp/${head%:*}/${head##*:}") 2>/dev/null && break
        sleep 1
    done
    exec "$ray" start "--address=$head" "--node-ip-address=$2" "${options[@]}"
}

slurm() {
    [[ -n ${SLURM_JOB_ID:-} && -n ${SLURM_PROCID:-} ]] || die "not in a task of srun: SLURM_JOB_ID and SLURM_PROCID are not set"
    [[ ${SLURM_NTASKS_PER_NODE:-1} == 1* ]] || die "start one task a node: srun --ntasks-per-node=1"
    local first
    if command -v scontrol >/dev/null; then
        first=$(scontrol show hostnames "${SLURM_STEP_NODELIST:-$SLURM_JOB_NODELIST}" | sed -n 1p)
        first=$(address_of "$first")
    else
        first=${SLURM_LAUNCH_NODE_IPADDR:-}
    fi
    [[ -n $first ]] || die "neither scontrol nor SLURM_LAUNCH_NODE_IPADDR says which node is the first"
    # Jobs on one machine must not meet: a port of the job's own, outside of Ray's worker ports (10002 to 19999).
    port=${PROFILER_RAY_PORT:-$((20000 + SLURM_JOB_ID % 10000))}
    if [[ $SLURM_PROCID == 0 ]]; then
        echo "node.sh: when all have joined: profiler run CONFIG --address $first:$port"
        head "$first"
    fi
    worker "$first:$port" "$(address_of "${SLURMD_NODENAME:-$(hostname)}")"
}

address_of() {
    getent ahostsv4 "$1" | awk 'NR == 1 { print $1 }'
}

case ${1:-} in
    head) [[ $# -le 2 ]] || die "head takes at most one address"; head "${2:-}" ;;
    worker) [[ $# -eq 3 ]] || die "worker takes the head's address and its own"; worker "$2" "$3" ;;
    slurm) slurm ;;
    -h | --help) usage ;;
    *) usage >&2; exit 2 ;;
esac
