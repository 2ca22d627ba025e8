# Starts Consul, with the gossip keys of the Secret: Consul itself takes those that it
# has on disk, which are old ones where they were rotated while the server was away. A
# Secret that is as it was at the last start may itself be old, because it reaches the
# pod with delay: then those on disk are newer. Without a Secret it has none.
set -eu
ring=/consul/data/serf/local.keyring
if [ -e /consul/gossip/keyring ]; then
  if [ ! -s "$ring" ] || [ "$(cat /consul/gossip/keyring)" != "$(cat "$ring.secret" 2>/dev/null)" ]; then
    (umask 077 && mkdir -p /consul/data/serf && cp /consul/gossip/keyring "$ring.new")
    cp -p "$ring.new" "$ring.secret.new"
    mv "$ring.new" "$ring"
    mv "$ring.secret.new" "$ring.secret"
  fi
else
  rm -f "$ring" "$ring.secret"
fi

# A Raft log is read by the kind of store that wrote it alone. Next to a write-ahead log, a
# Consul that keeps its log in BoltDB makes an empty one: every version before 1.20 does,
# and any that raft_logstore tells to. It would come back as the voter it was with an empty
# log, and no later version would look into the write-ahead log again.
raft=/consul/data/raft
if [ ! -e "$raft/raft.db" ] && [ -n "$(ls -A "$raft/wal" 2>/dev/null)" ]; then
  backend=boltdb
  for arg in "$@"; do
    case $arg in
      -config-file=*)
        set_to=$(tr 'A-Z' 'a-z' <"${arg#*=}" | tr -d ' \t\n' | sed -n 's/.*"backend":"\([a-z]*\)".*/\1/p')
        backend=${set_to:-$backend}
        ;;
    esac
  done
  if [ "$backend" = boltdb ]; then
    echo "This server has its data in a write-ahead log (raft/wal), and this Consul would start with an empty BoltDB log beside it, without the data." \
      "Use the version (1.20 or later) or the raft_logstore.backend (wal) that the data was written with." >&2
    exit 1
  fi
fi

# peers.json makes this server the only voter. It is taken only during a recovery, whose
# marker says until when: a file that a failed recovery left behind would cut this server
# off from the others at some later start.
peers=/consul/data/raft/peers.json
if [ -e "$peers" ]; then
  deadline=$(cat /tmp/recovery 2>/dev/null || echo 0)
  rm -f /tmp/recovery
  if ! [ "$(date +%s)" -le "$deadline" ]; then
    echo "Ignoring $peers, because no recovery is in progress. It is now $peers.ignored." >&2
    mv "$peers" "$peers.ignored"
  fi
fi

# In a pod that has only IPv6, nothing of IPv4 reaches it.
case ${POD_IP:-} in
  *:*) set -- "$@" -bind=:: -client=:: ;;
esac

# The stop hook ends it (leave.sh): not being the first process of its PID namespace, it can be killed from within.
if [ $$ -ne 1 ]; then
  echo $$ >/tmp/pid
  exec consul "$@"
fi
# In a pod that a version of the provider without supervise.sh made, with a process namespace of its own, this shell is the
# first process, and stays.
consul "$@" &
pid=$!
echo "$pid" >/tmp/pid
trap 'kill -TERM "$pid" 2>/dev/null || :' TERM INT
while :; do
  code=0
  wait "$pid" || code=$?
  kill -0 "$pid" 2>/dev/null || exit "$code" # else a signal ended the wait
done
