#!/bin/sh
# clean.sh SLOT: removes everything a testbed made, in whatever state its process left it.
#
# Processes are found by cgroup, never by a pid file (process ids are used again within minutes). Safe to run twice and
# on a testbed that was only half made. The caller holds the slot's lock.
set -u
slot=$1
root=/tmp/remuda-testbed
dir=$root/bed/$slot
case $slot in '' | *[!0-9]*) echo "clean.sh: SLOT is a number" >&2; exit 2 ;; esac
[ -d "$dir" ] || exit 0
exec 2>>"$root/clean.log"

# 1. Processes: thaw what is paused, kill, look again until nobody is left.
cgroups=
for hierarchy in /sys/fs/cgroup /sys/fs/cgroup/*; do
    [ -d "$hierarchy/remuda-testbed/$slot" ] && cgroups="$cgroups $hierarchy/remuda-testbed/$slot"
done
left=
for try in $(seq 300); do
    left=
    for cgroup in $cgroups; do
        find "$cgroup" -name freezer.state 2>/dev/null | while read -r state; do echo THAWED >"$state"; done
        left="$left $(find "$cgroup" -name cgroup.procs -exec cat {} + 2>/dev/null | sort -u | tr '\n' ' ')"
    done
    set -- $left
    [ $# -eq 0 ] && break
    kill -KILL "$@" 2>/dev/null
    sleep 0.02
done

# 2. Sockets of containerd's shims lie outside our directory; each container's state says where.
for address in "$dir"/h*/exec/containerd/daemon/io.containerd.runtime.v2.task/*/*/address; do
    [ -f "$address" ] || continue
    socket=$(cat "$address")
    rm -f "${socket#unix://}"
done

# 3. Mounts, the innermost first.
awk -v dir="$dir/" 'index($5, dir) == 1 { print $5 }' /proc/self/mountinfo | sort -r | while read -r mount; do
    umount -l "$mount"
done

# 4. Network: deleting a namespace deletes what is in it, but later; the wires are taken down at once.
for wire in /sys/class/net/rtb"$slot"v*; do
    [ -e "$wire" ] && ip link del "${wire##*/}"
done
for netns in /run/netns/rtb"$slot"h*; do
    [ -e "$netns" ] && ip netns del "${netns##*/}"
done
if [ -e "/sys/class/net/rtb$slot" ]; then
    while ip rule del iif "rtb$slot" prohibit 2>/dev/null; do :; done
    while iptables -w -D FORWARD -i "rtb$slot" -o "rtb$slot" -j ACCEPT 2>/dev/null; do :; done
    ip link del "rtb$slot"
fi

# 5. Files last: as long as the directory is there, the slot counts as unclean.
for cgroup in $cgroups; do
    find "$cgroup" -depth -type d -exec rmdir {} + 2>/dev/null
done
if [ -n "$left" ] && [ -n "${left# }" ]; then
    set -- $left
    [ $# -gt 0 ] && echo "slot $slot: these processes do not die: $*" >&2 && exit 1
fi
rm -rf "$dir"
[ ! -e "$dir" ]
