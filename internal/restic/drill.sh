# Restores what was fetched into a server that lives as long as this container, and compares what
# that has with what the snapshot had. The kinds that are compared are those that a server does not
# change by itself, or not yet: nodes whose agents are not there are forgotten with their services
# and checks (the kind Register) when the leader next looks for them, every 60 seconds from the
# moment that it leads (ReconcileInterval, github.com/hashicorp/consul/agent/consul/config.go).
work=$1
result=$2
datacenter=$3
sentinel=$4 # a key that must be there, "" for none
shift 4     # what is left are flags of the agent

started=$(date +%s)
consul agent -server -bootstrap-expect=1 -node=drill "-datacenter=$datacenter" "-data-dir=$work/data" -bind=127.0.0.1 -client=127.0.0.1 \
  -hcl='ports { dns = -1 grpc = -1 grpc_tls = -1 serf_wan = -1 } connect { enabled = false } peering { enabled = false }' "$@" >"$work/agent.log" 2>&1 &
agent=$!
export CONSUL_HTTP_ADDR=http://127.0.0.1:8500
waited=0
leads=$started
until consul kv put drill/drill drill >/dev/null 2>&1; do
  kill -0 $agent 2>/dev/null || { tail -n 3 "$work/agent.log" >&2 && fail "the server of the drill does not start"; }
  waited=$((waited + 1))
  [ $waited -le 60 ] || fail "the server of the drill has no leader"
  leads=$(date +%s) # at the earliest
  sleep 1
done
consul snapshot restore "$work/fetched/consul.snap" >/dev/null || fail "the snapshot cannot be restored"
save "$CONSUL_HTTP_ADDR" "$work/after"
of() { counts "$1" | tr , '\n' | sed -n "s/^\"$2\"://p"; }
services=
[ $(($(date +%s) - leads)) -ge 50 ] || services=Register
for kind in $services KVS ACLToken ACLPolicy ACLRole ACLAuthMethod ACLBindingRule ConfigEntry PreparedQuery; do
  had=$(of "$work/fetched/info.json" $kind)
  has=$(of "$work/after.json" $kind)
  least=${had:-0}
  # Sessions of nodes that are not there end, and may take the keys along that they hold.
  if [ $kind = KVS ] && [ "$least" -gt 1 ] && [ "$(of "$work/fetched/info.json" Session)" ]; then
    least=1
  fi
  [ "${has:-0}" -ge "$least" ] || fail "of $kind there are ${has:-0} after the restore, and ${had:-0} in the snapshot"
done
[ -z "$sentinel" ] || consul kv get "$sentinel" >/dev/null 2>&1 || fail "the key $sentinel is not there after the restore"
kill $agent
printf '{"time":"%s","seconds":%s,"index":%s,"counts":{%s}}' "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$(($(date +%s) - started))" \
  "$(number "$work/fetched/info.json" Index)" "$(counts "$work/after.json")" >"$result"
