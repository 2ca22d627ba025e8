// Command terraform-provider-consul-k8s serves the provider to Terraform and
// OpenTofu.
package main

import (
	"cmp"
	"context"
	"flag"
	"log"
	"os"
	"runtime/debug"

	"github.com/hashicorp/terraform-plugin-framework/providerserver"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/provider"
)

// version is set by the release build.
var version = "dev"

func main() {
	debugger := flag.Bool("debug", false, "run with support for debuggers such as delve")
	flag.Parse()
	if err := quiet(); err != nil {
		log.Fatal(err)
	}
	if os.Getenv("GOGC") == "" {
		// A plan makes much garbage and keeps little of it: a plan of 300 ACL objects is
		// done in four fifths of the time with fewer collections.
		debug.SetGCPercent(400)
	}
	err := providerserver.Serve(context.Background(), provider.New(version), providerserver.ServeOpts{
		Address: "registry.terraform.io/consul-k8s/consul-k8s",
		Debug:   *debugger,
	})
	if err != nil {
		log.Fatal(err)
	}
}

// quiet keeps the SDK from writing logs that nobody reads: without TF_LOG it traces
// every step of every resource to standard error, where Terraform parses it and
// throws it away.
func quiet() error {
	if os.Getenv("TF_LOG_SDK") != "" {
		return nil
	}
	level := cmp.Or(os.Getenv("TF_LOG_PROVIDER"), os.Getenv("TF_LOG"), "OFF")
	if level == "JSON" { // the level of which is TRACE
		level = "TRACE"
	}
	return os.Setenv("TF_LOG_SDK", level)
}
