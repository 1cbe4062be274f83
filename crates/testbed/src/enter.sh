#!/bin/sh
# enter.sh NETNS CGROUP PROGRAM [ARG...]: becomes PROGRAM inside a host of the testbed.
#
# The process joins the host's cgroup first, so that it and all its children are found when the testbed is removed. It
# then *becomes* nsenter and PROGRAM: the process id the caller knows is the program's. Only the network namespace is
# entered; `ip netns exec` would also remount /sys and hide the cgroups from dockerd.
set -eu
netns=$1 cgroup=$2
shift 2
echo $$ >"$cgroup/cgroup.procs"
exec nsenter --net="$netns" -- "$@"
