# A server that lost its data must not come back as the voter it was: it would
# vote with an empty log, and acknowledged writes could be lost. This waits until
# the Raft peers that the other servers name are all among the servers that
# answer, so that none of them can be this server's former self. Autopilot
# removes a failed server from the peers within about half a minute.
#
# A server with data goes straight on. While the cluster has not elected its
# first leader there is nothing to lose, and nobody is waited for.
set -u
[ -d /consul/data/raft ] && exit 0

service=$1
namespace=$2
while :; do
  alive=0
  peers=0
  for ordinal in 0 1 2 3 4 5 6; do
    [ "$service-$ordinal" = "$POD_NAME" ] && continue
    answer=$(timeout 2 wget -q -O - "http://$service-$ordinal.$service.$namespace.svc:8500/v1/status/peers" 2>/dev/null) || continue
    alive=$((alive + 1))
    named=$(echo "$answer" | grep -o '"[^"]*"' | wc -l)
    [ "$named" -gt "$peers" ] && peers=$named
  done
  if [ "$alive" -gt 0 ] || [ ! -e /consul/config/established ]; then
    [ "$peers" -le "$alive" ] && exit 0
    echo "This server has no data. $alive other servers answer and name $peers Raft peers: waiting until the missing ones are removed or back."
  else
    echo "This server has no data, the cluster is established, and no other server answers: waiting for one. Restore the cluster if all data is lost."
  fi
  sleep 2
done
