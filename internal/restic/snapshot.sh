# Takes and verifies a snapshot of the servers. Only then is it left for the next container,
# unpacked: in what is compressed restic does not find what it has already.
work=$1
version=$2
address=$3
result=$4
token=${5:-}

cd "$work"
save "$address" taken "$token"
mkdir -p backup
mv taken.json backup/info.json
gunzip -c taken >backup/consul.tar
rm taken

index=$(number backup/info.json Index)
[ "$index" -gt 0 ] || fail "the snapshot has no index"
echo "$version" >version
echo "$index" >index
printf '{"index":%s,"counts":{%s}}' "$index" "$(counts backup/info.json)" >"$result"
