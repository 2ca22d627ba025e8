# Leaves the cluster before Kubernetes stops this server, and kills it as soon as it
# is no Raft peer any more. Left to itself Consul would go on for three more seconds,
# to be sure that even a large cluster hears of it: by then the server has forgotten
# the leader, and refuses what clients ask over connections that they kept open. Told to
# end, it refuses them too until it has.
#
# A server stays a Raft peer, and only stops, if its leave would leave fewer peers than a
# quorum of the declared servers: when several pods are deleted at once, each server that
# left would make the quorum smaller, until one disk alone has what is acknowledged. Its
# volume and its node ID bring it back as the peer that it is. While servers are adopted
# the others count too, and the rollout adds and removes them one at a time.
#
# $1 is how much longer to go on, in seconds.
set -u

# status prints what this server knows of Raft, its peers or its leader, in quotes, with the client that the image has.
status() {
  if command -v wget >/dev/null 2>&1; then
    timeout 2 wget -q -O - "http://127.0.0.1:8500/v1/status/$1" 2>/dev/null
  elif command -v curl >/dev/null 2>&1; then
    curl -sf -m 2 "http://127.0.0.1:8500/v1/status/$1"
  else
    info=$(timeout 4 consul info -token-file=/tmp/token 2>/dev/null) || return 1
    case $1 in
      peers) echo "$info" | tr ' ' '\n' | sed -n 's/^Address:\([^}]*\)}.*/"\1",/p' ;;
      leader) echo "$info" | sed -n 's/.*leader_addr = \(.*\)/"\1"/p' ;;
    esac
  fi
}

# The container is replaced by one with another image (supervise.sh): the server is back within seconds, as the peer that
# it is. The image follows a request within seconds. If the provider was killed in between, this stop is another one.
asked=/consul/pod/restart
request=$(cat $asked 2>/dev/null) || request=
case $request in
  "$(cat /tmp/restart 2>/dev/null)") request= ;;
  image-*) ;;
  *) request= ;;
esac
if [ -n "$request" ] && [ $(($(date +%s) - $(date -r $asked +%s))) -le 60 ]; then
  kill -KILL "$(cat /tmp/pid)" >/dev/null 2>&1 & # in the background, so that the hook ends well
  exit 0
fi

# Meanwhile every node takes the server out of the Services. One that was removed from the
# peers before, as where the cluster gets smaller, forgets the leader soon, and must go
# before it refuses what clients ask. It ends by itself: the leader takes back a member that
# does not leave, and one that is killed as a peer again may take the quorum with it.
case $(status peers || echo "\"$POD_IP:") in
  *"\"$POD_IP:"* | *"\"[$POD_IP]:"*) sleep 3 ;;
  *)
    sleep 1
    consul leave -token-file=/tmp/token >/dev/null 2>&1
    exit 0
    ;;
esac

# leaving prints the IPs of the servers that leave at this moment, or have left.
leaving() {
  consul members -token-file=/tmp/token 2>/dev/null | while read -r _ address status _; do
    case $status in leaving | left) echo "${address%:*}" | tr -d '[]' ;; esac
  done
}

declared=$(cat /consul/config/servers 2>/dev/null) || declared=1
if [ "$declared" -gt 2 ] && [ ! -e /consul/config/former-servers ]; then
  # Servers that stop at the same moment take turns. The highest ordinal is first: those that
  # stay are the first that come back when the StatefulSet was scaled down by hand.
  # The leader is last. A leader that leaves removes itself from the peers: if no follower is left
  # to commit that, it is on its disk only, and the others cannot elect a leader without it.
  turn=$((declared - 1 - ${POD_NAME##*-}))
  case $(status leader) in *"\"$POD_IP:"* | *"\"[$POD_IP]:"*) turn=$declared ;; esac
  [ "$turn" -le 0 ] || sleep "$turn"
  left=0 is_peer=
  gone=" $(leaving | tr '\n' ' ')"
  for peer in $(status peers | tr -d '[]"' | tr ',' ' '); do
    ip=${peer%:*}
    case $gone in *" $ip "*) continue ;; esac
    if [ "$ip" = "$POD_IP" ]; then is_peer=1; else left=$((left + 1)); fi
  done
  if [ -n "$is_peer" ] && [ "$left" -le $((declared / 2)) ]; then
    sleep "$1"
    kill -INT "$(cat /tmp/pid)" # on which a server ends without leaving
    exit 0
  fi
fi

consul leave -token-file=/tmp/token >/dev/null 2>&1 &

# A single server stays its own peer: then Consul ends by itself. Where the agent
# does not leave, the stop signal of Kubernetes makes it try once more.
tries=0
while :; do
  [ $tries -lt 50 ] || exit 0
  tries=$((tries + 1))
  known=$(status peers) || exit 0
  case $known in
    *"\"$POD_IP:"* | *"\"[$POD_IP]:"*) sleep 0.1 ;;
    *)
      sleep 0.2 # the others hear of it by gossip
      sleep "$1"
      break
      ;;
  esac
done
# In the background, so that the hook ends well, and before the stop signal of Kubernetes,
# on which Consul refuses requests. What is on disk is whole at any moment.
kill -KILL "$(cat /tmp/pid)" >/dev/null 2>&1 &
