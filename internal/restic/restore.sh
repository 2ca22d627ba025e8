# Restores what was fetched and verified into the servers.
#
# The answer of the servers may be lost although they have restored, and a second restore would take along what was written
# since. So a key is written before: a restore replaces all keys, and it is gone.
work=$1
address=$2
result=$3
token=${4:-}
read -r id </proc/sys/kernel/random/uuid
marker=terraform-provider-consul-k8s/restoring/$id

kv() {
  command=$1
  shift
  consul kv "$command" -http-addr="$address" ${token:+"-token-file=$token"} "$@" 2>"$work/answer"
}

# happened asks whether the servers have restored. The write waits for a restore that is still under way. A token that was good before
# and is unknown now is not in the snapshot.
happened() {
  asked=1
  while :; do
    if kv put "$marker.asked" asked >/dev/null && kv get -keys "$marker" >"$work/keys"; then
      kv delete "$marker.asked" >/dev/null || true
      ! grep -qxF "$marker" "$work/keys"
      return
    fi
    ! grep -q 'ACL not found' "$work/answer" || return 0
    asked=$((asked + 1))
    [ "$asked" -le 10 ] || fail "The answer to the restore was lost, and the servers do not tell whether they have restored: $(cat "$work/answer")"
    sleep 3
  done
}

tries=1
until kv put "$marker" restoring >/dev/null; do
  tries=$((tries + 1))
  [ "$tries" -le 5 ] || fail "Nothing was restored, because the servers take no key: $(cat "$work/answer")"
  sleep 3
done
trap 'kv delete "$marker" >/dev/null || true' EXIT

tries=1
until consul snapshot restore -http-addr="$address" ${token:+"-token-file=$token"} "$work/fetched/consul.snap"; do
  ! happened || break
  tries=$((tries + 1))
  [ "$tries" -le 3 ] || exit 1
  sleep 3
done
trap - EXIT
printf '{"time":"%s"}' "$(date -u +%Y-%m-%dT%H:%M:%SZ)" >"$result"
