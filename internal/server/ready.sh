# Whether the leader answers through this server, where request limits are enforced. They
# do not apply to this question (Operator.RaftGetConfiguration in
# agent/rpc/middleware/rate_limit_mappings.go of Consul), which every server forwards to
# the leader: an overload must not take all servers out of the Service. A leader that
# refuses because there is no token has answered.
set -u
url=http://127.0.0.1:8500/v1/operator/raft/configuration
if command -v wget >/dev/null 2>&1; then
  answer=$(timeout 4 wget -q -S -O - "$url" 2>&1) && exit 0
elif command -v curl >/dev/null 2>&1; then
  answer=$(curl -s -f -S -m 4 "$url" 2>&1) && exit 0
else
  answer=$(timeout 4 consul operator raft list-peers 2>&1) && exit 0
fi
case $answer in
  *" 403"*) exit 0 ;;
esac
echo "$answer"
exit 1
