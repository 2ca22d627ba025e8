# Starts an agent that tries to join the server at an address, with the keys of a keyring if one is given, and prints how often it
# has joined.
address=$1
keyring=${2-}

rm -rf /tmp/stranger
mkdir -p /tmp/stranger/serf
: >/tmp/stranger/log
[ -z "$keyring" ] || cp "$keyring" /tmp/stranger/serf/local.keyring
consul agent -data-dir=/tmp/stranger -node=stranger -bind="$POD_IP" -serf-lan-port=8401 -http-port=8599 -dns-port=-1 -grpc-port=-1 \
  -retry-join="$address:8301" -retry-interval=1s >/tmp/stranger/log 2>&1 &
agent=$!
tries=0
while [ $tries -lt 10 ] && ! grep -q "Join cluster completed" /tmp/stranger/log; do
  tries=$((tries + 1))
  sleep 1
done
grep -c "Join cluster completed" /tmp/stranger/log
kill -INT $agent
wait $agent
rm -rf /tmp/stranger
