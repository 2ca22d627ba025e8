# A server that lost its data must not come back as the voter it was: it would
# vote with an empty log, and acknowledged writes could be lost. This waits until
# every Raft peer that the other servers name answers, so that none of them can
# be this server's former self. Autopilot removes a failed server from the peers
# within about half a minute.
#
# In a take-over the former servers name Raft peers too.
#
# A server with data goes straight on. While the cluster has not elected its
# first leader there is nothing to lose, and nobody is waited for.
#
# It also makes a token that lets this pod, and nobody else, ask its own agent how
# it is: acl.tokens.agent_recovery, which works before ACLs are bootstrapped too.
set -u
umask 077
cat /proc/sys/kernel/random/uuid >/tmp/token

service=$1
namespace=$2
name=${3:-} # in the certificate of a server, where they have one
port=${4:-}

# What the scripts of a server need of its image, beside the shell. One with data may run without, but a change, or the
# loss of its disk, then fails.
lacking=
for tool in consul cat cp date grep ls mkdir mv rm sed sleep sort timeout touch tr; do
  command -v "$tool" >/dev/null 2>&1 || lacking="$lacking $tool,"
done
client=
command -v wget >/dev/null 2>&1 && client=wget
command -v curl >/dev/null 2>&1 && client=${client:-curl}
[ -n "$client" ] || lacking="$lacking wget or curl,"
[ -z "$name" ] || command -v curl >/dev/null 2>&1 || lacking="$lacking curl,"
[ -z "$lacking" ] || echo "The image of this server lacks commands that its scripts need:${lacking%,}."

echo "{\"acl\":{\"tokens\":{\"agent_recovery\":\"$(cat /tmp/token)\"}}}" >/tmp/token.json
[ -d /consul/data/raft ] && exit 0

# get prints the answer of a server; the timeout is that of a busy node. Some may answer
# by HTTPS alone.
get() {
  case $client in
    wget) timeout 2 wget -q -O - "http://$1:8500/v1/status/peers" 2>/dev/null && return ;;
    curl) curl -sf -m 2 "http://$1:8500/v1/status/peers" && return ;;
  esac
  [ -n "$name" ] || return 1
  curl -sf -m 2 --cacert /consul/tls/ca.crt --connect-to "::$1:$port" "https://$name:$port/v1/status/peers"
}

# report tells Kubernetes once, in the termination message, that this server has no data. The
# provider reads it there: it needs no right to do so, and nothing else is sure.
report() {
  [ -e /tmp/reported ] || [ ! -e /consul/config/established ] && return
  touch /tmp/reported
  printf 'no data' >/dev/termination-log || return
  echo "This server has no data. Starting again to report that."
  exit 1
}

# It would wait for ever, because no server answers it.
if [ -z "$client" ] && [ -e /consul/config/established ]; then
  lost="no data, and neither wget nor curl to ask the other servers: use an image that has one of them"
  printf '%s' "$lost" >/dev/termination-log || :
  echo "This server has $lost."
  exit 1
fi

while :; do
  alive=0
  peers=
  for ordinal in 0 1 2 3 4 5 6; do
    [ "$service-$ordinal" = "$POD_NAME" ] && continue
    answer=$(get "$service-$ordinal.$service.$namespace.svc") || continue
    alive=$((alive + 1))
    peers="$peers $(echo "$answer" | tr -d '[]"' | tr ',' ' ')"
  done
  for former in $(cat /consul/config/former-servers 2>/dev/null); do
    answer=$(get "$former") || continue
    alive=$((alive + 1))
    peers="$peers $(echo "$answer" | tr -d '[]"' | tr ',' ' ')"
  done
  missing=
  for peer in $(echo "$peers" | tr ' ' '\n' | sort -u); do
    ip=${peer%:*}
    case $ip in
      "$POD_IP") missing="$missing $peer" && continue ;;
      *:*) ip="[$ip]" ;;
    esac
    get "$ip" >/dev/null || missing="$missing $peer"
  done
  if [ "$alive" -gt 0 ] || [ ! -e /consul/config/established ]; then
    [ -z "$missing" ] && exit 0
    report
    echo "This server has no data, and these Raft peers do not answer:$missing. Waiting until they are removed or back."
  else
    report
    echo "This server has no data, the cluster is established, and no other server answers: waiting for one. Restore the cluster if all data is lost."
  fi
  sleep 2
done
