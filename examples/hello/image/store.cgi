#!/bin/sh
# The page of `store`: counts its visitors.
printf 'Content-Type: text/plain\r\n\r\n'
n=$(($(cat /tmp/visits 2>/dev/null || echo 0) + 1))
echo "$n" >/tmp/visits
echo "this is container $(hostname), visit $n"
