# Lets Consul check an agent configuration before any server gets it, in the directory $1. "consul validate" knows
# keys, types, and combinations. What an agent refuses only when it starts, such as a log level, shows when one
# starts: on the loopback interface, with an empty store, and without servers to join. Exits with 1 if Consul
# refuses the configuration, which are then the last words in the log, and with 3 if that could not be found out.
# It needs nothing but Consul and the shell.
set -u
cd "$1" || exit 3
printf '%s' "$CONFIG" >config.json
printf '%s' "$TRIAL" >trial.json
printf '%s' "$EXTRA" >extra.json
printf '{"pid_file": "%s/pid"}' "$1" >last.json

consul validate -quiet config.json extra.json
case $? in
  0) ;;
  1) exit 1 ;;
  *) exit 3 ;;
esac

{
  consul agent -config-file=trial.json -config-file=extra.json -config-file=last.json
  echo $? >ended
} &
# The agent writes its process ID when all that may refuse a setting has started but its listeners and watches,
# which take milliseconds. To ask Consul for its version takes longer, on a slow machine too.
until [ -e pid ] || [ -e ended ]; do
  sleep 0.2 2>/dev/null || consul version >/dev/null
done
consul version >/dev/null
[ -e ended ] || exit 0
until read -r code <ended; do :; done
[ "$code" -le 2 ] || exit 3 # killed
exit 1
