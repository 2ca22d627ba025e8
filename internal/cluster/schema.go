package cluster

import (
	"context"

	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
)

// Schema implements resource.Resource.
func (r *Resource) Schema(ctx context.Context, _ resource.SchemaRequest, resp *resource.SchemaResponse) {
	attributes := map[string]schema.Attribute{
		"id":           idAttribute(),
		"name":         nameAttribute(),
		"namespace":    namespaceAttribute(),
		"storage":      storageAttribute(),
		"resources":    resourcesAttribute(),
		"placement":    placementAttribute(),
		"service":      serviceAttribute(),
		"update":       updateAttribute(),
		"jobs":         jobsAttribute(),
		"adopt":        adoptAttribute(),
		"restore_from": restoreFromAttribute(),
		"recovery":     recoveryAttribute(),
		"gossip":       gossipAttribute(),
		"tls":          tlsAttribute(),
		"extra_config": extraConfigAttribute(),

		"security_context":   securityContextAttribute(),
		"image_pull_secrets": imagePullSecretsAttribute(),
		"service_account":    serviceAccountAttribute(),
		"extra_pod":          extraPodAttribute(),

		"labels":                labelsAttribute(),
		"annotations":           annotationsAttribute(),
		"namespace_labels":      namespaceLabelsAttribute(),
		"namespace_annotations": namespaceAnnotationsAttribute(),
		"pod_labels":            podLabelsAttribute(),
		"pod_annotations":       podAnnotationsAttribute(),

		"timeouts": timeoutsAttribute(ctx),

		"running_version":    runningVersionAttribute(),
		"http_address":       httpAddressAttribute(),
		"https_address":      httpsAddressAttribute(),
		"dns_address":        dnsAddressAttribute(),
		"ca_certificate":     caCertificateAttribute(),
		"certificate_expiry": certificateExpiryAttribute(),
		"ready":              readyAttribute(),
		"rollout":            rolloutAttribute(),
		"drift":              driftAttribute(),
		"upgrade_snapshot":   upgradeSnapshotAttribute(),
		"origin":             originAttribute(),
	}
	for _, p := range new(model).plain() {
		attributes[p.name] = p.attribute()
	}
	resp.Schema = schema.Schema{
		MarkdownDescription: "Manages a cluster of Consul servers in Kubernetes: a StatefulSet with its configuration, Services, " +
			"ServiceAccount, and PodDisruptionBudget.\n\n" +
			"A create waits until every server is a healthy voter and one of them is the leader. If that takes longer than the create timeout, " +
			"the resource is not tainted. Instead, " +
			"the create ends with a warning that explains what is missing, `ready` is false, and the next apply resumes it.",
		Attributes: attributes,
	}
}

// nested returns the path of a nested attribute.
func nested(names ...string) path.Path {
	p := path.Root(names[0])
	for _, n := range names[1:] {
		p = p.AtName(n)
	}
	return p
}
