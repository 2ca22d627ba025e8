# Takes and verifies a snapshot of the servers. Only then is it left for the next container,
# unpacked: in what is compressed restic does not find what it has already.
#
# The leader takes it, and its version is recorded: during an upgrade the servers run different ones.
work=$1
declared=$2 # the version that counts where the leader's cannot be told
address=$3
result=$4
token=${5:-}

cd "$work"
rounds=1
while :; do
  version=$(leads "$address" "$token")
  save "$address" taken "$token"
  [ "$(leads "$address" "$token")" != "$version" ] || break
  rounds=$((rounds + 1))
  [ "$rounds" -le 5 ] || fail "the leader changes again and again"
  sleep 1
done
version=${version:-$declared}
mkdir -p backup
mv taken.json backup/info.json
gunzip -c taken >backup/consul.tar
rm taken

index=$(number backup/info.json Index)
[ "$index" -gt 0 ] || fail "the snapshot has no index"
echo "$version" >version
echo "$index" >index
printf '{"index":%s,"counts":{%s}}' "$index" "$(counts backup/info.json)" >"$result"
