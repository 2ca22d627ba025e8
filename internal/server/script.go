package server

import _ "embed"

// waitScript keeps a server without data from rejoining as the voter it was.
//
//go:embed await-peer-removal.sh
var waitScript string
