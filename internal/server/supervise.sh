# Runs Consul (start.sh), and starts it again in the same pod when the provider asks for that: the server keeps its
# address, its place among the Raft peers, and its sessions. Every other end of Consul ends the container.
#
# Two annotations of the pod reach this script through a volume, without any right on pods/exec. config-hash names the
# configuration that a start uses. restart is a request: "process-<id>" restarts Consul here, and "image-<id>" says that
# Kubernetes replaces the container by one with another image (leave.sh).
#
# $@ is the command line of Consul without the configuration.
set -eu
config=/consul/config

asked() { cat /consul/pod/restart 2>/dev/null || :; }

# The ConfigMap reaches a pod with delay.
has_config() { [ -e "$config/server-$1.json" ] && [ -e "$config/extra-$1.json" ]; }

# restart_on_request ends the process $1 if a restart is asked for. It is killed, because Consul refuses requests while
# it ends by itself. What is on disk is whole at any moment.
restart_on_request() {
  while sleep 1; do
    request=$(asked)
    case $request in
      "$(cat /tmp/restart)") continue ;;
      process-*) ;;
      *) continue ;;
    esac
    has_config "$(cat /consul/pod/config-hash)" || continue
    touch /tmp/restarting
    kill -KILL "$1"
    return
  done
}

pid=
ended=
rm -f /tmp/restarting # of a container that was killed
trap 'ended=1; [ -z "$pid" ] || kill -TERM "$pid" 2>/dev/null || :' TERM INT
while [ -z "$ended" ]; do
  asked >/tmp/restart # before the configuration is read: a request in between restarts Consul once more
  hash=$(cat /consul/pod/config-hash)
  until has_config "$hash"; do
    [ -z "$ended" ] || exit 143
    echo "Waiting for the configuration $hash."
    sleep 1
    hash=$(cat /consul/pod/config-hash)
  done
  restart=$(cat /tmp/restart)
  /bin/sh "$config/start.sh" "$@" ${restart:+"-node-meta=terraform-provider-consul-k8s-restart:$restart"} \
    -config-file="$config/server-$hash.json" \
    -config-file="$config/$POD_NAME.json" \
    -config-file=/tmp/token.json \
    -config-file="$config/extra-$hash.json" & # last: it wins
  pid=$!
  restart_on_request "$pid" &
  watcher=$!
  while :; do
    code=0
    wait "$pid" || code=$?
    kill -0 "$pid" 2>/dev/null || break # else a signal ended the wait
  done
  kill "$watcher" 2>/dev/null || :
  [ -e /tmp/restarting ] || exit "$code"
  rm -f /tmp/restarting
done
exit 143
