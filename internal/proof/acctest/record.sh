#!/bin/sh
# Runs the program that the file "path" beside this script names, and keeps what it prints, the state, and the plan in a folder
# run-* of the folder above.
bin=${0%/*}
run=$(mktemp -d "$bin/../run-XXXXXXXXXX")
{ "$(cat "$bin/path")" "$@"; echo $? >"$run/code"; } | tee "$run/printed"
for f in terraform.tfstate terraform.tfstate.backup tfplan plan; do
	if [ -f "$f" ]; then cp "$f" "$run/"; fi
done
exit "$(cat "$run/code")"
