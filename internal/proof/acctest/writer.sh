# Writes one key after another, each on a new connection, and prints the result of each write.
#
# SCRIPT contains this script. For each connection, nc runs it again with KEY set: it sends the request, and keeps its side open
# until the answer arrives. Each write reads the token again, and no argument contains it.
if [ -n "${KEY-}" ]; then
  printf 'PUT /v1/kv/written/%s HTTP/1.1\r\nHost: consul\r\nConnection: close\r\nContent-Length: %s\r\n' "$KEY" "${#KEY}"
  read -r token 2>/dev/null </token/token
  [ -z "${token-}" ] || printf 'X-Consul-Token: %s\r\n' "$token"
  printf '\r\n%s' "$KEY"
  timeout 20 cat >&2
  exit
fi
n=0
tokens=0
trap 'exit 0' TERM
while :; do
  if read -r token 2>/dev/null </token/token || [ -n "$token" ]; then
    if [ "$token" != "${last-}" ]; then
      last=$token
      tokens=$((tokens + 1))
      echo "token $tokens"
    fi
  fi
  n=$((n + 1))
  read -r started rest </proc/uptime
  answer=$(KEY=$n nc -w 10 "$ADDRESS" 8500 -e /bin/sh -c "$SCRIPT" 2>&1)
  read -r ended rest </proc/uptime
  case $answer in
    "HTTP/1.1 200 "*true) echo "ok $n $started $ended" ;;
    *) echo "failed $n, $(date +%T): $answer" | tr '\r\n' '  ' && echo ;;
  esac
  sleep 0.1
done
