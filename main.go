// Command terraform-provider-consul-k8s serves the provider to Terraform and
// OpenTofu.
package main

import (
	"context"
	"flag"
	"log"

	"github.com/hashicorp/terraform-plugin-framework/providerserver"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/provider"
)

// version is set by the release build.
var version = "dev"

func main() {
	debug := flag.Bool("debug", false, "run with support for debuggers such as delve")
	flag.Parse()
	err := providerserver.Serve(context.Background(), provider.New(version), providerserver.ServeOpts{
		Address: "registry.terraform.io/consul-k8s/consul-k8s",
		Debug:   *debug,
	})
	if err != nil {
		log.Fatal(err)
	}
}
