// Command load runs in a pod beside the servers, sends them requests at a steady rate, and can hold a lock (see package
// load). It prints reports as lines of JSON: the progress twice a second, and everything at the end, which SIGTERM
// triggers early.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/proof/load"
)

func main() {
	var o load.Options
	flag.StringVar(&o.URL, "url", "http://consul:8500", "of the servers")
	flag.StringVar(&o.Prefix, "prefix", "written/", "of all keys")
	flag.IntVar(&o.Rate, "rate", 50, "writes a second, and as many reads")
	flag.DurationVar(&o.Timeout, "timeout", 10*time.Second, "of a request")
	flag.StringVar(&o.TokenFile, "token-file", "", "with the token, if there is one")
	flag.StringVar(&o.Lock, "lock", "", "key of a lock to hold, as Vault does")
	last := flag.Duration("for", 30*time.Minute, "how long to send requests at most")
	flag.Parse()
	if o.Rate < 1 || flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, *last)
	defer cancel()
	say := func(r load.Report) {
		if err := json.NewEncoder(os.Stdout).Encode(r); err != nil {
			fmt.Fprintln(os.Stderr, "load: saying how far it is:", err)
		}
	}
	say(load.Run(ctx, o, say))
}
