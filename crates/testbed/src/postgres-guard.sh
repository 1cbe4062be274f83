#!/bin/sh
# postgres-guard.sh DIR PG_CTL UID GID: stops the shared PostgreSQL a few seconds after its last user is gone.
#
# Users hold users.lock shared, so waiting for it alone means waiting for all of them. The pause lets the next test of a
# run find the server still there. start.lock keeps a new user from joining between the last look and the stop.
set -u
dir=$1 pg_ctl=$2 uid=$3 gid=$4
while :; do
    flock --exclusive "$dir/users.lock" true
    sleep 10
    exec 8>"$dir/start.lock" 9>"$dir/users.lock"
    flock --exclusive 8
    if flock --exclusive --nonblock 9; then
        if [ "$(id -u)" = 0 ]; then
            setpriv --reuid "$uid" --regid "$gid" --clear-groups "$pg_ctl" stop --mode immediate --silent --pgdata "$dir/data" 8>&- 9>&-
        else
            "$pg_ctl" stop --mode immediate --silent --pgdata "$dir/data" 8>&- 9>&-
        fi
        rm -rf "$dir/data" "$dir/port"
        exit 0
    fi
    exec 8>&- 9>&-
done
