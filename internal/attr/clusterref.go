package attr

import (
	"context"
	"fmt"

	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// ClusterID validates a reference to a cluster, "<namespace>/<name>".
func ClusterID() validator.String { return clusterID{} }

// CheckClusterID returns an error that says why a text is not a reference to a cluster.
func CheckClusterID(text string) error {
	_, _, err := server.ParseID(text)
	return err
}

type clusterID struct{}

// Description implements validator.String.
func (clusterID) Description(context.Context) string {
	return "the ID of a cluster, \"<namespace>/<name>\""
}

// MarkdownDescription implements validator.String.
func (v clusterID) MarkdownDescription(ctx context.Context) string { return v.Description(ctx) }

// ValidateString implements validator.String.
func (clusterID) ValidateString(_ context.Context, req validator.StringRequest, resp *validator.StringResponse) {
	if req.ConfigValue.IsNull() || req.ConfigValue.IsUnknown() {
		return
	}
	if err := CheckClusterID(req.ConfigValue.ValueString()); err != nil {
		resp.Diagnostics.Append(Error(req.Path, "Not a cluster ID", err.Error()+". Use the id attribute of a consul_k8s_cluster."))
	}
}

// NotRestored is the diagnostic of consulacl.ErrNotRestored.
func NotRestored(cluster string) diag.Diagnostic {
	return Error(
		path.Root("cluster"),
		"The cluster is not restored yet",
		fmt.Sprintf(
			"Cluster %s starts with a backup (restore_from) that could not be restored. See the warning of consul_k8s_cluster, fix the problem, "+
				"and apply again.",
			cluster,
		),
	)
}

// DNSLabel validates a name that Kubernetes uses as a DNS label (RFC 1123) of at
// most max characters. A name that also becomes the name of a Service must start
// with a letter.
func DNSLabel(maxLength int, service bool) validator.String {
	return dnsLabel{max: maxLength, service: service}
}

type dnsLabel struct {
	max     int
	service bool
}

// Description implements validator.String.
func (v dnsLabel) Description(context.Context) string {
	return fmt.Sprintf("at most %d lower-case letters, digits, and hyphens", v.max)
}

// MarkdownDescription implements validator.String.
func (v dnsLabel) MarkdownDescription(ctx context.Context) string { return v.Description(ctx) }

// ValidateString implements validator.String.
func (v dnsLabel) ValidateString(ctx context.Context, req validator.StringRequest, resp *validator.StringResponse) {
	if req.ConfigValue.IsNull() || req.ConfigValue.IsUnknown() {
		return
	}
	name := req.ConfigValue.ValueString()
	problems := validation.IsDNS1123Label(name)
	if v.service {
		problems = validation.IsDNS1035Label(name)
	}
	if len(name) > v.max {
		problems = append(problems, fmt.Sprintf("must be no more than %d characters", v.max))
	}
	if len(problems) > 0 {
		resp.Diagnostics.Append(Error(req.Path, "Invalid name",
			fmt.Sprintf("Kubernetes would refuse %q: %s. Use %s.", name, problems[0], v.Description(ctx))))
	}
}
