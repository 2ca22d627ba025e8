# Whether this server has started: it answers, and has a vote. Until then
# Kubernetes does not count it as ready, so that neither an eviction nor anything
# else that goes by readiness takes the next server away before. Clients lose
# nothing: the others answer.
#
# The agent itself tells, to the token that the init container made for this pod
# alone. Before the cluster's first leader there is nothing to wait for. While
# there is no leader nobody gets a vote, and after two minutes of that the server
# counts as started, because Kubernetes restarts one that never does.
set -u
info=$(consul info -token-file=/tmp/token 2>/dev/null) || exit 1
[ -e /consul/config/established ] || exit 0
echo "$info" | grep -q "Suffrage:Voter ID:[^ ]* Address:\[*$POD_IP\]*:" && exit 0
echo "$info" | grep -q "leader_addr = ." && rm -f /tmp/no-leader && exit 1
[ -s /tmp/no-leader ] || date +%s >/tmp/no-leader
[ $(($(date +%s) - $(cat /tmp/no-leader))) -ge 120 ]
