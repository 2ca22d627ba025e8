# Makes what was fetched an archive as Consul takes it, and verifies it: every record is decoded.
work=$1
index=$2 # 0: any
result=$3

cd "$work/fetched"
gzip -c consul.tar >consul.snap
rm consul.tar
consul snapshot inspect -format=json consul.snap >info.json
found=$(number info.json Index)
[ "$index" = 0 ] || [ "$index" = "$found" ] || fail "the snapshot has the index $found, and was stored as $index"
printf '{"index":%s,"counts":{%s}}' "$found" "$(counts info.json)" >"$result"
