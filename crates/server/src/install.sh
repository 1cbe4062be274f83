# Installs the agent and starts it: pasted as `curl URL | sudo sh`, options for the agent after `-s --`.
# Everything is in one function, so that a download cut short runs nothing.
remuda_install() {
    set -eu
    : "${CATTLE_URL:?CATTLE_URL is not set; use the command the server shows}"
    : "${CATTLE_REGISTRATION_SECRET_KEY:?CATTLE_REGISTRATION_SECRET_KEY is not set; use the command the server shows}"
    base="${CATTLE_URL%/v1}"
    if [ "$(uname -s)" != Linux ]; then
        echo "remuda: hosts run Linux, this is $(uname -s)" >&2
        exit 1
    fi
    if [ "$(id -u)" != 0 ]; then
        echo "remuda: run this as root: curl -fsSL URL | sudo sh" >&2
        exit 1
    fi
    target="${REMUDA_BIN:-/usr/local/bin/remuda}"
    state="${REMUDA_STATE_DIR:-/var/lib/remuda-agent}"
    mkdir -p "$(dirname "$target")" "$state"
    chmod 700 "$state"
    new="$target.new.$$"
    trap 'rm -f "$new"' EXIT
    if command -v curl >/dev/null 2>&1; then
        curl -fsSL "$base/agent/binary?arch=$(uname -m)" -o "$new"
    else
        wget -q -O "$new" "$base/agent/binary?arch=$(uname -m)"
    fi
    chmod 755 "$new"
    mv -f "$new" "$target"
    # The token stays out of the process list: the agent reads it from a file only root can read.
    umask 077
    {
        echo "REMUDA_URL=$base"
        echo "REMUDA_TOKEN=$CATTLE_REGISTRATION_SECRET_KEY"
        echo "REMUDA_STATE_DIR=$state"
    } >"$state/agent.env"
    if [ -d /run/systemd/system ]; then
        options=""
        for option in "$@"; do
            options="$options \"$(printf %s "$option" | sed 's/[\\"]/\\&/g; s/%/%%/g; s/\$/$$/g')\""
        done
        umask 022
        cat >/etc/systemd/system/remuda-agent.service <<UNIT
[Unit]
Description=Remuda agent
After=network-online.target docker.service
Wants=network-online.target

[Service]
EnvironmentFile=$state/agent.env
ExecStart=$target agent$options
Restart=always
RestartSec=2
# Containers' names, metadata and routes outlive the agent: only the agent itself is stopped with the unit.
KillMode=process
LimitNOFILE=1048576

[Install]
WantedBy=multi-user.target
UNIT
        systemctl daemon-reload
        systemctl enable remuda-agent >/dev/null 2>&1
        systemctl restart remuda-agent
        echo "remuda: the agent runs; see it with: systemctl status remuda-agent"
    else
        set -a
        . "$state/agent.env"
        set +a
        if [ -f "$state/agent.pid" ] && kill -0 "$(cat "$state/agent.pid")" 2>/dev/null; then
            kill "$(cat "$state/agent.pid")"
        fi
        nohup setsid "$target" agent "$@" >"$state/agent.log" 2>&1 </dev/null &
        echo $! >"$state/agent.pid"
        echo "remuda: the agent runs; its log is $state/agent.log (there is no systemd to restart it)"
    fi
}
remuda_install "$@"
