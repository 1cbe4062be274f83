#!/bin/sh
# The page of `web`: who answers, and what a container of `store` said. The name is looked up for each request, with
# the C library's resolver, as a real program would; the answer's order changes, so the containers take turns.
printf 'Content-Type: text/plain\r\n\r\n'
echo "web: this is container $(hostname)"
address=$(getent hosts store | head -n 1 | cut -d ' ' -f 1)
if [ -z "$address" ]; then
    echo "store: the name does not resolve"
elif answer=$(timeout 5 wget -q -O - "http://$address/" 2>/dev/null); then
    echo "store at $address: $answer"
else
    echo "store at $address: does not answer"
fi
